#include "rlhf/rewards/worker_pool.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>
#include <utility>

#include "rlhf/core/error.h"
#include "rlhf/rewards/judge_answer.h"
#include "rlhf/rewards/worker_process.h"

namespace rlhf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kShownBytes = 80;    // of what is not an answer
constexpr size_t kWordsOfAStart = 8;  // lines of stderr
constexpr auto kFarewell = std::chrono::seconds(1);
constexpr auto kNap = std::chrono::milliseconds(2);
constexpr auto kFirstPause = std::chrono::milliseconds(50);  // doubled with every restart in vain

Clock::time_point after(Clock::time_point start, double seconds) {
  constexpr double kForever = 1e8;  // three years: no overflow
  return start + std::chrono::duration_cast<Clock::duration>(
                     std::chrono::duration<double>(std::min(seconds, kForever)));
}

std::string with_words(std::string text, const std::string& words) {
  return words.empty() ? text : fmt::format("{}: {}", text, words);
}

}  // namespace

/// Where questions are handed in and answers out, between the caller's thread and the crew's.
class WorkerPool::Desk {
 public:
  struct Task {
    size_t item;
    int64_t wire_id;
    std::string line;
  };

  Desk() : bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    check(bell_.open(), "reward worker", "no file is left for the pool.");
  }

  void submit(Json question) {
    {
      const std::lock_guard lock(mutex_);
      answers_.push_back({.id = question.at("id").get<int64_t>()});
      question["id"] = ++last_wire_id_;
      lines_.push_back(question.dump(-1, ' ', false, Json::error_handler_t::replace));
      wire_ids_.push_back(last_wire_id_);
      if (!broken_.empty()) fail_waiting_locked(broken_);
    }
    ring();
  }

  bool settle(const std::function<bool()>& should_stop) {
    std::unique_lock lock(mutex_);
    while (
        !all_answered_.wait_for(lock, kAsksEvery, [&] { return answered_ == answers_.size(); })) {
      if (should_stop && should_stop()) return false;
    }
    return true;
  }

  std::vector<JudgeAnswer> collect() {
    std::unique_lock lock(mutex_);
    all_answered_.wait(lock, [&] { return answered_ == answers_.size(); });
    ++batch_;
    next_ = answered_ = 0;
    lines_.clear();
    wire_ids_.clear();
    return std::exchange(answers_, {});
  }

  // For the crew.
  int bell() const { return bell_.get(); }
  void hear() const {
    uint64_t count = 0;
    [[maybe_unused]] const auto got = read(bell_.get(), &count, sizeof count);
  }
  size_t waiting() const {
    const std::lock_guard lock(mutex_);
    return lines_.size() - next_;
  }
  int64_t batch() const {
    const std::lock_guard lock(mutex_);
    return batch_;
  }
  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  /// Only where something waits.
  Task take() {
    const std::lock_guard lock(mutex_);
    const size_t item = next_++;
    return {.item = item, .wire_id = wire_ids_[item], .line = std::move(lines_[item])};
  }
  void answer(size_t item, std::optional<double> reward, std::string failure, bool timed_out) {
    const std::lock_guard lock(mutex_);
    auto& answer = answers_[item];
    answer.reward = reward;
    answer.failure = std::move(failure);
    answer.timed_out = timed_out;
    if (++answered_ == answers_.size()) all_answered_.notify_all();
  }
  void fail_waiting(const std::string& why) {
    const std::lock_guard lock(mutex_);
    fail_waiting_locked(why);
  }
  /// Nothing will be answered any more.
  void break_down(const std::string& why) {
    const std::lock_guard lock(mutex_);
    broken_ = why;
    fail_waiting_locked(why);
  }
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ring();
  }

 private:
  void ring() const {
    const uint64_t one = 1;
    [[maybe_unused]] const auto put = write(bell_.get(), &one, sizeof one);
  }
  void fail_waiting_locked(const std::string& why) {
    for (; next_ < lines_.size(); ++next_, ++answered_) answers_[next_].failure = why;
    if (answered_ == answers_.size()) all_answered_.notify_all();
  }

  FileHandle bell_;
  mutable std::mutex mutex_;
  std::condition_variable all_answered_;
  std::vector<JudgeAnswer> answers_;  // of this batch, in the order of submit()
  std::vector<std::string> lines_;
  std::vector<int64_t> wire_ids_;
  size_t next_ = 0;  // the first that no worker took
  size_t answered_ = 0;
  int64_t last_wire_id_ = 0;
  int64_t batch_ = 0;
  bool closed_ = false;
  std::string broken_;
};

