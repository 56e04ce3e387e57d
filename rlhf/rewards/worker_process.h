// One worker process: a shell command with pipes at its stdin, stdout and stderr, none of which this
// side ever blocks on. The command and all it starts are one process group, so that killing it
// leaves nothing behind.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct pollfd;

namespace rlhf {

/// `text` with all but printable ASCII written as \xNN, at most `bytes` of it.
std::string printable(std::string_view text, size_t bytes);

/// An open file, closed with its owner.
class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int file) : file_(file) {}
  FileHandle(FileHandle&& other) noexcept : file_(std::exchange(other.file_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
  }
  ~FileHandle() { close(); }

  int get() const { return file_; }
  bool open() const { return file_ >= 0; }
  void close();

 private:
  int file_ = -1;
};

class WorkerProcess {
 public:
  /// Longest line a worker may write.
  static constexpr size_t kLongestLine = size_t{1} << 20;

  /// Starts `/bin/sh -c command`. Error where the system has no process or pipe left.
  explicit WorkerProcess(const std::string& command);
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  /// Kills the group and waits for the shell.
  ~WorkerProcess();

  /// Takes a line to be written; nothing else may be waiting.
  void send(std::string line);
  /// Whether all of the last line has left.
  bool sent() const { return unsent_.size() == unsent_from_; }
  /// Tells the worker that nothing follows.
  void close_input() { input_.close(); }

  /// Adds what is worth waiting for.
  void add_polls(std::vector<pollfd>& polls) const;
  /// Writes and reads what can be without waiting, a bounded amount. Complete lines are appended to
  /// `lines`, without their ends.
  void pump(std::vector<std::string>& lines);

  /// It closed its stdout, so no more lines come.
  bool ended() const { return ended_; }
  /// A line was longer than kLongestLine; nothing behind it is read.
  bool flooded() const { return flooded_; }
  /// The shell has exited; its process number stays taken.
  bool exited() const;
  /// `signal 9`, `exit code 3`; waits a little for a process that just closed its output, and says
  /// so where it lives on.
  std::string end_text();
  /// Last lines of its stderr, printable; empty where it wrote none.
  std::string last_words(size_t lines);

 private:
  void write_some();
  void read_output(std::vector<std::string>& lines);
  void read_errors();

  pid_t pid_ = -1;
  FileHandle input_;   // its stdin
  FileHandle output_;  // its stdout
  FileHandle errors_;  // its stderr
  std::string unsent_;
  size_t unsent_from_ = 0;
  std::string partial_;  // a line without its end so far
  std::string words_;    // tail of stderr
  bool ended_ = false;
  bool flooded_ = false;
};

}  // namespace rlhf
