// Advantages of groups, worked by hand.
#include "rlhf/math/advantages.h"

#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr double kTolerance = 1e-14;  // a handful of roundings of numbers near 1
constexpr double kSmall = 1e-4;       // TRL's, beside a deviation

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], kTolerance) << i;
}

// Group 1: rewards 1, 2, 3: mean 2, deviation 1. Group 2: all equal.
const OptionalRewards kRewards = {1.0, 2.0, 3.0, 0.1, 0.1, 0.1};

TEST(Advantages, OfAGroup) {
  const auto made = group_advantages(kRewards, 3, RewardScale::group);
  expect_near(made.values, {-1 / (1 + kSmall), 0, 1 / (1 + kSmall), 0, 0, 0});
  EXPECT_EQ(made.no_spread, (std::vector<bool>{false, false, false, true, true, true}));
  for (size_t i = 3; i < 6; ++i) EXPECT_EQ(made.values[i], 0.0);  // exactly: they have no backward
}

// All six: mean 6.3/6 = 1.05, Σ squares = 0.0025 + 0.9025 + 3.8025 + 3 · 0.9025 = 7.415.
TEST(Advantages, ScaledByTheBatchOrNot) {
  const double deviation = std::sqrt(7.415 / 5) + kSmall;
  expect_near(group_advantages(kRewards, 3, RewardScale::batch).values,
              {-1 / deviation, 0, 1 / deviation, 0, 0, 0});
  expect_near(group_advantages(kRewards, 3, RewardScale::none).values, {-1, 0, 1, 0, 0, 0});
}

// The second has no reward: mean of 1 and 3 is 2, deviation √2. The second group has one reward.
TEST(Advantages, ARewardOfNoneLeavesTheStatistics) {
  const OptionalRewards rewards = {1.0, std::nullopt, 3.0, std::nullopt, 5.0, std::nullopt};
  const double deviation = std::sqrt(2.0) + kSmall;
  expect_near(group_advantages(rewards, 3, RewardScale::group).values,
              {-1 / deviation, 0, 1 / deviation, 0, 0, 0});
}

TEST(Advantages, WeightedSumsSkipWhatDoesNotApply) {
  const std::vector<OptionalRewards> rewards = {
      {1.0, 2.0}, {std::nullopt, 2.0}, {std::nullopt, std::nullopt}};
  const auto sums = weigh_rewards(rewards, std::vector<double>{0.5, 3.0});
  EXPECT_NEAR(*sums[0], 6.5, kTolerance);
  EXPECT_NEAR(*sums[1], 6.0, kTolerance);
  EXPECT_FALSE(sums[2].has_value());
}

// One group of two, judges (0, 2) and (1, 1): z of the first ∓1/√2 · 2/(√2 + …), of the second 0.
TEST(Advantages, NormalisedThenSummed) {
  const std::vector<OptionalRewards> rewards = {{0.0, 1.0}, {2.0, 1.0}};
  const double z = 1 / (std::sqrt(2.0) + kSmall);
  const double sum_deviation = std::sqrt(2.0) * z + kSmall;
  expect_near(gdpo_advantages(rewards, std::vector<double>{1.0, 4.0}, 2).values,
              {-z / sum_deviation, z / sum_deviation});
}

// Rewards 1, 2, 6: the means of the others are 4, 3.5, 1.5. None: its siblings do without it.
TEST(Advantages, LeaveOneOut) {
  expect_near(rloo_advantages(OptionalRewards{1.0, 2.0, 6.0}, 3, /*normalize=*/false),
              {-3, -1.5, 4.5});
  expect_near(rloo_advantages(OptionalRewards{1.0, std::nullopt, 6.0}, 3, /*normalize=*/false),
              {-5, 0, 5});
  const double deviation = std::sqrt((9 + 2.25 + 20.25) / 2) + kSmall;
  expect_near(rloo_advantages(OptionalRewards{1.0, 2.0, 6.0}, 3, /*normalize=*/true),
              {-3 / deviation, -1.5 / deviation, 4.5 / deviation});
}

// Lengths 1 and 3, rewards 1 and 2: baseline (1 + 6)/4 = 1.75.
TEST(Advantages, WeightedByLength) {
  const std::vector<int64_t> tokens = {1, 3};
  expect_near(opo_advantages(OptionalRewards{1.0, 2.0}, tokens, 2), {-0.75, 0.25});
}

TEST(Advantages, HalfAGroupIsAnError) {
  EXPECT_THROW(group_advantages(kRewards, 4, RewardScale::group), Error);
}

}  // namespace
}  // namespace rlhf
