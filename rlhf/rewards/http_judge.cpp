#include "rlhf/rewards/http_judge.h"

// The library's header is long: this file alone includes it.
#include <httplib.h>
#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "rlhf/core/error.h"
#include "rlhf/rewards/http_url.h"

namespace rlhf {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxBody = size_t{1} << 20;  // an answer is a line
constexpr size_t kShownBytes = 200;
constexpr int kOk = 200;

/// What a service sent, as it can stand in a message.
std::string shown(const std::string& body) {
  return Json(body.substr(0, kShownBytes)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string error_text(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
      return "no connection (refused, or no such host)";
    case httplib::Error::Read:
      return "the connection ended before an answer";
    case httplib::Error::Write:
      return "the connection ended before the question was sent";
    case httplib::Error::SSLServerVerification:
      return "the certificate of the service is not trusted";
    default:
      return "the request failed: " + httplib::to_string(error);
  }
}

/// Reads the body of a response with status 200 into `answer`, whose id is the question's.
void read_answer(const std::string& body, JudgeAnswer& answer) {
  const Json json = Json::parse(body, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    answer.failure = "a JSON object was expected, got " + shown(body);
    return;
  }
  const Json id = json.value("id", Json());
  const Json error = json.value("error", Json());
  if (!id.is_number_integer() || id != Json(answer.id)) {
    answer.failure =
        fmt::format("the answer to id {} was expected, got id {}", answer.id, shown(id.dump()));
  } else if (!error.is_null()) {
    answer.failure = error.is_string() ? error.get<std::string>() : error.dump();
  } else if (!json.contains("reward")) {
    answer.failure = "`reward` or `error` was expected, got " + shown(body);
  } else if (const Json& reward = json.at("reward"); reward.is_number()) {
    answer.reward = reward.get<double>();
  } else if (!reward.is_null()) {
    answer.failure = "a number or null was expected as reward, got " + shown(reward.dump());
  }
}

/// One question and what became of it.
struct Item {
  std::string body;
  JudgeAnswer answer;
  bool answered = false;
  Clock::time_point due{};  ///< set when it is sent
};

/// Threads that end when no question waits. One whose question is overdue is replaced at once and
/// ends when its request does.
class HttpJudge final : public ExternalJudge {
 public:
  HttpJudge(const std::string& url, int64_t connections, double timeout)
      : url_(read_http_url(url)), connections_(connections), timeout_(timeout) {
    check(connections >= 1, "reward_funcs", "one connection or more was expected, got {}.",
          connections);
    check(timeout > 0.0 && std::isfinite(timeout), "reward_funcs",
          "a positive number of seconds was expected, got {}.", timeout);
#ifndef CPPHTTPLIB_OPENSSL_SUPPORT
    if (url_.secure) {
      throw UserError(
          "reward_funcs",
          fmt::format("an address with http:// was expected, got \"{}\": the program "
                      "was built without TLS.",
                      url),
          "build with a cpp-httplib that has OpenSSL, or put a proxy on this machine in "
          "front of the service.");
    }
#endif
  }

  ~HttpJudge() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const auto& worker : workers_) {
        if (worker.client != nullptr) worker.client->stop();
      }
    }
    for (auto& worker : workers_) worker.thread.join();
  }

  void submit(Json question) override {
    auto item = std::make_shared<Item>();
    item->answer.id = question.at("id").get<int64_t>();
    item->body = question.dump(-1, ' ', false, Json::error_handler_t::replace);
    const std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
    start_workers();
  }

  bool settle(const std::function<bool()>& should_stop) override {
    std::unique_lock lock(mutex_);
    while (const auto due = next_due()) {
      changed_.wait_until(lock, std::min(*due, Clock::now() + kAsksEvery));
      give_up_overdue();
      if (should_stop && should_stop()) return false;
    }
    return true;
  }

  std::vector<JudgeAnswer> collect() override {
    settle({});
    std::unique_lock lock(mutex_);
    std::vector<JudgeAnswer> answers;
    for (const auto& item : items_) answers.push_back(std::move(item->answer));
    items_.clear();
    next_ = 0;
    join_ended(lock);
    return answers;
  }

 private:
  struct Worker {
    std::thread thread;
    httplib::ClientImpl* client = nullptr;  ///< while it asks
    bool ended = false;
  };

  /// The next question, now under way.
  std::shared_ptr<Item> take() {
    auto item = items_[next_++];
    item->due = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout_);
    changed_.notify_all();
    return item;
  }

  void start_workers() {
    while (active_ < connections_ && next_ < items_.size()) {
      auto& worker = workers_.emplace_back();
      worker.thread = std::thread([this, &worker, item = take()] { work(worker, item); });
      ++active_;
    }
  }

  void work(Worker& worker, std::shared_ptr<Item> item) {
    // A service that hangs up must be an error of the request, not SIGPIPE; and all other signals
    // are for the program's own threads.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    while (true) {
      JudgeAnswer answer = ask(worker, *item);
      const std::lock_guard lock(mutex_);
      const bool given_up = item->answered;
      if (!given_up) {
        item->answer = std::move(answer);
        item->answered = true;
        changed_.notify_all();
      }
      if (given_up || stopping_ || next_ == items_.size()) {
        if (!given_up) --active_;
        worker.ended = true;
        return;
      }
      item = take();
    }
  }

  std::unique_ptr<httplib::ClientImpl> new_client() const {
#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
    if (url_.secure) return std::make_unique<httplib::SSLClient>(url_.host, url_.port);
#endif
    return std::make_unique<httplib::ClientImpl>(url_.host, url_.port);
  }

  JudgeAnswer ask(Worker& worker, const Item& item) {
    JudgeAnswer answer{.id = item.answer.id, .reward = {}, .failure = {}};
    const auto client = new_client();
    client->set_tcp_nodelay(true);  // the header and the body are two writes
    client->set_connection_timeout(timeout_);
    client->set_read_timeout(timeout_);
    client->set_write_timeout(timeout_);
    std::string body;
    httplib::Request request;
    request.method = "POST";
    request.path = url_.path;
    request.headers = {{"Content-Type", "application/json"}};
    request.body = item.body;
    // The limits above are for each read: a service that drips is cut off here.
    request.content_receiver = [&](const char* data, size_t size, uint64_t, uint64_t) {
      body.append(data, size);
      return body.size() <= kMaxBody && Clock::now() < item.due;
    };
    if (!announce(worker, client.get())) return answer;
    const auto result = client->send(request);
    announce(worker, nullptr);
    if (!result &&
        (Clock::now() >= item.due || result.error() == httplib::Error::ConnectionTimeout)) {
      time_out(answer);
    } else if (!result) {
      answer.failure = body.size() > kMaxBody
                           ? fmt::format("an answer of more than {} bytes", kMaxBody)
                           : error_text(result.error());
    } else if (result->status != kOk) {
      answer.failure = fmt::format("status {}: {}", result->status, shown(body));
    } else {
      read_answer(body, answer);
    }
    return answer;
  }

  /// What the destructor has to stop; false where it has begun.
  bool announce(Worker& worker, httplib::ClientImpl* client) {
    const std::lock_guard lock(mutex_);
    worker.client = client;
    return !stopping_;
  }

  void time_out(JudgeAnswer& answer) const {
    answer.failure = fmt::format("timed out after {} s", timeout_.count());
    answer.timed_out = true;
  }

  /// When the first of the questions under way is overdue; none: all have been answered. One that
  /// waits has others under way before it.
  std::optional<Clock::time_point> next_due() const {
    std::optional<Clock::time_point> first;
    for (size_t i = 0; i < next_; ++i) {
      const auto& item = *items_[i];
      if (!item.answered && (!first || item.due < *first)) first = item.due;
    }
    return first;
  }

  void give_up_overdue() {
    const auto now = Clock::now();
    for (size_t i = 0; i < next_; ++i) {
      auto& item = *items_[i];
      if (item.answered || now < item.due) continue;
      time_out(item.answer);
      item.answered = true;
      --active_;
    }
    start_workers();
  }

  void join_ended(std::unique_lock<std::mutex>& lock) {
    std::list<Worker> ended;
    for (auto worker = workers_.begin(); worker != workers_.end();) {
      const auto next = std::next(worker);
      if (worker->ended) ended.splice(ended.end(), workers_, worker);
      worker = next;
    }
    lock.unlock();
    for (auto& worker : ended) worker.thread.join();
  }

  const HttpUrl url_;
  const int64_t connections_;
  const std::chrono::duration<double> timeout_;
  std::mutex mutex_;  ///< of everything below
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Item>> items_;  ///< since the last collect()
  size_t next_ = 0;                           ///< the first that is not under way
  int64_t active_ = 0;                        ///< workers whose question is not overdue
  std::list<Worker> workers_;
  bool stopping_ = false;
};

}  // namespace

std::unique_ptr<ExternalJudge> open_http_judge(const std::string& url, int64_t connections,
                                               double timeout) {
  return std::make_unique<HttpJudge>(url, connections, timeout);
}

}  // namespace rlhf