/// The workers and the thread that serves them.
class WorkerPool::Crew {
 public:
  /// Returns when all are ready; the thread starts then.
  Crew(WorkerPoolOptions options, Desk& desk) : options_(std::move(options)), desk_(desk) {
    workers_.resize(static_cast<size_t>(options_.workers));
    for (auto& worker : workers_) start(worker);
    while (none_is(State::absent) && !none_is(State::starting)) serve();
    if (!none_is(State::absent)) throw not_ready();
    thread_ = std::thread([this] { run(); });
  }
  ~Crew() {
    desk_.close();
    if (thread_.joinable()) thread_.join();
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

 private:
  enum class State { absent, starting, idle, busy };
  struct Worker {
    State state = State::absent;
    std::unique_ptr<WorkerProcess> process{};
    Clock::time_point deadline{};  // of its start or its answer
    size_t item = 0;
    int64_t wire_id = 0;
  };
  size_t count(State state) const {
    return static_cast<size_t>(std::count_if(workers_.begin(), workers_.end(),
                                             [&](const Worker& w) { return w.state == state; }));
  }
  bool none_is(State state) const { return count(state) == 0; }

  UserError not_ready() const {
    return {"reward_funcs",
            fmt::format("{}: a worker that says {{\"ready\": true}} was expected of the command "
                        "`{}`, got: {}.",
                        options_.name, options_.command, cause_),
            "run the command by itself: the line must come first, and within the minute."};
  }

  void run();
  void serve();
  void hand_out();
  bool needs_restart(size_t waiting) const;
  void restart_absent(size_t waiting);
  void wait() const;
  void attend(Worker& worker);
  void hear(Worker& worker, const std::string& line);
  void start(Worker& worker);
  void lose(Worker& worker, const std::string& why, bool timed_out = false);
  void lose_late(Worker& worker);
  void say_farewell();

  const WorkerPoolOptions options_;
  Desk& desk_;
  std::vector<Worker> workers_;
  std::string cause_;  // why the last worker was lost
  int restarts_in_vain_ = 0;
  Clock::time_point next_start_{};
  int64_t batch_ = 0;
  std::thread thread_;
};

void WorkerPool::Crew::run() {
  // A worker that is gone must not take this program with it.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  try {
    while (!desk_.closed()) serve();
    say_farewell();
  } catch (const std::exception& error) {
    for (auto& worker : workers_) lose(worker, error.what());
    desk_.break_down(error.what());
  }
}

/// Hands out, waits for something to happen, and attends to it.
void WorkerPool::Crew::serve() {
  hand_out();
  wait();
  desk_.hear();
  for (auto& worker : workers_) attend(worker);
}

void WorkerPool::Crew::hand_out() {
  const int64_t batch = desk_.batch();
  if (std::exchange(batch_, batch) != batch) restarts_in_vain_ = 0;
  size_t waiting = desk_.waiting();
  for (auto& worker : workers_) {
    if (waiting == 0) return;
    if (worker.state != State::idle) continue;
    auto task = desk_.take();
    --waiting;
    worker.state = State::busy;
    worker.item = task.item;
    worker.wire_id = task.wire_id;
    worker.deadline = after(Clock::now(), options_.timeout);
    worker.process->send(std::move(task.line));
  }
  restart_absent(waiting);
}

/// As many as there are questions for, as long as that helps.
bool WorkerPool::Crew::needs_restart(size_t waiting) const {
  return restarts_in_vain_ < kFruitlessRestarts && count(State::starting) < waiting &&
         !none_is(State::absent);
}

void WorkerPool::Crew::restart_absent(size_t waiting) {
  while (needs_restart(waiting) && Clock::now() >= next_start_) {
    start(*std::find_if(workers_.begin(), workers_.end(),
                        [](const Worker& worker) { return worker.state == State::absent; }));
    // The first is made at once, and so is the second: one fault alone costs no time.
    const int before = restarts_in_vain_++;
    next_start_ =
        before == 0 ? Clock::time_point{} : Clock::now() + kFirstPause * (1 << (before - 1));
  }
  if (count(State::absent) == workers_.size() && restarts_in_vain_ == kFruitlessRestarts) {
    desk_.fail_waiting(fmt::format("given up after {} restarts without an answer, the last: {}",
                                   kFruitlessRestarts, cause_));
  }
}

