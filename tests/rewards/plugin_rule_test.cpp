// Rewards from shared libraries: the example, and one library that fails in every way.
#include "rlhf/rewards/plugin_rule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

namespace rlhf {
namespace {

const std::string kExample = RLHF_PLUGIN_EXAMPLE;
const std::string kFaulty = RLHF_PLUGIN_FAULTY;

std::optional<double> score(const RewardRule& rule, std::string_view text,
                            const Json& columns = Json::object()) {
  return rule.score({.text = text, .ids = {}, .columns = columns});
}

std::string failure(const RewardRule& rule, std::string_view text) {
  try {
    score(rule, text, {{"a", 1}});
  } catch (const UserError& error) {
    return std::string("the user's fault: ") + error.what();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string refusal(const Json& entry) {
  Problems problems;
  read_reward_rules(entry, /*longest=*/100, problems);
  try {
    problems.throw_if_any();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

Json plugin(const std::string& path) { return {{"name", "mine"}, {"plugin", path}}; }

void expect_holds(const std::string& text, std::string_view part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(PluginRule, TheExampleJudges) {
  Problems problems;
  const auto rules = read_reward_rules(
      {{"name", "polite"}, {"plugin", kExample}, {"word", "please"}}, /*longest=*/100, problems);
  ASSERT_TRUE(problems.empty());
  ASSERT_EQ(rules.size(), 1U);
  EXPECT_EQ(rules[0].name, "polite");
  EXPECT_EQ(score(rules[0], "pass the salt, please."), 1.0);
  EXPECT_EQ(score(rules[0], "pass the salt"), 0.0);
  EXPECT_EQ(score(rules[0], std::string_view("please").substr(0, 5)), 0.0);
  EXPECT_EQ(score(rules[0], ""), std::nullopt);
  expect_holds(refusal({{"name", "polite"}, {"plugin", kExample}}), "`word` is missing");
}

TEST(PluginRule, EveryFieldArrives) {
  const auto rule =
      open_plugin_rule("mine", kFaulty, Json::parse(R"({"scale": 2.5, "names": ["a"]})"));
  EXPECT_EQ(score(rule, "parameters"), 1.0);
  const std::vector<int32_t> ids = {3, 4};
  const std::vector<int32_t> prompt = {5};
  const Json columns = {{"a", 1}};  // {"a":1} is 7 bytes
  // 4 bytes of text + 10 · 7 + 1000 · (3 + 4) + 1e6 · 5
  EXPECT_EQ(rule.score({.text = "sums", .ids = ids, .columns = columns, .prompt_ids = prompt}),
            5007074.0);
  EXPECT_EQ(rule.score({.text = "sums", .ids = ids, .columns = columns}), 7074.0);
  // A byte that is no UTF-8 in a column is replaced by U+FFFD, three bytes: `{"a":"…"}` is 11
  EXPECT_EQ(score(rule, "sums", {{"a", "\xff"}}), 4 + 10 * 11.0);
}

TEST(PluginRule, ACompletionMayFail) {
  const auto rule = open_plugin_rule("mine", kFaulty, Json::object());
  EXPECT_TRUE(std::isnan(*score(rule, "nan")));
  EXPECT_TRUE(std::isnan(*score(rule, "OK without a reward")));
  EXPECT_EQ(score(rule, "skip"), std::nullopt);
  EXPECT_EQ(failure(rule, "error"), R"(cannot read {"a":1})");
  EXPECT_EQ(failure(rule, "endless"), std::string(1024, 'x'));
  expect_holds(failure(rule, "status"), "returned 17");
}

// The library stays loaded while `last` is there, and its count of open rewards is its own.
TEST(PluginRule, ClosesWhatItOpened) {
  const auto last = open_plugin_rule("last", kFaulty, Json::object());
  {
    const auto first = open_plugin_rule("first", kFaulty, Json::object());
    const auto copy = first;
    EXPECT_EQ(score(last, "opened"), 2.0);
  }
  EXPECT_EQ(score(last, "opened"), 1.0);
  EXPECT_THROW(open_plugin_rule("mine", kFaulty, {{"refuse", 1}}), UserError);
  EXPECT_EQ(score(last, "opened"), 1.0);
}

TEST(PluginRule, RefusesWhatIsNoPlugin) {
  const auto absent = refusal(plugin("libabsent.so"));
  expect_holds(absent, "[reward_funcs.mine]");
  expect_holds(absent, "/libabsent.so: cannot open shared object file");
  const std::string text = testing::TempDir() + "plugin_text.so";
  std::ofstream(text) << "no library";
  expect_holds(refusal(plugin(text)), "plugin_text.so");
  expect_holds(refusal(plugin(RLHF_PLUGIN_WITHOUT_SCORE)), "rlhf_reward_score");
  expect_holds(refusal(plugin(RLHF_PLUGIN_OTHER_ABI)),
               "a plugin of interface version 1 was expected");
  expect_holds(refusal(plugin(RLHF_PLUGIN_OTHER_ABI)), "has version 2");
  expect_holds(refusal({{"name", "mine"}, {"plugin", kFaulty}, {"refuse", 1}}),
               R"(refused to start: no {"refuse":1}.)");
  expect_holds(refusal({{"name", "mine"}, {"plugin", 3}}), "got 3");
  expect_holds(refusal({{"name", "accuracy"}, {"plugin", kFaulty}}), "name of its own");
}

}  // namespace
}  // namespace rlhf
