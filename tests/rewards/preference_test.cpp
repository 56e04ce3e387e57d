#include "rlhf/rewards/preference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

TEST(Preference, counts_pairs_margins_and_the_longer_answer) {
  // Margins 1, -0.5, 2, 0.5: 3 of 4 right, mean 0.75. Longer is chosen in the first alone.
  const std::vector<ScoredPair> pairs = {
      {.chosen = 1.5, .rejected = 0.5, .chosen_tokens = 7, .rejected_tokens = 3},
      {.chosen = -1.0, .rejected = -0.5, .chosen_tokens = 2, .rejected_tokens = 3},
      {.chosen = 0.0, .rejected = -2.0, .chosen_tokens = 1, .rejected_tokens = 9},
      {.chosen = 0.5, .rejected = 0.0, .chosen_tokens = 4, .rejected_tokens = 5}};
  const PreferenceSummary found = summarize(pairs);
  EXPECT_EQ(found.pairs, 4);
  EXPECT_EQ(found.ties, 0);
  EXPECT_DOUBLE_EQ(found.accuracy.mean, 0.75);
  EXPECT_EQ(found.accuracy.method, "wilson");
  // z² = 3.84146, 3 of 4: centre (0.75 + 0.480183) / 1.960365 = 0.627527, half-width 1.959964 /
  // 1.960365 · sqrt(0.75 · 0.25 / 4 + 3.84146 / 64) = 0.326885.
  EXPECT_NEAR(found.accuracy.interval.low, 0.300642, 1e-5);
  EXPECT_NEAR(found.accuracy.interval.high, 0.954412, 1e-5);
  EXPECT_DOUBLE_EQ(found.margin.mean, 0.75);
  EXPECT_DOUBLE_EQ(found.length_baseline.mean, 0.25);
}

TEST(Preference, counts_ties_half) {
  const std::vector<ScoredPair> pairs = {
      {.chosen = 1.0, .rejected = 1.0, .chosen_tokens = 3, .rejected_tokens = 3},
      {.chosen = 2.0, .rejected = 1.0, .chosen_tokens = 3, .rejected_tokens = 3},
      {.chosen = 0.0, .rejected = 1.0, .chosen_tokens = 4, .rejected_tokens = 3}};
  const PreferenceSummary found = summarize(pairs);
  EXPECT_EQ(found.ties, 1);
  EXPECT_DOUBLE_EQ(found.accuracy.mean, 0.5);               // (½ + 1 + 0) / 3
  EXPECT_DOUBLE_EQ(found.length_baseline.mean, 2.0 / 3.0);  // (½ + ½ + 1) / 3
  // z² = 3.84146, 1.5 of 3: half-width 1.959964 / 2.280487 · sqrt(0.25 / 3 + 3.84146 / 36) =
  // 0.374666.
  EXPECT_NEAR(found.accuracy.interval.low, 0.125334, 1e-5);
  EXPECT_NEAR(found.accuracy.interval.high, 0.874666, 1e-5);
  // A margin is no share, not even where every pair is a tie.
  EXPECT_EQ(summarize(std::vector<ScoredPair>(4)).margin.interval.high, 0.0);
}

TEST(Preference, refuses_what_is_no_number) {
  EXPECT_THROW(summarize({}), Error);
  EXPECT_THROW(summarize(std::vector<ScoredPair>{{.chosen = std::nan(""), .rejected = 0.0}}),
               Error);
}

}  // namespace
}  // namespace rlhf
