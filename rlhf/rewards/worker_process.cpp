#include "rlhf/rewards/worker_process.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr size_t kReadAtOnce = size_t{1} << 16;
constexpr int kReadsAtOnce = 8;      // so that a flood cannot keep others from being served
constexpr size_t kWordsKept = 4096;  // bytes of stderr
constexpr size_t kWordsShown = 300;  // bytes of one line of it
constexpr auto kGrace = std::chrono::milliseconds(200);  // from the end of output to the exit
constexpr int kNotStarted = 127;                         // as a shell says of a command
constexpr auto kNap = std::chrono::milliseconds(1);

void check_system(int error, const char* what) {
  if (error == 0) return;
  fail("reward worker", fmt::format("{}: {}.", what, std::strerror(error)),
       "lower reward_workers, or raise the limits of open files and processes.");
}

struct Pipe {
  FileHandle read;
  FileHandle write;
};

/// Above the standard streams: there a pipe would be overwritten on its way into the worker.
FileHandle above_standard(const FileHandle& file) {
  const int moved = fcntl(file.get(), F_DUPFD_CLOEXEC, 3);
  check_system(moved < 0 ? errno : 0, "no file is left for a pipe");
  return FileHandle(moved);
}

Pipe make_pipe() {
  std::array<int, 2> files{};
  check_system(pipe2(files.data(), O_CLOEXEC) < 0 ? errno : 0, "no pipe could be made");
  const FileHandle read(files[0]);
  const FileHandle write(files[1]);
  return {.read = above_standard(read), .write = above_standard(write)};
}

void never_block(const FileHandle& file) {
  check_system(fcntl(file.get(), F_SETFL, O_NONBLOCK) < 0 ? errno : 0, "a pipe cannot be set up");
}

/// What the child of a vfork does: it shares this program's memory until it is the shell, so it calls
/// the system alone.
[[noreturn]] void become_shell(const char* command, int in, int out, int error, pid_t trainer) {
  setpgid(0, 0);
  // A worker that hangs would outlive a trainer that is killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != trainer) _exit(kNotStarted);
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGCHLD})
    ::signal(signal, SIG_DFL);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  close_range(STDERR_FILENO + 1, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execl("/bin/sh", "sh", "-c", command, nullptr);
  _exit(kNotStarted);
}

/// A group of its own, no blocked or ignored signals, and none of this program's files.
pid_t spawn_shell(const std::string& command, const Pipe& in, const Pipe& out, const Pipe& error) {
  const pid_t trainer = getpid();
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of this program runs in the child
  // NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.vfork): a fork would copy the tables of gigabytes
  const pid_t pid = vfork();
  if (pid == 0)
    become_shell(command.c_str(), in.read.get(), out.write.get(), error.write.get(), trainer);
  const int problem = pid < 0 ? errno : 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  check_system(problem, "no process is left for a worker");
  return pid;
}

/// Bytes read, 0 at the end, none where there is nothing to read now.
std::optional<size_t> read_now(const FileHandle& file, std::array<char, kReadAtOnce>& buffer) {
  while (true) {
    const ssize_t got = read(file.get(), buffer.data(), buffer.size());
    if (got >= 0) return static_cast<size_t>(got);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) return 0;
  }
}

/// How the process ended; none while it lives. It stays to be waited for.
std::optional<siginfo_t> end_of(pid_t pid) {
  siginfo_t info{};
  const int problem = waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT);
  if (problem != 0 || info.si_pid == 0) return std::nullopt;
  return info;
}

}  // namespace

