// Samples made by hand, and the rows that are to come of them.
#include "rlhf/data/sampled_rows.h"

#include <gtest/gtest.h>

#include <array>

#include "rlhf/data/schema.h"

namespace rlhf {
namespace {

constexpr std::nullopt_t kNone = std::nullopt;

JudgedSample sample(const std::string& text, std::optional<double> reward, bool truncated = false) {
  return {.text = text,
          .ids = {7, static_cast<int32_t>(text.size())},
          .reward = reward,
          .truncated = truncated};
}

/// `chosen > rejected` of each row.
std::vector<std::string> pairs_of(const SampledRows& made) {
  std::vector<std::string> out;
  for (const Json& row : made.rows) {
    out.push_back(row.at("chosen").get<std::string>() + " > " +
                  row.at("rejected").get<std::string>());
  }
  return out;
}

const Json kRow = {{"prompt", "1+1="}, {"solution", "2"}};

TEST(BestOfN, IsTheHighestReward) {
  const std::vector<JudgedSample> samples = {sample("a", 0.5), sample("b", 2.0), sample("c", kNone),
                                             sample("d", 1.0)};
  const auto made = best_of_n_row(kRow, samples);
  ASSERT_EQ(made.rows.size(), 1U);
  EXPECT_EQ(made.rows.front().dump(),
            R"({"prompt":"1+1=","solution":"2","completion":"b","reward":2.0})");
  EXPECT_FALSE(made.none);
}

TEST(BestOfN, OfEqualRewardsTheFirstDrawn) {
  const std::vector<JudgedSample> samples = {sample("a", -1.0), sample("b", 0.0), sample("c", 0.0)};
  EXPECT_EQ(best_of_n_row(kRow, samples).rows.at(0).at("completion"), "b");
}

TEST(BestOfN, BelowTheLeastRewardThereIsNoRow) {
  const std::vector<JudgedSample> samples = {sample("a", 0.5), sample("b", 0.75)};
  EXPECT_EQ(best_of_n_row(kRow, samples, 0.75).rows.size(), 1U);
  const auto made = best_of_n_row(kRow, samples, 1.0);
  EXPECT_TRUE(made.rows.empty());
  EXPECT_EQ(made.none, NoRow::low_reward);
}

TEST(BestOfN, WithoutARewardThereIsNoRow) {
  const std::vector<JudgedSample> samples = {sample("a", kNone), sample("b", kNone)};
  const auto made = best_of_n_row(kRow, samples);
  EXPECT_TRUE(made.rows.empty());
  EXPECT_EQ(made.none, NoRow::no_reward);
}

TEST(SampledPairs, BestOverWorst) {
  const std::vector<JudgedSample> samples = {sample("a", 0.5), sample("b", 2.0), sample("c", kNone),
                                             sample("d", -1.0)};
  const auto made = pair_rows(kRow, samples, /*most=*/1);
  ASSERT_EQ(made.rows.size(), 1U);
  EXPECT_EQ(made.rows.front().dump(),
            R"({"prompt":"1+1=","solution":"2","chosen":"b","rejected":"d","score_chosen":2.0,)"
            R"("score_rejected":-1.0})");
}

TEST(SampledPairs, MoreOfThemByTheirMargins) {
  const std::vector<JudgedSample> samples = {sample("a", 3.0), sample("b", 1.0), sample("c", 5.0),
                                             sample("d", 4.5)};
  const std::vector<std::string> all = {"c > b", "d > b", "a > b", "c > a", "d > a", "c > d"};
  // Margins 4, 3.5, 2, 2, 1.5, 0.5; of the two equal ones the chosen sample of the first was drawn
  // first.
  EXPECT_EQ(pairs_of(pair_rows(kRow, samples, 9)), all);
  EXPECT_EQ(pairs_of(pair_rows(kRow, samples, 4)),
            (std::vector<std::string>(all.begin(), all.begin() + 4)));
}

TEST(SampledPairs, TheChosenHasTheLeastReward) {
  const std::vector<JudgedSample> samples = {sample("a", 1.0), sample("bb", 0.5),
                                             sample("ccc", 0.0)};
  EXPECT_EQ(pairs_of(pair_rows(kRow, samples, 9, 1.0)),
            (std::vector<std::string>{"a > ccc", "a > bb"}));
  const auto none = pair_rows(kRow, samples, 9, 2.0);
  EXPECT_TRUE(none.rows.empty());
  EXPECT_EQ(none.none, NoRow::low_reward);
}

TEST(SampledPairs, EqualRewardsAreNoPair) {
  const std::vector<JudgedSample> right_and_wrong = {sample("a", 1.0), sample("b", 0.0),
                                                     sample("c", 1.0), sample("d", 0.0)};
  EXPECT_EQ(pairs_of(pair_rows(kRow, right_and_wrong, 9)),
            (std::vector<std::string>{"a > b", "a > d", "c > b", "c > d"}));
  const std::vector<JudgedSample> all_wrong = {sample("a", 0.0), sample("b", 0.0)};
  const auto made = pair_rows(kRow, all_wrong, 4);
  EXPECT_TRUE(made.rows.empty());
  EXPECT_EQ(made.none, NoRow::equal_rewards);
}

TEST(SampledPairs, TheSameCompletionCountsOnce) {
  const std::vector<JudgedSample> samples = {sample("a", 1.0), sample("b", 0.0), sample("a", 1.0),
                                             sample("b", 0.0), sample("e", 0.0)};
  EXPECT_EQ(pairs_of(pair_rows(kRow, samples, 9)), (std::vector<std::string>{"a > b", "a > e"}));
  const std::vector<JudgedSample> one = {sample("a", 1.0), sample("a", 0.0), sample("b", kNone)};
  EXPECT_EQ(pair_rows(kRow, one, 9).none, NoRow::one_completion);
  const std::vector<JudgedSample> none = {sample("a", kNone), sample("b", kNone)};
  EXPECT_EQ(pair_rows(kRow, none, 9).none, NoRow::no_reward);
}

TEST(SampledPairs, AreConversationalWhereThePromptIs) {
  const Json row = {{"messages", Json::array({{{"role", "user"}, {"content", "q"}}})},
                    {"prompt", Json::array({{{"role", "user"}, {"content", "q"}}})},
                    {"level", 3}};
  const std::vector<JudgedSample> samples = {sample("a", 1.0), sample("b", 0.0)};
  EXPECT_EQ(pair_rows(row, samples, 1).rows.at(0).dump(),
            R"({"prompt":[{"role":"user","content":"q"}],"level":3,)"
            R"("chosen":[{"role":"assistant","content":"a"}],)"
            R"("rejected":[{"role":"assistant","content":"b"}],"score_chosen":1.0,)"
            R"("score_rejected":0.0})");
  EXPECT_EQ(best_of_n_row(row, samples).rows.at(0).at("completion").dump(),
            R"([{"role":"assistant","content":"a"}])");
}

TEST(SampledPairs, AreIdsWhereThePromptIs) {
  const Json row = {{"prompt_ids", {5, 6}}};
  // The same text from other ids is another completion there.
  const std::vector<JudgedSample> samples = {
      {.text = "a", .ids = {8, 1}, .reward = 1.0, .truncated = true},
      {.text = "a", .ids = {9, 1}, .reward = 0.0, .truncated = false}};
  const auto made = pair_rows(row, samples, 1);
  EXPECT_EQ(made.rows.at(0).dump(),
            R"({"prompt_ids":[5,6],"chosen_ids":[8,1],"rejected_ids":[9,1],"score_chosen":1.0,)"
            R"("score_rejected":0.0})");
  EXPECT_EQ(made.truncated, 0);  // ids get no end of their own
}

TEST(SampledRows, CountCompletionsThatWereCut) {
  const std::vector<JudgedSample> samples = {sample("a", 1.0, /*truncated=*/true),
                                             sample("b", 0.0, /*truncated=*/true)};
  EXPECT_EQ(best_of_n_row(kRow, samples).truncated, 1);
  EXPECT_EQ(pair_rows(kRow, samples, 1).truncated, 1);
}

// What the source row was before must not win over what it is now.
TEST(SampledRows, HaveOneTypeAlone) {
  const std::array wanted_pairs = {RowType::preference, RowType::unpaired};
  const std::array wanted_text = {RowType::language_modelling, RowType::prompt_completion};
  const Json row = {{"prompt", "p"},       {"text", "p t"},      {"messages", Json::array()},
                    {"completion", "old"}, {"label", true},      {"chosen", "old"},
                    {"rejected", "older"}, {"chosen_ids", {1}},  {"completion_ids", {2}},
                    {"margin", 3.0},       {"input_ids", {4}},   {"labels", {4}},
                    {"answer", "kept"},    {"rejected_ids", {5}}};
  const std::vector<JudgedSample> samples = {sample("a", 1.0), sample("b", 0.0)};
  const Json pair = pair_rows(row, samples, 1).rows.at(0);
  EXPECT_EQ(pair.dump(), R"({"prompt":"p","answer":"kept","chosen":"a","rejected":"b",)"
                         R"("score_chosen":1.0,"score_rejected":0.0})");
  EXPECT_EQ(detect_schema({pair, "x:1"}, wanted_pairs),
            (Schema{RowType::preference, RowForm::text}));
  const Json best = best_of_n_row(row, samples).rows.at(0);
  EXPECT_EQ(detect_schema({best, "x:1"}, wanted_text),
            (Schema{RowType::prompt_completion, RowForm::text}));
}

TEST(SampledRows, NeedAPromptThatIsToBeAnswered) {
  const auto turn = [](const char* role) { return Json{{"role", role}, {"content", "x"}}; };
  EXPECT_FALSE(check_sampled_prompt({{{"prompt", "text"}}, "x:1"}));
  EXPECT_FALSE(check_sampled_prompt({{{"prompt", Json::array({turn("user")})}}, "x:1"}));
  EXPECT_FALSE(check_sampled_prompt({{{"prompt_ids", {1}}}, "x:1"}));
  const auto problem =
      check_sampled_prompt({{{"prompt", Json::array({turn("user"), turn("assistant")})}}, "x:1"});
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->where, "x:1");
}

}  // namespace
}  // namespace rlhf
