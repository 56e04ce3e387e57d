// Workers that answer, die, hang and lie. A right reward of item `id` is id / 2 + 0.25
// (tests/rewards/workers/fake.py).
#include "rlhf/rewards/worker_pool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "rlhf/core/error.h"
#include "rlhf/core/file.h"
#include "worker_case.h"

namespace rlhf {
namespace {

using testing::ask;
using testing::fake;
using testing::question;

constexpr double kSoon = 0.3;     // seconds: for workers that never answer
constexpr double kPlenty = 60.0;  // for those that do, on a busy machine

WorkerPool pool(int64_t workers, double timeout = kPlenty, const std::string& command = "") {
  return WorkerPool({.name = "mine",
                     .command = command.empty() ? fake("usual") : command,
                     .workers = workers,
                     .timeout = timeout});
}

void expect_right(const JudgeAnswer& answer) {
  EXPECT_EQ(answer.failure, "");
  ASSERT_TRUE(answer.reward) << answer.id;
  EXPECT_EQ(*answer.reward, static_cast<double>(answer.id) / 2 + 0.25);
}

void expect_fails(const JudgeAnswer& answer, const std::string& part) {
  EXPECT_FALSE(answer.reward);
  EXPECT_NE(answer.failure.find(part), std::string::npos) << answer.failure;
}

fs::path scratch_file(const std::string& name) {
  const fs::path file =
      fs::temp_directory_path() / ("rlhf_worker_" + std::to_string(getpid()) + name);
  fs::remove(file);
  return file;
}

/// A process that is neither gone nor waiting to be waited for.
bool lives(int64_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string number;
  std::string name;
  std::string state;
  stat >> number >> name >> state;
  return stat && state != "Z" && state != "X";
}

/// Whether it is gone soon: a process that was killed ends when the machine has time for it.
bool dies(int64_t pid) {
  for (int i = 0; i < 500 && lives(pid); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return !lives(pid);
}

TEST(WorkerPool, AnswersInTheOrderOfQuestions) {
  auto three = pool(3);
  EXPECT_TRUE(three.collect().empty());
  for (int64_t batch = 0; batch < 3; ++batch) {
    const auto answers = ask(three, std::vector<std::string>(100, "answer"), 1000 * batch);
    ASSERT_EQ(answers.size(), 100U);
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i].id, 1000 * batch + static_cast<int64_t>(i));
      expect_right(answers[i]);
    }
  }
}

TEST(WorkerPool, NullDoesNotApplyAndAnErrorCostsTheItem) {
  auto one = pool(1);
  const auto answers = ask(one, {"pid", "null", "error", "pid", "step"});
  EXPECT_FALSE(answers[1].reward);
  EXPECT_EQ(answers[1].failure, "");
  EXPECT_FALSE(answers[2].reward);
  EXPECT_EQ(answers[2].failure, "no such \u00e9xample");
  EXPECT_FALSE(answers[2].timed_out);
  EXPECT_EQ(answers[0].reward, answers[3].reward);  // the same process
  EXPECT_EQ(answers[4].reward, 12.0);
}

TEST(WorkerPool, ADeathCostsOneItem) {
  auto two = pool(2);
  const auto answers = ask(two, {"answer", "signal", "answer", "exit", "answer", "answer"});
  expect_fails(answers[1], "worker died (signal 9)");
  EXPECT_EQ(answers[3].failure, "worker died (exit code 3): out of luck");
  EXPECT_FALSE(answers[3].timed_out);
  for (const size_t i : {0U, 2U, 4U, 5U}) expect_right(answers[i]);
}

TEST(WorkerPool, AHangCostsOneItem) {
  auto one = pool(1, /*timeout=*/2.0);
  const auto answers = ask(one, {"answer", "hang", "answer"});
  EXPECT_EQ(answers[1].failure, "timed out after 2 s");
  EXPECT_TRUE(answers[1].timed_out);
  expect_right(answers[0]);
  expect_right(answers[2]);
}

// The fake answers after two seconds; what it says then is never read.
TEST(WorkerPool, ALateAnswerIsNobodys) {
  auto one = pool(1, /*timeout=*/1.0);
  const auto answers = ask(one, {"late", "answer", "late", "answer"});
  for (const size_t i : {0U, 2U}) EXPECT_TRUE(answers[i].timed_out);
  for (const size_t i : {1U, 3U}) expect_right(answers[i]);
}

