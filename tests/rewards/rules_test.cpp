// Rewards by rule: values worked by hand, and TRL 1.16.0's own examples of the rules it has.
#include "rlhf/rewards/rules.h"

#include <gtest/gtest.h>

#include <numeric>

namespace rlhf {
namespace {

constexpr double kTolerance = 1e-12;  // one cosine or quotient of numbers near 1

std::vector<RewardRule> read(const Json& funcs, int64_t longest = 100) {
  Problems problems;
  auto rules = read_reward_rules(funcs, longest, problems);
  problems.throw_if_any();
  return rules;
}

std::optional<double> score(const Json& func, std::string_view text, int64_t tokens = 1,
                            const Json& columns = Json::object()) {
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  std::iota(ids.begin(), ids.end(), 0);
  return read(func).front().score({.text = text, .ids = ids, .columns = columns});
}

double score_ids(const Json& func, const std::vector<int32_t>& ids) {
  const Json columns = Json::object();
  return *read(func).front().score({.text = "", .ids = ids, .columns = columns});
}

std::string problems_of(const Json& func) {
  Problems problems;
  read_reward_rules(func, 100, problems);
  try {
    problems.throw_if_any();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(RewardRules, AccuracyReadsTheSolution) {
  EXPECT_EQ(score("accuracy", "so \\boxed{42}", 1, {{"solution", "#### 42"}}), 1.0);
  EXPECT_EQ(score("accuracy_reward", "41", 1, {{"answer", 42}}), 0.0);
  EXPECT_EQ(score("accuracy", "42", 1, {{"solution", "it depends on many things"}}), std::nullopt);
  EXPECT_EQ(
      score({{"name", "accuracy"}, {"column", "gold"}}, "7", 1, {{"gold", "7"}, {"answer", "8"}}),
      1.0);
}

TEST(RewardRules, ReasoningIsJudgedByWhatFollowsIt) {
  const Json columns = {{"solution", "4"}};
  EXPECT_EQ(score("reasoning_accuracy", "<think>5</think>4", 1, columns), 1.0);
  EXPECT_EQ(score("reasoning_accuracy", "<think>4</think>5", 1, columns), 0.0);
  EXPECT_EQ(score("reasoning_accuracy", "<think>4", 1, columns), 0.0);
  EXPECT_EQ(score("reasoning_accuracy", "4", 1, {{"solution", "it depends on many things"}}),
            std::nullopt);
}

// The first two are TRL's own examples.
TEST(RewardRules, ThinkFormat) {
  EXPECT_EQ(score("think_format", "<think>\nThis is my reasoning.\n</think>\nThis is my answer."),
            1.0);
  EXPECT_EQ(score("think_format_reward", "<think>\nThis is my reasoning.\nThis is my answer."),
            0.0);
  EXPECT_EQ(score("think_format", "a <think>b</think>"), 0.0);
  EXPECT_EQ(score("think_format", "<think>a<think>b</think>"), 0.0);
}

// TRL's example: 50 tokens are half of 100, so both lie in the middle of their ranges. At 0 tokens
// the cosine is 1, at 100 it is −1.
TEST(RewardRules, Cosine) {
  const Json cosine = {{"name", "cosine"}, {"max_len", 100}};
  const Json columns = {{"solution", "\\frac{1}{3}"}};
  EXPECT_NEAR(*score(cosine, "\\boxed{\\frac{1}{3}}", 50, columns), 0.75, kTolerance);
  EXPECT_NEAR(*score(cosine, "\\boxed{\\frac{1}{2}}", 50, columns), -0.75, kTolerance);
  EXPECT_NEAR(*score(cosine, "\\boxed{\\frac{1}{3}}", 100, columns), 0.5, kTolerance);
  EXPECT_NEAR(*score(cosine, "\\boxed{\\frac{1}{2}}", 100, columns), -0.5, kTolerance);
}

// TRL's example.
TEST(RewardRules, RepetitionPenalty) {
  const Json rule = {{"name", "repetition_penalty"}, {"ngram_size", 2}, {"max_penalty", -1.0}};
  EXPECT_EQ(score_ids(rule, {1, 2, 3, 4}), 0.0);
  EXPECT_NEAR(score_ids(rule, {5, 5, 5, 5, 5}), -0.75, kTolerance);
  EXPECT_EQ(score_ids(rule, {5}), 0.0);
}

// TRL's example: 90 tokens of 100 with a cache of 20. The default of the longest is the run's own.
TEST(RewardRules, SoftOverlong) {
  const Json rule = {{"name", "get_soft_overlong_punishment"}, {"soft_punish_cache", 20}};
  EXPECT_NEAR(*score(rule, "", 90), -0.5, kTolerance);
  EXPECT_EQ(score(rule, "", 80), 0.0);
  EXPECT_NEAR(*score(rule, "", 100), -1.0, kTolerance);
  EXPECT_EQ(score(rule, "", 101), -1.0);
}

TEST(RewardRules, LengthAndDigitsAndExactness) {
  const Json length = {{"name", "length"}, {"target", 10}};
  EXPECT_NEAR(*score(length, "", 7), -0.3, kTolerance);
  EXPECT_NEAR(*score(length, "", 10), 0.0, kTolerance);
  EXPECT_NEAR(*score("digit_share", "a1b2"), 0.5, kTolerance);
  EXPECT_EQ(score("digit_share", ""), 0.0);
  EXPECT_EQ(score("exact_match", " yes\n", 1, {{"answer", "yes"}}), 1.0);
  EXPECT_EQ(score("exact_match", "no", 1, {{"answer", "yes"}}), 0.0);
}

TEST(RewardRules, SeveralKeepTheirNamesAndColumns) {
  const auto rules = read(Json::parse(R"(["accuracy_reward", {"name": "length", "target": 5}])"));
  ASSERT_EQ(rules.size(), 2U);
  EXPECT_EQ(rules[0].name, "accuracy_reward");
  EXPECT_EQ(rules[0].columns, (std::vector<std::string>{"solution", "answer"}));
  EXPECT_TRUE(rules[1].columns.empty());
}

TEST(RewardRules, EverythingWrongIsSaidAtOnce) {
  const auto text = problems_of(Json::parse(
      R"(["acuracy", {"name": "cosine", "max_length": 5}, {"name": "length"}, 3, "digit_share", "digit_share"])"));
  EXPECT_NE(text.find("did you mean accuracy?"), std::string::npos) << text;
  EXPECT_NE(text.find("max_len"), std::string::npos) << text;
  EXPECT_NE(text.find("`target`"), std::string::npos) << text;
  EXPECT_NE(text.find("got 3"), std::string::npos) << text;
  EXPECT_NE(text.find("digit_share twice"), std::string::npos) << text;
}

}  // namespace
}  // namespace rlhf
