// A judge behind HTTP, asked at servers of this test: what comes back of right, wrong, late and
// absent answers. No test reads a clock: a server that never answers is held until the judge is
// done.
#include "rlhf/rewards/http_judge.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <sys/socket.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "rlhf/core/error.h"
#include "rlhf/rewards/http_url.h"

namespace rlhf {
namespace {

constexpr double kPatient = 60.0;  // seconds: never reached
constexpr double kShort = 0.3;     // for what never ends
constexpr double kAmple = 1.0;     // for what may and may not, on a busy machine

/// Opens once and for all.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

/// Answers POSTs to /judge by a function of the question.
class Service {
 public:
  using Handler = std::function<void(const Json& question, httplib::Response& response)>;

  explicit Service(Handler handler, const std::string& address = "127.0.0.1") : address_(address) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(16); };
    server_.Post("/judge", [this, handler](const auto& request, auto& response) {
      if (request.get_header_value("Content-Type") != "application/json" ||
          request.get_header_value("Host") != authority() || request.target != "/judge?key=a%20b") {
        response.status = 400;
        return;
      }
      handler(Json::parse(request.body), response);
    });
    port_ = server_.bind_to_any_port(address);
    if (port_ <= 0) return;  // no such address on this machine
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();
  }
  ~Service() {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }
  bool listens() const { return port_ > 0; }
  std::string authority() const {
    return fmt::format(fmt::runtime(address_.find(':') == std::string::npos ? "{}:{}" : "[{}]:{}"),
                       address_, port_);
  }
  std::string url() const { return fmt::format("http://{}/judge?key=a%20b", authority()); }

 private:
  std::string address_;
  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
};

/// A listening socket whose connections a function answers, one after another; and its port.
class RawService {
 public:
  explicit RawService(std::function<void(int socket)> answer) {
    listening_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listening_, /*backlog=*/16), 0);
    socklen_t size = sizeof(address);
    getsockname(listening_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer] {
      while (true) {
        const int accepted = accept(listening_, nullptr, nullptr);
        if (accepted < 0) return;
        answer(accepted);
        close(accepted);
      }
    });
  }
  ~RawService() {
    shutdown(listening_, SHUT_RDWR);
    thread_.join();
    close(listening_);
  }
  std::string url() const { return fmt::format("http://127.0.0.1:{}/", port_); }

 private:
  int listening_ = -1;
  int port_ = 0;
  std::thread thread_;
};

Json question(int64_t id, const std::string& completion = "") {
  return {{"id", id}, {"name", "mine"}, {"completion", completion}};
}

std::vector<JudgeAnswer> ask(ExternalJudge& judge, const std::vector<Json>& questions) {
  for (const auto& one : questions) judge.submit(one);
  return judge.collect();
}

void answer_json(httplib::Response& response, const Json& answer) {
  response.set_content(answer.dump(), "application/json");
}

/// The one answer of a service that sends `body`.
JudgeAnswer answer_to(const std::string& body, int status = 200) {
  Service service([&](const Json&, httplib::Response& response) {
    response.status = status;
    response.set_content(body, "application/json");
  });
  const auto answers = ask(*open_http_judge(service.url(), 1, kPatient), {question(7)});
  EXPECT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].id, 7);
  EXPECT_FALSE(answers[0].timed_out);
  return answers[0];
}

void expect_failure(const JudgeAnswer& answer, std::string_view part) {
  EXPECT_EQ(answer.reward, std::nullopt);
  EXPECT_NE(answer.failure.find(part), std::string::npos) << answer.failure;
}

// The reward of a completion of n bytes is n / 8. The first question is answered last of four.
TEST(HttpJudge, AnswersComeInTheOrderOfTheQuestions) {
  Gate others;
  std::atomic<int> answered = 0;
  Service service([&](const Json& asked, httplib::Response& response) {
    if (asked.at("id") == 100) others.wait();
    const auto length = asked.at("completion").get<std::string>().size();
    answer_json(response, {{"id", asked.at("id")}, {"reward", static_cast<double>(length) / 8.0}});
    if (++answered == 3) others.open();
  });
  const auto judge = open_http_judge(service.url(), 4, kPatient);
  for (int round = 0; round < 2; ++round) {
    std::vector<Json> questions;
    for (int64_t i = 0; i < 100; ++i)
      questions.push_back(question(100 + i, std::string(static_cast<size_t>(i), 'x')));
    const auto answers = ask(*judge, questions);
    ASSERT_EQ(answers.size(), 100U);
    for (int64_t i = 0; i < 100; ++i) {
      EXPECT_EQ(answers[static_cast<size_t>(i)].id, 100 + i);
      EXPECT_EQ(answers[static_cast<size_t>(i)].reward, static_cast<double>(i) / 8.0);
      EXPECT_EQ(answers[static_cast<size_t>(i)].failure, "");
    }
  }
  EXPECT_TRUE(judge->collect().empty());
}