class NoAnswer : public ::testing::TestWithParam<const char*> {};

TEST_P(NoAnswer, CostsItsItemAndShiftsNoOther) {
  auto one = pool(1);
  const auto answers = ask(one, {"answer", GetParam(), "answer", "answer"});
  expect_fails(answers[1], "an answer to its question was expected, got: ");
  for (const size_t i : {0U, 2U, 3U}) expect_right(answers[i]);
}

INSTANTIATE_TEST_SUITE_P(All, NoAnswer,
                         ::testing::Values("garbage", "list", "empty", "wrong_id", "stale", "no_id",
                                           "no_reward", "text", "true", "nan", "inf"),
                         [](const auto& param) { return std::string(param.param); });

TEST(WorkerPool, GarbageIsShownPrintably) {
  auto one = pool(1);
  const auto answers = ask(one, {"garbage"});
  // "gar", a tab, "bage é " are 11 characters, é two bytes: 68 of 200 y fill the 80 bytes.
  EXPECT_EQ(answers[0].failure,
            "an answer to its question was expected, got: gar\\x09bage \\xc3\\xa9 " +
                std::string(68, 'y') + "…");
}

// Callers may count ids from 1 in every batch; an answer to the last batch's 1 is still not one to
// this batch's.
TEST(WorkerPool, IdsOfAnotherBatchAreNotTaken) {
  auto one = pool(1);
  expect_right(ask(one, {"answer"}, 1)[0]);
  expect_fails(ask(one, {"own_id"}, 1)[0], "was expected, got");
  expect_right(ask(one, {"answer"}, 1)[0]);
}

TEST(WorkerPool, ASecondAnswerReachesNobody) {
  auto one = pool(1);
  for (int64_t i = 0; i < 5; ++i) {
    const auto answers = ask(one, {"twice", "answer"}, 10 * i);
    expect_right(answers[0]);
    if (answers[1].failure.empty()) expect_right(answers[1]);
  }
}

TEST(WorkerPool, AFloodCostsOneItem) {
  auto one = pool(1);
  const auto answers = ask(one, {"flood", "answer"});
  expect_fails(answers[0], "a line of more than 1048576 bytes");
  expect_right(answers[1]);
}

TEST(WorkerPool, StderrIsDrained) {
  auto one = pool(1);
  for (const auto& answer : ask(one, {"stderr", "stderr", "answer"})) expect_right(answer);
}