std::string printable(std::string_view text, size_t bytes) {
  std::string shown;
  for (const char c : text.substr(0, bytes)) {
    if (c >= ' ' && c <= '~') {
      shown += c;
    } else {
      shown += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return text.size() > bytes ? shown + "…" : shown;
}

void FileHandle::close() {
  if (file_ >= 0) ::close(std::exchange(file_, -1));
}

WorkerProcess::WorkerProcess(const std::string& command) {
  Pipe in = make_pipe();
  Pipe out = make_pipe();
  Pipe error = make_pipe();
  never_block(in.write);
  never_block(out.read);
  never_block(error.read);
  pid_ = spawn_shell(command, in, out, error);
  input_ = std::move(in.write);
  output_ = std::move(out.read);
  errors_ = std::move(error.read);
}

WorkerProcess::~WorkerProcess() {
  // The shell is not waited for yet, so the number of its group cannot be anyone else's.
  kill(-pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

void WorkerProcess::send(std::string line) {
  unsent_ = std::move(line) + '\n';
  unsent_from_ = 0;
  write_some();
}

void WorkerProcess::add_polls(std::vector<pollfd>& polls) const {
  if (input_.open() && !sent())
    polls.push_back({.fd = input_.get(), .events = POLLOUT, .revents = 0});
  if (output_.open()) polls.push_back({.fd = output_.get(), .events = POLLIN, .revents = 0});
  if (errors_.open()) polls.push_back({.fd = errors_.get(), .events = POLLIN, .revents = 0});
}

void WorkerProcess::pump(std::vector<std::string>& lines) {
  write_some();
  read_errors();
  read_output(lines);
}

void WorkerProcess::write_some() {
  while (input_.open() && !sent()) {
    const ssize_t put =
        write(input_.get(), unsent_.data() + unsent_from_, unsent_.size() - unsent_from_);
    if (put >= 0) {
      unsent_from_ += static_cast<size_t>(put);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR) {
      input_.close();  // it reads no more; the end of its output or the time limit says the rest
    }
  }
}

void WorkerProcess::read_output(std::vector<std::string>& lines) {
  std::array<char, kReadAtOnce> buffer;  // NOLINT: filled by read
  for (int i = 0; i < kReadsAtOnce && output_.open() && !flooded(); ++i) {
    const auto got = read_now(output_, buffer);
    if (!got) return;
    if (*got == 0) {
      ended_ = true;
      output_.close();
      return;
    }
    std::string_view rest(buffer.data(), *got);
    for (size_t end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) {
      partial_ += rest.substr(0, end);
      rest.remove_prefix(end + 1);
      flooded_ = partial_.size() > kLongestLine;
      if (flooded_) return;
      lines.push_back(std::exchange(partial_, ""));
    }
    partial_ += rest;
    flooded_ = partial_.size() > kLongestLine;
  }
}

void WorkerProcess::read_errors() {
  std::array<char, kReadAtOnce> buffer;  // NOLINT: filled by read
  for (int i = 0; i < kReadsAtOnce && errors_.open(); ++i) {
    const auto got = read_now(errors_, buffer);
    if (!got) return;
    if (*got == 0) return errors_.close();
    words_.append(buffer.data(), *got);
    if (words_.size() > kWordsKept) words_.erase(0, words_.size() - kWordsKept);
  }
}

bool WorkerProcess::exited() const { return end_of(pid_).has_value(); }

std::string WorkerProcess::end_text() {
  const auto late = std::chrono::steady_clock::now() + kGrace;
  auto end = end_of(pid_);
  while (!end && std::chrono::steady_clock::now() < late) {
    std::this_thread::sleep_for(kNap);
    end = end_of(pid_);
  }
  if (!end) return "it closed its output";
  return fmt::format("{} {}", end->si_code == CLD_EXITED ? "exit code" : "signal", end->si_status);
}

std::string WorkerProcess::last_words(size_t lines) {
  read_errors();
  std::vector<std::string> last;
  std::string_view rest = words_;
  while (!rest.empty() && last.size() < lines) {
    const size_t end = rest.rfind('\n');
    const auto line = end == std::string_view::npos ? rest : rest.substr(end + 1);
    if (!line.empty()) last.insert(last.begin(), printable(line, kWordsShown));
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(0, end);
  }
  return fmt::format("{}", fmt::join(last, " | "));
}

}  // namespace rlhf
