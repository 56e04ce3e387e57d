// Turns of a conversation as a person types them, or as lines of a pipe.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace rlhf::cli {

enum class LineEnd {
  newline,
  end_of_input,
  interrupted,  ///< Ctrl-C: the line is given up
};

/// Asks for one line, without its end; `prompt` stands before it where a person types.
using LineSource = std::function<LineEnd(const char* prompt, std::string& line)>;

/// Lines of standard input as they come.
LineEnd read_plain_line(const char* prompt, std::string& line);

/// Lines typed at a terminal, with editing and a history of this session (libedit; `~/.editrc` is
/// read). Ctrl-C gives up the line. What is shown goes to standard output, or to standard error
/// where standard output is no terminal.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  LineEnd read(const char* prompt, std::string& line);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct Turn {
  LineEnd end = LineEnd::newline;
  std::string text;       ///< of the line; of all lines, joined, where several were written
  bool several = false;   ///< between two lines of """: never a command
  int64_t line = 0;       ///< the first, from 1
  bool unclosed = false;  ///< the input ended between the two
};

/// Cuts lines into turns: a line each, or what stands between two lines that hold only """. Blank
/// lines between turns are skipped.
class TurnReader {
 public:
  explicit TurnReader(LineSource source) : source_(std::move(source)) {}
  Turn next();

 private:
  LineEnd ask(const char* prompt, std::string& line);

  LineSource source_;
  int64_t lines_ = 0;
};

}  // namespace rlhf::cli