TEST(WorkerPool, JudgesBeforeAnyoneWaits) {
  const fs::path file = scratch_file("mark");
  auto one = pool(1);
  usleep(100'000);  // by now the pool's thread has nothing to do, and sleeps
  one.submit(question(1, "mark", file.string()));
  for (int i = 0; i < 3000 && !fs::exists(file); ++i) usleep(20'000);  // a minute at most
  EXPECT_TRUE(fs::exists(file));
  expect_right(one.collect()[0]);
  fs::remove(file);
}

TEST(WorkerPool, LargeQuestionsArrive) {
  auto two = pool(2);
  for (int64_t id = 0; id < 6; ++id)
    two.submit(question(id, "length", std::string(size_t{1} << 20, 'q')));
  for (const auto& answer : two.collect()) EXPECT_EQ(answer.reward, 1048576.0) << answer.failure;
}

TEST(WorkerPool, AWorkerThatDoesNotReadBlocksNobody) {
  auto deaf = pool(1, kSoon, fake("deaf"));
  for (int64_t id = 0; id < 2; ++id)
    deaf.submit(question(id, "length", std::string(size_t{1} << 20, 'q')));
  for (const auto& answer : deaf.collect()) EXPECT_TRUE(answer.timed_out) << answer.failure;
}

// Writing to it raises SIGPIPE, which would end the program.
TEST(WorkerPool, AWorkerThatClosedItsInputCostsItsItem) {
  auto shut = pool(1, kSoon, fake("shut"));
  EXPECT_TRUE(ask(shut, {"answer"})[0].timed_out);
}

TEST(WorkerPool, InvalidTextIsReplaced) {
  auto one = pool(1);
  one.submit(question(1, "length", "ab\xff"));
  EXPECT_EQ(one.collect()[0].reward, 3.0);  // U+FFFD in place of the byte
}

std::string refusal(WorkerPoolOptions options) {
  try {
    const WorkerPool refused(std::move(options));
  } catch (const UserError& error) {
    EXPECT_EQ(error.problems().front().where, "reward_funcs");
    return error.what();
  }
  return "";
}

TEST(WorkerPool, ACommandThatDoesNotStartSaysWhy) {
  const auto has = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const auto dead = refusal({.name = "mine", .command = fake("dead")});
  has(dead, "exit code 5");
  has(dead, "first line | no licence found");
  has(dead, "fake.py");
  has(refusal({.name = "mine", .command = "exit 0"}), "exit code 0");
  has(refusal({.name = "mine", .command = "no_such_program_anywhere"}), "not found");
  has(refusal({.name = "mine", .command = fake("babble")}), "got: hello");
  has(refusal({.name = "mine", .command = fake("mute"), .start_limit = 0.2}),
      "not ready after 0.2 s");
}

TEST(WorkerPool, ABatchIsGivenUpAfterFiveRestartsInVain) {
  auto one = pool(1);
  const auto answers = ask(one, std::vector<std::string>(8, "exit"));
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(answers[i].failure, "worker died (exit code 3): out of luck");
  for (size_t i = 6; i < 8; ++i)
    EXPECT_EQ(answers[i].failure,
              "given up after 5 restarts without an answer, the last: worker died (exit code 3): "
              "out of luck");
  // The next batch has a new chance.
  expect_right(ask(one, {"answer"})[0]);
}

TEST(WorkerPool, AWorkerThatStartsOnlyOnceEndsTheBatch) {
  const fs::path file = scratch_file("once");
  auto one = pool(1, kPlenty, fake("once", file.string()));
  const auto answers = ask(one, {"answer", "exit", "answer"});
  expect_right(answers[0]);
  expect_fails(answers[1], "out of luck");
  expect_fails(answers[2], "given up after 5 restarts");
  expect_fails(answers[2], "worker died (exit code 5): first line | no licence found");
  fs::remove(file);
}

// A file of this program without O_CLOEXEC, too, stays its own.
TEST(WorkerPool, WorkersInheritTheThreeStreamsOnly) {
  const int leaky = ::open("/dev/null", O_RDONLY);
  auto two = pool(2);
  for (const auto& answer : ask(two, {"files", "files", "files"})) EXPECT_EQ(answer.reward, 3.0);
  ::close(leaky);
}

// Not even where the trainer is killed while a worker hangs.
TEST(WorkerPool, AWorkerEndsWithItsTrainer) {
  const fs::path file = scratch_file("orphan");
  const pid_t trainer = fork();
  if (trainer == 0) {
    const std::string command = "echo $$ > '" + file.string() + "'; exec sleep 600";
    WorkerPool one({.name = "mine", .command = command, .workers = 1, .timeout = kPlenty});
    one.submit(question(1, "hang"));
    ::pause();
  }
  int64_t worker = 0;
  for (int i = 0; i < 1000 && worker == 0; ++i) {
    std::ifstream(file) >> worker;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_GT(worker, 0);
  EXPECT_TRUE(lives(worker));
  kill(trainer, SIGKILL);
  waitpid(trainer, nullptr, 0);
  EXPECT_TRUE(dies(worker));
  fs::remove(file);
}

TEST(WorkerPool, NothingIsLeftBehind) {
  const fs::path file = scratch_file("stay");
  {
    auto two = pool(2, kSoon, fake("stay", file.string()));
    // One is in the middle of a question when the pool goes.
    ask(two, {"answer", "hang", "answer"});
    two.submit(question(4, "hang"));
  }
  std::ifstream in(file);
  int64_t pid = 0;
  int seen = 0;
  for (; in >> pid; ++seen) EXPECT_TRUE(dies(pid)) << pid;
  EXPECT_GE(seen, 4);  // two workers with a child each, and those restarted
  fs::remove(file);
}

}  // namespace
}  // namespace rlhf
