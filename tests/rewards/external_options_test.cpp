#include "rlhf/rewards/external_options.h"

#include <gtest/gtest.h>

namespace rlhf {
namespace {

const Json kWorker = {{"name", "mine"}, {"command", "run it"}};

TEST(ExternalOptions, PartsEntriesByTheirReader) {
  Problems problems;
  const auto entries = split_reward_funcs({"accuracy",
                                           kWorker,
                                           {{"name", "length"}, {"target", 5}},
                                           {{"name", "other"}, {"command", "x"}}},
                                          problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(entries.names, (std::vector<std::string>{"accuracy", "mine", "length", "other"}));
  EXPECT_EQ(entries.rules, Json::parse(R"(["accuracy", {"name": "length", "target": 5}])"));
  EXPECT_EQ(entries.rule_judges, (std::vector<size_t>{0, 2}));
  ASSERT_EQ(entries.outside.size(), 2U);
  EXPECT_EQ(entries.outside[0].name, "mine");
  EXPECT_EQ(entries.outside[0].command, "run it");
  EXPECT_EQ(entries.outside[0].judge, 1U);
  EXPECT_EQ(entries.outside[1].judge, 3U);
}

std::string problems_of(const std::vector<Json>& funcs) {
  Problems problems;
  split_reward_funcs(funcs, problems);
  try {
    problems.throw_if_any();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(ExternalOptions, WhatIsWrongIsNamed) {
  const auto expect_says = [](const std::vector<Json>& funcs, const std::string& part) {
    const auto text = problems_of(funcs);
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect_says({kWorker, kWorker}, "mine twice");
  expect_says({{{"name", "accuracy"}, {"command", "x"}}, "accuracy"}, "accuracy twice");
  expect_says({{{"command", "x"}}}, "a `name` beside `command` or `url` was expected");
  expect_says({{{"name", "mine"}, {"command", "x"}, {"url", "http://h/"}}}, "got both");
  expect_says({{{"name", "mine"}, {"command", ""}}}, "a command was expected");
  expect_says({{{"name", "mine"}, {"command", "x"}, {"comand", 3}}}, "comand");
  expect_says({{{"name", "mine"}, {"command", {"x", "y"}}}}, "command");
  EXPECT_EQ(problems_of({"accuracy", "accuracy"}), "");  // for read_reward_rules() to say
}

}  // namespace
}  // namespace rlhf
