#include "rlhf/core/error.h"

#include <gtest/gtest.h>

namespace rlhf {
namespace {

TEST(Problem, ShowsTheHintOnlyWhereThereIsOne) {
  EXPECT_EQ((Problem{"a.jsonl:3", "expected text, got 4.", ""}).text(),
            "[a.jsonl:3] expected text, got 4.");
  EXPECT_EQ((Problem{"seed", "too big.", "use 1."}).text(), "[seed] too big. HINT: use 1.");
}

TEST(Problems, ThrowsEverythingInOrder) {
  Problems problems;
  EXPECT_TRUE(problems.empty());
  EXPECT_NO_THROW(problems.throw_if_any());
  problems.add("a", "one.");
  problems.add(UserError("b", "two.", "mend."));
  try {
    problems.throw_if_any();
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(), "[a] one.\n[b] two. HINT: mend.");
    EXPECT_EQ(error.problems().size(), 2U);
  }
}

TEST(Problems, WhatTwoChecksMeetIsSaidOnce) {
  Problems problems;
  problems.add("key", "one.", "mend it.");
  problems.add("key", "one.", "or mend it so.");
  problems.add("key", "two.");
  problems.add("other", "one.");
  EXPECT_EQ(problems.count(), 3U);
}

TEST(Problems, CountsAllButKeepsTheFirst) {
  Problems problems(/*limit=*/3);
  for (int i = 0; i < 10; ++i) problems.add(std::to_string(i), "bad.");
  EXPECT_EQ(problems.count(), 10U);
  try {
    problems.throw_if_any();
    FAIL();
  } catch (const UserError& error) {
    ASSERT_EQ(error.problems().size(), 3U);
    EXPECT_EQ(error.problems()[2].where, "2");
    EXPECT_EQ(error.unlisted(), 7U);
    EXPECT_NE(std::string(error.what()).find("7 further problems of 10 are not shown."),
              std::string::npos);
  }
}

TEST(Problems, CountWhatAnErrorTakenOverDidNotList) {
  Problems problems(/*limit=*/3);
  problems.add("here", "bad.");
  problems.add(UserError({{"there", "bad.", ""}}, /*unlisted=*/5));
  EXPECT_EQ(problems.count(), 7U);
  EXPECT_THROW(problems.throw_if_any(), UserError);
}

TEST(Check, FormatsOnlyOnFailure) {
  EXPECT_NO_THROW(check(true, "here", "never {}", 1));
  try {
    check(false, "here", "wanted {}, got {}.", 1, 2);
    FAIL();
  } catch (const UserError&) {
    FAIL() << "a broken promise is not the user's fault";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "[here] wanted 1, got 2.");
  }
}

TEST(NearestName, FindsTyposAndNothingElse) {
  const std::vector<std::string> names = {"learning_rate", "logging_steps", "seed", "data_seed"};
  EXPECT_EQ(nearest_name("learning_rat", names), "learning_rate");
  EXPECT_EQ(nearest_name("loging_step", names), "logging_steps");
  EXPECT_EQ(nearest_name("sead", names), "seed");
  EXPECT_EQ(nearest_name("temperature", names), "");
  EXPECT_EQ(nearest_name("x", {}), "");
}

}  // namespace
}  // namespace rlhf