void WorkerPool::Crew::wait() const {
  std::vector<pollfd> polls = {{.fd = desk_.bell(), .events = POLLIN, .revents = 0}};
  std::optional<Clock::time_point> wake;
  const auto wake_at = [&](Clock::time_point time) { wake = wake ? std::min(*wake, time) : time; };
  for (const auto& worker : workers_) {
    if (worker.process) worker.process->add_polls(polls);
    if (worker.state == State::starting || worker.state == State::busy) wake_at(worker.deadline);
  }
  if (needs_restart(desk_.waiting())) wake_at(next_start_);
  int limit = -1;
  if (wake) {
    constexpr int64_t kDay = 86'400'000;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*wake - Clock::now()).count();
    limit = static_cast<int>(std::clamp<int64_t>(left, 0, kDay));
  }
  poll(polls.data(), static_cast<nfds_t>(polls.size()), limit);
}

void WorkerPool::Crew::attend(Worker& worker) {
  if (!worker.process) return;
  std::vector<std::string> lines;
  worker.process->pump(lines);
  for (const auto& line : lines) {
    hear(worker, line);
    if (!worker.process) return;
  }
  if (worker.process->flooded()) {
    lose(worker, fmt::format("an answer was expected, got a line of more than {} bytes",
                             WorkerProcess::kLongestLine));
  } else if (worker.process->ended()) {
    const std::string end = worker.process->end_text();
    const size_t words = worker.state == State::starting ? kWordsOfAStart : 1;
    lose(worker,
         with_words(fmt::format("worker died ({})", end), worker.process->last_words(words)));
  } else if (worker.state != State::idle && Clock::now() >= worker.deadline) {
    lose_late(worker);
  }
}

void WorkerPool::Crew::hear(Worker& worker, const std::string& line) {
  if (worker.state == State::starting) {
    const Json said = Json::parse(line, /*cb=*/nullptr, /*allow_exceptions=*/false);
    if (said.is_object() && said.value("ready", Json()) == true) {
      worker.state = State::idle;
      return;
    }
  } else if (worker.state == State::busy) {
    auto answer = read_judge_answer(line, worker.wire_id);
    if (answer) {
      desk_.answer(worker.item, answer->reward, std::move(answer->failure), /*timed_out=*/false);
      worker.state = State::idle;
      restarts_in_vain_ = 0;
      next_start_ = {};
      return;
    }
  }
  const char* expected = worker.state == State::starting ? "{\"ready\": true}"
                         : worker.state == State::busy   ? "an answer to its question"
                                                         : "silence";
  lose(worker, with_words(fmt::format("{} was expected, got", expected),
                          line.empty() ? "an empty line" : printable(line, kShownBytes)));
}

void WorkerPool::Crew::start(Worker& worker) {
  try {
    worker.process = std::make_unique<WorkerProcess>(options_.command);
    worker.state = State::starting;
    worker.deadline = after(Clock::now(), options_.start_limit);
  } catch (const Error& error) {
    cause_ = error.what();
  }
}

/// The worker is killed; the question that it has gets the failure `why`.
void WorkerPool::Crew::lose(Worker& worker, const std::string& why, bool timed_out) {
  cause_ = why;
  worker.process.reset();
  if (std::exchange(worker.state, State::absent) == State::busy)
    desk_.answer(worker.item, std::nullopt, why, timed_out);
}

void WorkerPool::Crew::lose_late(Worker& worker) {
  if (worker.state == State::busy) {
    lose(worker, fmt::format("timed out after {:g} s", options_.timeout), /*timed_out=*/true);
    return;
  }
  lose(worker, with_words(fmt::format("not ready after {:g} s", options_.start_limit),
                          worker.process->last_words(kWordsOfAStart)));
}

void WorkerPool::Crew::say_farewell() {
  for (auto& worker : workers_) {
    if (worker.process) worker.process->close_input();
  }
  const auto late = Clock::now() + kFarewell;
  const auto lives = [](const Worker& worker) {
    std::vector<std::string> unread;
    if (worker.process) worker.process->pump(unread);  // a full pipe would keep it from leaving
    return worker.process && !worker.process->exited();
  };
  while (std::any_of(workers_.begin(), workers_.end(), lives) && Clock::now() < late)
    std::this_thread::sleep_for(kNap);
  workers_.clear();
}

WorkerPool::WorkerPool(WorkerPoolOptions options)
    : desk_(std::make_unique<Desk>()), crew_(std::make_unique<Crew>(std::move(options), *desk_)) {}

WorkerPool::~WorkerPool() = default;

void WorkerPool::submit(Json question) { desk_->submit(std::move(question)); }

bool WorkerPool::settle(const std::function<bool()>& should_stop) {
  return desk_->settle(should_stop);
}

std::vector<JudgeAnswer> WorkerPool::collect() { return desk_->collect(); }

}  // namespace rlhf
