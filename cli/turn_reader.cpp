#include "cli/turn_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <string_view>

#include "cli/terminal.h"

namespace rlhf::cli {
namespace {

constexpr int kHistoryLines = 1000;
constexpr std::string_view kSeveral = R"(""")";

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  return begin == std::string_view::npos
             ? std::string_view()
             : text.substr(begin, text.find_last_not_of(" \t") + 1 - begin);
}

}  // namespace

LineEnd read_plain_line(const char* /*prompt*/, std::string& line) {
  if (!std::getline(std::cin, line)) return LineEnd::end_of_input;
  if (line.ends_with('\r')) line.pop_back();
  return LineEnd::newline;
}

struct LineEditor::Impl {
  EditLine* editor = nullptr;
  History* history = nullptr;
  std::FILE* out = stdout;
  const char* prompt = "";
  bool interrupted = false;

  static Impl& of(EditLine* editor) {
    void* data = nullptr;
    el_get(editor, EL_CLIENTDATA, &data);
    return *static_cast<Impl*>(data);
  }
  static char* prompt_of(EditLine* editor) { return const_cast<char*>(of(editor).prompt); }
  static unsigned char on_interrupt(EditLine* editor, int) {
    of(editor).interrupted = true;
    return CC_NEWLINE;
  }
  static unsigned char on_suspend(EditLine*, int) {
    std::raise(SIGTSTP);
    return CC_REDISPLAY;  // the shell has written over the line
  }
};

LineEditor::LineEditor() : impl_(std::make_unique<Impl>()) {
  // libedit reads characters by the locale's rules; text here is UTF-8 whatever the locale.
  if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
  if (::isatty(STDOUT_FILENO) == 0) impl_->out = stderr;
  impl_->editor = el_init("rlhf", stdin, impl_->out, stderr);
  impl_->history = history_init();
  HistEvent event;
  history(impl_->history, &event, H_SETSIZE, kHistoryLines);
  EditLine* const editor = impl_->editor;
  el_set(editor, EL_CLIENTDATA, impl_.get());
  el_set(editor, EL_PROMPT, &Impl::prompt_of);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, history, impl_->history);
  el_set(editor, EL_SIGNAL, 1);  // a signal finds the terminal as it was before
  el_source(editor, nullptr);
  // While a line is edited Ctrl-C is a key, so that the line is given up and nothing else happens.
  // (Without its character alone, `intr=`, libedit forgets it where the terminal has keys of its own.)
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor, EL_ADDFN, "rlhf-interrupt", "Give up the line", &Impl::on_interrupt);
  el_set(editor, EL_BIND, "^C", "rlhf-interrupt", nullptr);
  el_set(editor, EL_ADDFN, "rlhf-suspend", "Stop the program", &Impl::on_suspend);
  el_set(editor, EL_BIND, "^Z", "rlhf-suspend", nullptr);
}

LineEditor::~LineEditor() {
  history_end(impl_->history);
  el_end(impl_->editor);
}

LineEnd LineEditor::read(const char* prompt, std::string& line) {
  impl_->prompt = prompt;
  impl_->interrupted = false;
  int length = 0;
  el_set(impl_->editor, EL_PREP_TERM, 1);  // else the prompt stands before Ctrl-C is a key
  const char* const text = el_gets(impl_->editor, &length);
  if (impl_->interrupted || (text == nullptr && stop_requested())) {
    std::fputs("^C\n", impl_->out);
    std::fflush(impl_->out);
    line = text == nullptr ? "" : std::string(text, static_cast<size_t>(length));
    return LineEnd::interrupted;
  }
  if (text == nullptr || length <= 0) return LineEnd::end_of_input;
  line.assign(text, static_cast<size_t>(length));
  if (line.ends_with('\n')) line.pop_back();
  if (!trimmed(line).empty()) {
    HistEvent event;
    history(impl_->history, &event, H_ENTER, line.c_str());
  }
  return LineEnd::newline;
}

LineEnd TurnReader::ask(const char* prompt, std::string& line) {
  const LineEnd end = source_(prompt, line);
  if (end == LineEnd::newline) ++lines_;
  return end;
}

Turn TurnReader::next() {
  Turn turn;
  std::string line;
  do {
    turn.end = ask("> ", line);
  } while (turn.end == LineEnd::newline && trimmed(line).empty());
  turn.line = lines_;
  turn.text = line;
  if (turn.end != LineEnd::newline || trimmed(line) != kSeveral) return turn;
  turn.several = true;
  turn.text.clear();
  while ((turn.end = ask(". ", line)) == LineEnd::newline && trimmed(line) != kSeveral) {
    turn.text += line + '\n';
  }
  if (!turn.text.empty()) turn.text.pop_back();
  turn.unclosed = turn.end == LineEnd::end_of_input;
  return turn;
}

}  // namespace rlhf::cli
