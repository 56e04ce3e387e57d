// rlhf chat: a conversation in the terminal, or with the lines of a pipe as the user's turns.
#include <unistd.h>

#include <array>
#include <cstdio>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/terminal.h"
#include "cli/turn_reader.h"
#include "rlhf/core/error.h"
#include "rlhf/core/file.h"

namespace rlhf::cli {
namespace {

constexpr int64_t kMaxNewTokens = 1024;  // answers in a conversation end by themselves, as a rule

enum class Verb { help, reset, system, retry, save, exit };

struct Command {
  const char* name;
  Verb verb;
  const char* argument;
  const char* meaning;
};

constexpr std::array<Command, 6> kCommands = {{
    {"/help", Verb::help, "", "this list"},
    {"/reset", Verb::reset, "", "forget all turns, keep the system text"},
    {"/system", Verb::system, "TEXT", "another system text from now on; none without TEXT"},
    {"/retry", Verb::retry, "", "draw the last answer anew"},
    {"/save", Verb::save, "FILE", "append the conversation to a JSONL file, as rlhf sft reads it"},
    {"/exit", Verb::exit, "", "leave (Ctrl-D, or Ctrl-C twice)"},
}};

std::string help() {
  std::string text;
  for (const Command& one : kCommands) {
    text += fmt::format("  {:<16} {}\n",
                        one.argument[0] == '\0' ? std::string(one.name)
                                                : fmt::format("{} {}", one.name, one.argument),
                        one.meaning);
  }
  return text +
         "  \"\"\"              begins and ends a turn of several lines, which is never a command\n"
         "  Ctrl-C           stops the answer";
}

struct Request {
  const Command* command = nullptr;  ///< null: the turn is the user's
  std::string argument;
};

/// UserError where a word behind a slash is no command.
Request parse(const Turn& turn) {
  if (turn.several || !turn.text.starts_with('/')) return {};
  const size_t end = turn.text.find_first_of(" \t");
  const std::string word = turn.text.substr(0, end);
  const size_t begin = end == std::string::npos ? end : turn.text.find_first_not_of(" \t", end);
  std::vector<std::string> names;
  for (const Command& one : kCommands) {
    if (word == one.name) return {&one, begin == std::string::npos ? "" : turn.text.substr(begin)};
    names.emplace_back(one.name);
  }
  const std::string nearest = nearest_name(word, names);
  throw UserError("chat", fmt::format("there is no command {}.", word),
                  (nearest.empty() ? std::string() : fmt::format("did you mean {}? ", nearest)) +
                      "A turn that begins with a slash stands between two lines of \"\"\".");
}

std::string cause_of(Answer::End end) {
  switch (end) {
    case Answer::End::stopped:
      break;
    case Answer::End::length:
      return "cut at max_new_tokens; ";
    case Answer::End::context:
      return "cut, the context is full: /reset begins anew; ";
    case Answer::End::interrupted:
      return "stopped; ";
  }
  return "";
}

std::string statistics(const Answer& answer, int64_t room) {
  std::string text = cause_of(answer.end);
  text += fmt::format("{} tokens", answer.tokens);
  if (answer.tokens > 1 && answer.seconds > 0.0)
    text +=
        fmt::format(", {:.1f} a second", static_cast<double>(answer.tokens - 1) / answer.seconds);
  return text + fmt::format("; prompt {}, {} of it known, {:.2f} s; {} of {} in all",
                            answer.prompt_tokens, answer.reused_tokens, answer.prompt_seconds,
                            answer.prompt_tokens + answer.tokens, room);
}

class Chat {
 public:
  Chat(Conversation& conversation, Terminal& terminal, bool typed)
      : conversation_(conversation), terminal_(terminal), typed_(typed) {}

  /// From a pipe: the first fault ends it.
  int follow(TurnReader& reader) {
    while (!done_) {
      const Turn turn = reader.next();
      if (turn.end == LineEnd::end_of_input && !turn.unclosed) return 0;
      try {
        take(turn);
      } catch (const UserError& error) {
        std::vector<Problem> problems = error.problems();
        for (Problem& problem : problems)
          problem.where = fmt::format("stdin:{}: {}", turn.line, problem.where);
        throw UserError(std::move(problems));
      }
    }
    return 0;
  }

