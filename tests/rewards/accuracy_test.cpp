// The table tests/fixtures/rewards/accuracy.jsonl is written by hand: each line a completion, a
// gold answer, and 1, 0 or null as a careful grader would say. It owes nothing to the code.
#include "rlhf/rewards/accuracy.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/rewards/answer.h"
#include "rlhf/rewards/rational.h"

namespace rlhf {
namespace {

/// 1 and 0 as they are, null as -1.
double plain(const std::optional<double>& reward) { return reward.value_or(-1.0); }

TEST(Accuracy, agrees_with_the_hand_written_table) {
  std::ifstream table(RLHF_FIXTURES "/rewards/accuracy.jsonl");
  int rows = 0;
  for (std::string line; std::getline(table, line); ++rows) {
    const Json row = Json::parse(line);
    const Json& expected = row.at("expected");
    const double wanted = expected.is_null() ? -1.0 : expected.get<double>();
    EXPECT_EQ(
        plain(accuracy(row.at("completion").get<std::string>(), row.at("gold").get<std::string>())),
        wanted)
        << line;
  }
  EXPECT_GE(rows, 200);
}

TEST(Accuracy, every_gsm8k_solution_answers_itself) {
  const char* folder = std::getenv("RLHF_DATA");
  const fs::path path =
      fs::path(folder ? folder : RLHF_FIXTURES "/../../../shared/data") / "gsm8k" / "test.jsonl";
  if (!fs::exists(path)) {
    GTEST_SKIP() << "no gsm8k in RLHF_DATA";
  }
  std::ifstream rows(path);
  for (std::string line; std::getline(rows, line);) {
    const std::string answer = Json::parse(line).at("answer").get<std::string>();
    const std::string number = answer.substr(answer.rfind("####") + 5);
    ASSERT_EQ(accuracy("So it is " + number + ".", answer), 1.0) << number;
    ASSERT_EQ(accuracy("\\boxed{" + number + "}", answer), 1.0) << number;
    ASSERT_EQ(accuracy("\\boxed{" + number + "1}", answer), 0.0) << number;
  }
}

TEST(Accuracy, hostile_text_neither_hangs_nor_throws) {
  std::string nested;
  for (int i = 0; i < 20000; ++i) {
    nested += "\\frac{";
  }
  EXPECT_EQ(accuracy("\\boxed{" + nested, "1"), 0.0);
  EXPECT_EQ(accuracy("\\boxed{" + nested + std::string(20000, '}') + "}", "1"), 0.0);
  EXPECT_EQ(accuracy(std::string(100000, '('), "(1,2)"), 0.0);
  EXPECT_EQ(accuracy(std::string(100000, '9'), "9"), 0.0);
  EXPECT_EQ(accuracy("\\boxed{\\frac", "1"), 0.0);
  EXPECT_EQ(accuracy("\\boxed{\\sqrt", "1"), 0.0);
}

TEST(ExactMatch, ignores_only_white_space_around) {
  EXPECT_EQ(exact_match(" yes\n", "yes"), 1.0);
  EXPECT_EQ(exact_match("Yes", "yes"), 0.0);
  EXPECT_EQ(exact_match("y es", "yes"), 0.0);
  EXPECT_EQ(exact_match("", " "), 1.0);
}

TEST(Rational, reads_decimals) {
  EXPECT_TRUE(*parse_decimal("1,234.50") == (Rational{.numerator = "12345", .denominator = "10"}));
  EXPECT_TRUE(*parse_decimal("-1.5e-2") ==
              (Rational{.negative = true, .numerator = "15", .denominator = "1000"}));
  EXPECT_FALSE(parse_decimal("1,23"));
  EXPECT_FALSE(parse_decimal("."));
  EXPECT_FALSE(parse_decimal("1e"));
  EXPECT_FALSE(parse_decimal("--1"));
  EXPECT_FALSE(parse_decimal("1 "));
}

TEST(Rational, mixed_numbers_take_the_sign_of_the_whole) {
  // -1 and 1/2 is -3/2, not -1/2.
  EXPECT_TRUE(join_mixed(*parse_decimal("-1"), Rational{.numerator = "1", .denominator = "2"}) ==
              (Rational{.negative = true, .numerator = "3", .denominator = "2"}));
}

TEST(Answer, numbers_in_prose) {
  EXPECT_EQ(numbers_in("a -1,234.5, b 3/4. c 2 1/2 d 7% e x9 f 10-3"),
            (std::vector<std::string>{"-1,234.5", "3/4", "2 1/2", "7%", "10", "3"}));
}

}  // namespace
}  // namespace rlhf
