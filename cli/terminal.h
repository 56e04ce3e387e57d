// Standard error as people see it: log lines, and below them one line of progress where there is a
// terminal.
#pragma once

#include <string>
#include <string_view>

#include "rlhf/core/log.h"
#include "rlhf/report/progress.h"

namespace rlhf::cli {

/// Writes to standard error. What cannot be written there is lost: a run outlives its reader.
void say(std::string_view text);

/// Writes to standard output. UserError where that fails.
void print_out(std::string_view text);

/// Shows log messages on standard error while it lives; one at a time.
class Terminal {
 public:
  explicit Terminal(LogLevel least = LogLevel::info);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// Whether standard error is a terminal.
  static bool interactive();

  void line(std::string_view text);
  /// Replaces the line of progress; nothing where there is no terminal.
  void progress(const Progress& progress);
  /// The same with any text.
  void status(std::string_view text);

 private:
  void clear();
  bool shown_ = false;
  LogSink previous_;
};

/// Ctrl-C and SIGTERM ask for an end; a second one ends at once, with exit code 130.
void catch_signals();
/// Ctrl-C asks for an end of what goes on, never of the program.
void catch_interrupts();
bool stop_requested();
void forget_stop_request();

}  // namespace rlhf::cli