  /// With a person, who is told what was wrong and goes on.
  int talk(TurnReader& reader) {
    catch_interrupts();
    bool leaving = false;  // Ctrl-C was pressed, and nothing said since
    while (!done_) {
      forget_stop_request();
      const Turn turn = reader.next();
      if (turn.end == LineEnd::end_of_input) {
        terminal_.line("");
        return 0;
      }
      if (turn.end == LineEnd::interrupted) {
        if (leaving && turn.text.empty()) return 0;
        leaving = true;
        note("Ctrl-C again, or Ctrl-D, leaves; /help lists commands");
        continue;
      }
      leaving = false;
      forget_stop_request();
      try {
        take(turn);
      } catch (const UserError& error) {
        for (const Problem& problem : error.problems()) terminal_.line(problem.text());
      }
      leaving = stop_requested();
    }
    return 0;
  }

 private:
  void note(const std::string& text) {
    terminal_.line(Terminal::interactive() ? fmt::format("\033[2m{}\033[0m", text) : text);
  }

  void confirm(const std::string& text) {
    if (typed_) note(text);
  }

  void take(const Turn& turn) {
    if (turn.unclosed) {
      throw UserError("chat", "a line of \"\"\" that ends the turn was expected, the input ended.");
    }
    const Request request = parse(turn);
    if (request.command != nullptr) return run(request);
    answered(conversation_.ask(turn.text, print_out, stop_requested));
  }

  void run(const Request& request) {
    const Command& command = *request.command;
    if (command.argument[0] == '\0' && !request.argument.empty()) {
      throw UserError("chat",
                      fmt::format("{} takes nothing, got {}.", command.name, request.argument));
    }
    switch (command.verb) {
      case Verb::help:
        return terminal_.line(help());
      case Verb::reset:
        conversation_.reset();
        return confirm("all turns are forgotten");
      case Verb::system:
        conversation_.set_system(request.argument.empty() ? std::nullopt
                                                          : std::optional(request.argument));
        return confirm(request.argument.empty() ? "no system text from now on"
                                                : "another system text from now on");
      case Verb::retry:
        return answered(conversation_.retry(print_out, stop_requested));
      case Verb::save:
        return save(request.argument);
      case Verb::exit:
        done_ = true;
    }
  }

  void save(const std::string& file) {
    if (file.empty()) throw UserError("chat", "a file was expected.", "write /save FILE.");
    const int64_t cut = conversation_.save(file);
    confirm(fmt::format("one row was added to {}", file));
    if (cut > 0) {
      terminal_.line(
          fmt::format("warning: answers in it that did not end by themselves: {}. A model trained "
                      "on them learns "
                      "to stop there.",
                      cut));
    }
  }

  void answered(const Answer& answer) {
    print_out("\n");
    if (typed_) {
      note(statistics(answer, conversation_.room()));
    } else if (const std::string cause = cause_of(answer.end); !cause.empty()) {
      terminal_.line(
          fmt::format("warning: [chat] an answer was {}{} tokens.", cause, answer.tokens));
    }
  }

  Conversation& conversation_;
  Terminal& terminal_;
  bool typed_;
  bool done_ = false;
};

}  // namespace

int run_chat(std::span<const std::string> args) {
  InferenceOptions inference;
  ConversationOptions options;
  options.flags.options.max_new_tokens = kMaxNewTokens;
  OptionSet set;
  declare_model(set, inference);
  set.group("Conversation");
  set.add("system", options.system, "System text.");
  set.add("chat_template_kwargs", options.chat_template_kwargs,
          "Variables for the chat template, such as enable_thinking: false.");
  declare_sampler(set, options.flags);
  if (!read_arguments(set, args,
                      "Usage: rlhf chat --model DIR [--key value ...]\n\n"
                      "Talks to a model by its chat template, as training and rlhf generate render "
                      "it. Where standard input is no\n"
                      "terminal each of its lines is a turn, and standard output holds the answers "
                      "alone. In the conversation:\n\n" +
                          help(),
                      {"model"})) {
    return 0;
  }
  Terminal terminal;
  const bool typed = ::isatty(STDIN_FILENO) != 0;
  const LoadedModel loaded = load(inference, ModelTask::language_model);
  Conversation conversation(loaded, std::move(options));
  Chat chat(conversation, terminal, typed);
  if (!typed) {
    TurnReader lines(read_plain_line);
    return chat.follow(lines);
  }
  LineEditor editor;
  TurnReader turns(
      [&](const char* prompt, std::string& line) { return editor.read(prompt, line); });
  terminal.line(fmt::format("{} · room for {} tokens · /help lists commands", inference.model,
                            conversation.room()));
  return chat.talk(turns);
}

}  // namespace rlhf::cli
