#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>

#include "rlhf/core/file.h"

namespace rlhf::cli {
namespace {

constexpr int kInterrupted = 130;

std::atomic<int> signals_seen{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int) {
  if (signals_seen.fetch_add(1) > 0) ::_exit(kInterrupted);
}

void on_interrupt(int) { signals_seen.fetch_add(1); }

void catch_signal(int signal, void (*handler)(int), int flags = 0) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, nullptr);
}

int columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

void say(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stderr) != text.size()) std::clearerr(stderr);
}

void print_out(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw_write_error("standard output", errno);
}

Terminal::Terminal(LogLevel least) {
  previous_ = set_log_sink([this, least](LogLevel level, std::string_view message) {
    if (level < least) return;
    line(level == LogLevel::warning ? fmt::format("warning: {}", message) : std::string(message));
  });
}

Terminal::~Terminal() {
  clear();
  set_log_sink(std::move(previous_));
}

bool Terminal::interactive() { return ::isatty(STDERR_FILENO) == 1; }

void Terminal::clear() {
  if (shown_) say("\r\033[K");
  shown_ = false;
}

void Terminal::line(std::string_view text) {
  clear();
  say(fmt::format("{}\n", text));
}

void Terminal::progress(const Progress& progress) {
  status(progress_line(progress, columns() - 1));
}

void Terminal::status(std::string_view text) {
  if (!interactive()) return;
  say(fmt::format("\r\033[K{}", text));
  shown_ = true;
}

void catch_signals() {
  for (const int signal : {SIGINT, SIGTERM}) catch_signal(signal, on_signal);
  ::signal(SIGPIPE, SIG_IGN);
}

// Writing what goes on is not to fail for it.
void catch_interrupts() { catch_signal(SIGINT, on_interrupt, SA_RESTART); }

void forget_stop_request() { signals_seen.store(0); }

bool stop_requested() { return signals_seen.load() > 0; }

}  // namespace rlhf::cli