// Nobody collects before the questions have arrived, and as many as there are connections, no more,
// are there at once.
TEST(HttpJudge, QuestionsTravelBeforeTheyAreCollected) {
  constexpr int kConnections = 3;
  Gate all_there;
  Gate go_on;
  std::atomic<int> there = 0;
  std::atomic<int> most = 0;
  Service service([&](const Json& asked, httplib::Response& response) {
    const int now = ++there;
    for (int before = most; before < now && !most.compare_exchange_weak(before, now);) {
    }
    if (now == kConnections) all_there.open();
    go_on.wait();
    --there;
    answer_json(response, {{"id", asked.at("id")}, {"reward", 1}});
  });
  const auto judge = open_http_judge(service.url(), kConnections, kPatient);
  for (int64_t i = 0; i < 20; ++i) judge->submit(question(i));
  all_there.wait();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // a fourth would have come by now
  go_on.open();
  for (const auto& answer : judge->collect()) EXPECT_EQ(answer.reward, 1.0);
  EXPECT_EQ(most, kConnections);
}

// The service compares the header Host, in which the address has brackets.
TEST(HttpJudge, AnAddressMayBeOfIpv6) {
  Service service(
      [](const Json& asked, httplib::Response& response) {
        answer_json(response, {{"id", asked.at("id")}, {"reward", 1}});
      },
      "::1");
  if (!service.listens()) GTEST_SKIP() << "this machine has no ::1";
  const auto answer = ask(*open_http_judge(service.url(), 1, kPatient), {question(0)}).at(0);
  EXPECT_EQ(answer.failure, "");
  EXPECT_EQ(answer.reward, 1.0);
}

TEST(HttpJudge, ReadsEveryKindOfAnswer) {
  EXPECT_EQ(answer_to(R"({"id": 7, "reward": -2.5, "more": []})").reward, -2.5);
  const auto none = answer_to(R"({"id": 7, "reward": null})");
  EXPECT_EQ(none.reward, std::nullopt);
  EXPECT_EQ(none.failure, "");
  EXPECT_EQ(answer_to(R"({"id": 7, "error": "no such unit"})").failure, "no such unit");
  EXPECT_EQ(answer_to(R"({"id": 7, "reward": 1, "error": {"a": 1}})").failure, R"({"a":1})");
}

TEST(HttpJudge, RefusesWrongAnswers) {
  expect_failure(answer_to("try later", 503), R"(status 503: "try later")");
  expect_failure(answer_to(R"({"id": 7, "reward": 1})", 201), "status 201");
  expect_failure(answer_to("<html>"), R"(a JSON object was expected, got "<html>")");
  expect_failure(answer_to("\xff"), "a JSON object was expected");
  expect_failure(answer_to("[1]"), "a JSON object was expected");
  expect_failure(answer_to(""), "a JSON object was expected");
  expect_failure(answer_to(R"({"id": 8, "reward": 1})"), "id 7 was expected");
  expect_failure(answer_to(R"({"reward": 1})"), "id 7 was expected");
  expect_failure(answer_to(R"({"id": 7.0, "reward": 1})"), "id 7 was expected");
  expect_failure(answer_to(R"({"id": 7})"), "`reward` or `error` was expected");
  expect_failure(answer_to(R"({"id": 7, "reward": "0.5"})"), "a number or null was expected");
  expect_failure(answer_to(R"({"id": 7, "reward": true})"), "a number or null was expected");
  expect_failure(answer_to(R"({"id": 7, "reward": NaN})"), "a JSON object was expected");
  expect_failure(answer_to(R"({"id": 7, "reward": 1e999})"), "a JSON object was expected");
  expect_failure(answer_to(std::string((size_t{1} << 20) + 1, ' ')), "more than 1048576 bytes");
}

// One service never answers two of the questions; the others have theirs, and so do the next ones.
TEST(HttpJudge, GivesUpWhatIsLate) {
  Gate done;
  Service service([&](const Json& asked, httplib::Response& response) {
    if (asked.at("completion") == "slow") done.wait();
    answer_json(response, {{"id", asked.at("id")}, {"reward", 1}});
  });
  const auto judge = open_http_judge(service.url(), 1, kAmple);
  const auto answers =
      ask(*judge, {question(0), question(1, "slow"), question(2), question(3, "slow")});
  ASSERT_EQ(answers.size(), 4U);
  for (const size_t late : {1U, 3U}) {
    EXPECT_TRUE(answers[late].timed_out);
    expect_failure(answers[late], "timed out after 1 s");
    EXPECT_EQ(answers[late - 1].reward, 1.0);
    EXPECT_EQ(answers[late - 1].failure, "");
  }
  EXPECT_EQ(ask(*judge, {question(1)}).at(0).reward, 1.0);
  done.open();
}

