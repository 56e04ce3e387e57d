// share/reward_worker.py around the functions of tests/rewards/workers/functions.py.
#include <gtest/gtest.h>

#include <array>

#include "rlhf/core/error.h"
#include "worker_case.h"

namespace rlhf {
namespace {

WorkerPool served(const std::string& function, const std::string& file = "functions.py") {
  const std::string share = std::string(RLHF_FIXTURES) + "/../../share/reward_worker.py";
  return WorkerPool(
      {.name = "mine",
       .command = "exec python3 '" + share + "' '" + testing::script(file) + ":" + function + "'",
       .workers = 1});
}

Json asked(const std::string& completion) {
  return {
      {"id", 1},           {"name", "mine"},
      {"prompt", "1+1="},  {"completion", completion},
      {"prompt_ids", {1}}, {"completion_ids", {3, 4, 5}},
      {"step", 12},        {"columns", {{"solution", "42"}, {"level", 3}, {"completion", "gold"}}}};
}

JudgeAnswer answer_to(ExternalJudge& judge, Json question) {
  judge.submit(std::move(question));
  return judge.collect().front();
}

JudgeAnswer answer_of(const std::string& function, Json question = asked("a1b2")) {
  auto judge = served(function);
  return answer_to(judge, std::move(question));
}

TEST(RewardScript, CallsTheFunction) {
  auto digits = served("digits");
  EXPECT_EQ(answer_to(digits, asked("a1b2")).reward, 0.5);
  EXPECT_EQ(answer_to(digits, asked("\u00e9\u00e9\u00e91")).reward, 0.25);  // in characters
  EXPECT_EQ(answer_to(digits, asked("line\n1")).reward, 1.0 / 6);
}

TEST(RewardScript, AwaitsAsyncFunctions) {
  auto later = served("later");
  EXPECT_EQ(answer_to(later, asked("a1b2")).reward, 8.0);  // 4 + 4 characters
  EXPECT_EQ(answer_to(later, asked("a")).reward, 5.0);
}

TEST(RewardScript, WhatIsPrintedSpoilsNothing) {
  auto prints = served("prints");
  for (int i = 0; i < 3; ++i) {
    const auto answer = answer_to(prints, asked("a"));
    EXPECT_EQ(answer.reward, 7.0) << answer.failure;
  }
}

TEST(RewardScript, AnExceptionIsAnError) {
  auto raises = served("raises");
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(answer_to(raises, asked("a")).failure, "KeyError: 'no column \\ud800'");
  EXPECT_EQ(answer_of("leaves").failure, "SystemExit: 4");
  EXPECT_EQ(answer_of("two").failure,
            "ValueError: a list with one reward was expected, got [1.0, 2.0]");
  EXPECT_EQ(answer_of("not_a_number").failure, "ValueError: a finite reward was expected, got nan");
}

TEST(RewardScript, PassesWhatTrlPasses) {
  const auto answer = answer_of("everything");
  EXPECT_EQ(answer.reward, 15.0) << answer.failure;  // 3 ids + step 12
}

TEST(RewardScript, ConversationsAreMessages) {
  Json question = asked("");
  question["prompt"] = Json::array({{{"role", "user"}, {"content", "1+1="}}});
  question["completion"] = Json::array({{{"role", "assistant"}, {"content", "2"}}});
  const auto answer = answer_of("chat", question);
  EXPECT_EQ(answer.reward, 1.0) << answer.failure;
}

TEST(RewardScript, TakesNoneAndScalars) {
  const auto nothing = answer_of("nothing");
  EXPECT_FALSE(nothing.reward);
  EXPECT_EQ(nothing.failure, "");
  EXPECT_EQ(answer_of("scalar").reward, 0.125);
}

// A function that reads stdin would take the next question away.
TEST(RewardScript, StdinIsEmptyForTheFunction) {
  auto reads = served("reads");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(answer_to(reads, asked("a")).reward, 0.0);
}

TEST(RewardScript, AMissingFunctionIsNamed) {
  for (const auto& [function, file, part] :
       {std::array{"absent", "functions.py", "has no attribute 'absent'"},
        std::array{"digits", "absent.py", "absent.py"}}) {
    try {
      served(function, file);
      FAIL();
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace rlhf
