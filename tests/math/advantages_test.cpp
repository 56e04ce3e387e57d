// Advantages of groups, worked by hand.
#include "rlhf/math/advantages.h"

#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/math/token_advantages.h"

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

// Largest 6, without it 2; the tie of the second group leaves nothing. Deviations √7 and 1/√3.
TEST(Advantages, OnlyTheBestOfPassAtK) {
  const OptionalRewards rewards = {1.0, 2.0, 6.0, 1.0, 1.0, 0.0};
  expect_near(pass_at_k_advantages(rewards, 3, RewardScale::none), {0, 0, 4, 0, 0, 0});
  expect_near(pass_at_k_advantages(rewards, 3, RewardScale::group),
              {0, 0, 4 / (std::sqrt(7.0) + kSmall), 0, 0, 0});
}

TEST(Advantages, AgainstTheGreedyCompletion) {
  const OptionalRewards greedy = {0.5, std::nullopt};
  expect_near(remax_advantages(OptionalRewards{1.0, std::nullopt, 3.0, 4.0}, greedy, 2),
              {0.5, 0, 0, 0});
  expect_near(remax_advantages(OptionalRewards{1.0, 2.0}, greedy, 1), {0.5, 0});
  EXPECT_THROW(remax_advantages(OptionalRewards{1.0}, greedy, 1), Error);
}

// 5 is clipped to 2, then 2 − 0.1 · 3.
TEST(Advantages, ClippedThenPenalised) {
  const std::vector<double> kl = {3.0, 1.0, 1.0};
  const OptionalRewards rewards = {5.0, std::nullopt, 0.0};
  const auto made = penalised_rewards(rewards, std::pair(-1.0, 2.0), kl, 0.1);
  EXPECT_NEAR(*made[0], 1.7, kTolerance);
  EXPECT_FALSE(made[1].has_value());
  EXPECT_NEAR(*made[2], -0.1, kTolerance);
  EXPECT_EQ(penalised_rewards(rewards, std::nullopt, {}, 0.0), rewards);
}

// Groups of 2, 3 and 1. The third is flat by definition, and two rewards are needed to be flat.
TEST(Advantages, SpreadOfGroupsOfAnySize) {
  const GroupSizes groups(std::vector<int64_t>{2, 3, 1});
  const OptionalRewards rewards = {0.1, 0.1, std::nullopt, 2.0, std::nullopt, 5.0};
  EXPECT_EQ(without_spread(rewards, groups, RewardScale::group),
            (std::vector<bool>{true, true, false, false, false, true}));
  EXPECT_EQ(without_spread(rewards, groups, RewardScale::batch), std::vector<bool>(6, false));
}

// 0.1 seven times: their sum is not seven times 0.1, and still nothing is learned.
TEST(Advantages, EqualRewardsGiveExactlyZero) {
  const OptionalRewards rewards(7, 0.1);
  const std::vector<double> zeros(7, 0.0);
  const std::vector<int64_t> tokens(7, 1);
  for (const auto scale : {RewardScale::group, RewardScale::batch, RewardScale::none}) {
    EXPECT_EQ(group_advantages(rewards, 7, scale).values, zeros);
    EXPECT_EQ(pass_at_k_advantages(rewards, 7, scale), zeros);
  }
  EXPECT_EQ(
      gdpo_advantages(std::vector<OptionalRewards>(7, {0.1}), std::vector<double>{0.3}, 7).values,
      zeros);
  EXPECT_EQ(rloo_advantages(rewards, 7, /*normalize=*/true), zeros);
  EXPECT_EQ(opo_advantages(rewards, tokens, 7), zeros);
  EXPECT_EQ(reinforce_pp_advantages(rewards, tokens, {}, /*beta=*/0.0), TokenValues(7, {0.0}));
}

// token_advantages.h's cases.
TEST(TokenAdvantages, ReturnsLessThePenalty) {
  const auto made = reinforce_pp_advantages(OptionalRewards{3.0}, std::vector<int64_t>{2},
                                            {{1.0, 2.0}}, /*beta=*/1.0);
  const double half = 0.5 / std::sqrt(0.5 + 1e-8);
  expect_near(made.at(0), {-half, half});
}

// R − mean: −1, 1 over one and three tokens: mean ½, variance (2.25 + 3 · 0.25)/3 = 1.
TEST(TokenAdvantages, WhitenedOverAllTokens) {
  const auto made =
      reinforce_pp_baseline_advantages(OptionalRewards{1.0, 3.0}, std::vector<int64_t>{1, 3}, 2);
  const double root = std::sqrt(1 + 1e-8);
  expect_near(made.at(0), {-1.5 / root});
  expect_near(made.at(1), {0.5 / root, 0.5 / root, 0.5 / root});
}

TEST(TokenAdvantages, OfTheStepsThatAreStillToEnd) {
  const std::vector<std::vector<StepReward>> steps = {{{0, 1.0}, {2, 3.0}}, {{1, 2.0}}};
  const std::vector<int64_t> tokens = {3, 2};
  const double z = 1 / (1 + kSmall);
  const auto made = process_advantages(steps, tokens, 2, RewardScale::group);
  expect_near(made.at(0), {0, z, z});
  expect_near(made.at(1), {0, 0});
  expect_near(process_advantages(steps, tokens, 2, RewardScale::none).at(0), {0, 1, 1});
  EXPECT_THROW(process_advantages(steps, std::vector<int64_t>{2, 2}, 2, RewardScale::group), Error);
}

TEST(Advantages, WhatIsNoGroupIsAnError) {
  EXPECT_THROW(group_advantages(kRewards, 4, RewardScale::group), Error);
  EXPECT_THROW(group_advantages(kRewards, 0, RewardScale::group), Error);
  EXPECT_THROW(
      group_advantages(kRewards, GroupSizes(std::vector<int64_t>{4, 1}), RewardScale::group),
      Error);
  EXPECT_THROW(weigh_rewards(std::vector<OptionalRewards>{{NAN}}, std::vector<double>{1.0}), Error);
}

// Statistics of a group of one say nothing; evaluations may have such groups.
TEST(Advantages, AGroupOfOneIsAnError) {
  const GroupSizes groups(std::vector<int64_t>{5, 1});
  const std::vector<int64_t> tokens(6, 1);
  EXPECT_THROW(rloo_advantages(kRewards, groups, /*normalize=*/false), Error);
  EXPECT_THROW(opo_advantages(kRewards, tokens, groups), Error);
  EXPECT_THROW(pass_at_k_advantages(kRewards, groups, RewardScale::none), Error);
  EXPECT_THROW(reinforce_pp_baseline_advantages(kRewards, tokens, groups), Error);
  EXPECT_THROW(process_advantages(std::vector<std::vector<StepReward>>(6), tokens, groups,
                                  RewardScale::group),
               Error);
  expect_near(group_advantages(OptionalRewards{1.0, 3.0}, 1, RewardScale::group).values, {0, 0});
}

}  // namespace
}  // namespace rlhf