// A byte now and then keeps every single read within its limit, in the header and in the body.
TEST(HttpJudge, GivesUpWhatDrips) {
  for (const std::string start :
       {"HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"}) {
    std::atomic<bool> done = false;
    RawService service([&](int socket) {
      send(socket, start.data(), start.size(), MSG_NOSIGNAL);
      while (!done && send(socket, "x", 1, MSG_NOSIGNAL) == 1)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    });
    const auto judge = open_http_judge(service.url(), 1, kShort);
    const auto answers = ask(*judge, {question(0), question(1)});
    done = true;
    ASSERT_EQ(answers.size(), 2U);
    EXPECT_TRUE(answers[0].timed_out);
    EXPECT_TRUE(answers[1].timed_out);
    EXPECT_EQ(answers[1].failure, "timed out after 0.3 s");
  }
}

TEST(HttpJudge, AServiceThatIsNotThereFailsTheItem) {
  const std::string url = Service([](const Json&, httplib::Response&) {}).url();  // gone by now
  const auto judge = open_http_judge(url, 2, kPatient);
  const auto answers = ask(*judge, {question(0), question(1)});
  ASSERT_EQ(answers.size(), 2U);
  for (const auto& answer : answers) {
    expect_failure(answer, "no connection");
    EXPECT_FALSE(answer.timed_out);
  }
}

// 8 MB are more than the sockets' buffers hold: the first question is cut off while it is written,
// the second when it has been.
TEST(HttpJudge, AServiceThatHangsUpFailsTheItem) {
  RawService service([](int socket) {
    char byte = 0;
    recv(socket, &byte, 1, 0);
  });
  const auto judge = open_http_judge(service.url(), 1, kPatient);
  const auto answers = ask(*judge, {question(0, std::string(8000000, 'x')), question(1)});
  ASSERT_EQ(answers.size(), 2U);
  for (const auto& answer : answers) {
    expect_failure(answer, "the connection ended");
    EXPECT_FALSE(answer.timed_out);
  }
}

// The service answers when the judge is gone.
TEST(HttpJudge, MayBeDroppedWithQuestionsUnderWay) {
  Gate arrived;
  Gate done;
  Service service([&](const Json&, httplib::Response&) {
    arrived.open();
    done.wait();
  });
  auto judge = open_http_judge(service.url(), 2, kPatient);
  for (int64_t i = 0; i < 5; ++i) judge->submit(question(i));
  arrived.wait();
  judge.reset();
  done.open();
}

TEST(HttpJudge, SpeaksTlsOrSaysThatItCannot) {
#ifdef CPPHTTPLIB_OPENSSL_SUPPORT
  Service service([](const Json&, httplib::Response&) {});  // which does not
  const auto judge = open_http_judge("https://" + service.authority() + "/", 1, kPatient);
  expect_failure(ask(*judge, {question(0)}).at(0), "SSL");
#else
  EXPECT_THROW(open_http_judge("https://localhost/", 1, kPatient), UserError);
#endif
}

TEST(HttpUrl, IsTakenApart) {
  const auto full = read_http_url("http://judge.example:8080/a/b?c=d");
  EXPECT_FALSE(full.secure);
  EXPECT_EQ(full.host, "judge.example");
  EXPECT_EQ(full.port, 8080);
  EXPECT_EQ(full.path, "/a/b?c=d");
  const auto bare = read_http_url("https://localhost");
  EXPECT_TRUE(bare.secure);
  EXPECT_EQ(bare.port, 443);
  EXPECT_EQ(bare.path, "/");
  EXPECT_EQ(read_http_url("http://h?q").path, "/?q");
  EXPECT_EQ(read_http_url("http://h").port, 80);
  const auto six = read_http_url("http://[fe80::1]:65535/");
  EXPECT_EQ(six.host, "fe80::1");
  EXPECT_EQ(six.port, 65535);
  EXPECT_EQ(read_http_url("http://[::1]").port, 80);
}

TEST(HttpUrl, OrRefused) {
  for (const char* url : {"",
                          "localhost:80",
                          "ftp://h/",
                          "http://",
                          "http:///path",
                          "http://h:0/",
                          "http://h:65536/",
                          "http://h:/",
                          "http://h:99999999999999999999/",
                          "http://h:8x/",
                          "http://user@h/",
                          "http://h/a b",
                          "http://h/\xc3\xa9",
                          "http://h/#top",
                          "http://a b/",
                          "http://[::1/",
                          "http://[]/",
                          "http://[::1]80/",
                          "http://[localhost]/",
                          "http://::1/",
                          "HTTP://h/"}) {
    try {
      open_http_judge(url, 1, kPatient);
      ADD_FAILURE() << url;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(fmt::format("got \"{}\"", url)), std::string::npos)
          << error.what();
    }
  }
}

}  // namespace
}  // namespace rlhf
