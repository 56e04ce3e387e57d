#include "rlhf/math/advantages.h"

#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr double kSmall = 1e-4;     // beside a standard deviation, as in TRL
constexpr double kNoSpread = 1e-8;  // a deviation below this is none (torch.isclose)

void check_groups(size_t completions, int64_t generations) {
  check(generations > 0 && static_cast<int64_t>(completions) % generations == 0, "advantages",
        "whole groups of {} were expected, got {} completions.", generations, completions);
}

/// Whether all rewards that are there are equal: their deviation is 0 whatever rounding says.
bool all_equal(std::span<const std::optional<double>> rewards) {
  std::optional<double> first;
  for (const auto& reward : rewards) {
    if (!reward) continue;
    if (!first) first = reward;
    if (*reward != *first) return false;
  }
  return true;
}

/// (R − mean) / (deviation + 1e−4); 0 where there is no reward, or no deviation to divide by.
double standard(const std::optional<double>& reward, const RewardMoments& moments) {
  if (!reward || !moments.deviation) return 0.0;
  return (*reward - *moments.mean) / (*moments.deviation + kSmall);
}

bool without_spread(const RewardMoments& moments) {
  return moments.deviation && *moments.deviation <= kNoSpread;
}

/// Calls fn(first completion, the group's rewards).
template <class Fn>
void for_each_group(std::span<const std::optional<double>> rewards, int64_t generations, Fn fn) {
  check_groups(rewards.size(), generations);
  const auto size = static_cast<size_t>(generations);
  for (size_t begin = 0; begin < rewards.size(); begin += size)
    fn(begin, rewards.subspan(begin, size));
}

}  // namespace

OptionalRewards weigh_rewards(std::span<const OptionalRewards> rewards,
                              std::span<const double> weights) {
  OptionalRewards sums;
  for (const auto& row : rewards) {
    check(row.size() == weights.size(), "rewards", "{} rewards were expected, got {}.",
          weights.size(), row.size());
    std::optional<double> sum;
    for (size_t k = 0; k < row.size(); ++k) {
      if (row[k]) sum = sum.value_or(0.0) + weights[k] * *row[k];
    }
    sums.push_back(sum);
  }
  return sums;
}

RewardMoments reward_moments(std::span<const std::optional<double>> rewards) {
  double sum = 0.0;
  double count = 0.0;
  for (const auto& reward : rewards) {
    if (!reward) continue;
    sum += *reward;
    count += 1.0;
  }
  if (count == 0.0) return {};
  const double mean = sum / count;
  if (count < 2.0) return {.mean = mean, .deviation = std::nullopt};
  if (all_equal(rewards)) return {.mean = mean, .deviation = 0.0};
  double squares = 0.0;
  for (const auto& reward : rewards) {
    if (reward) squares += (*reward - mean) * (*reward - mean);
  }
  return {.mean = mean, .deviation = std::sqrt(squares / (count - 1.0))};
}

GroupAdvantages group_advantages(std::span<const std::optional<double>> rewards,
                                 int64_t generations, RewardScale scale) {
  GroupAdvantages made{.values = std::vector<double>(rewards.size(), 0.0),
                       .no_spread = std::vector<bool>(rewards.size(), false)};
  const RewardMoments all = reward_moments(rewards);
  for_each_group(rewards, generations, [&](size_t begin, auto group) {
    const RewardMoments own = reward_moments(group);
    const bool flat = all_equal(group);
    RewardMoments used = own;
    if (scale == RewardScale::batch) used.deviation = all.deviation;
    for (size_t i = 0; i < group.size(); ++i) {
      double& value = made.values[begin + i];
      if (flat || !group[i]) {
        value = 0.0;
      } else if (scale == RewardScale::none) {
        value = *group[i] - *own.mean;
      } else {
        value = standard(group[i], used);
      }
      made.no_spread[begin + i] = without_spread(used);
    }
  });
  return made;
}

GroupAdvantages gdpo_advantages(std::span<const OptionalRewards> rewards,
                                std::span<const double> weights, int64_t generations) {
  check_groups(rewards.size(), generations);
  std::vector<OptionalRewards> standards(rewards.size(), OptionalRewards(weights.size()));
  for (size_t k = 0; k < weights.size(); ++k) {
    OptionalRewards column;
    for (const auto& row : rewards) column.push_back(row.at(k));
    for_each_group(column, generations, [&](size_t begin, auto group) {
      const RewardMoments own = reward_moments(group);
      for (size_t i = 0; i < group.size(); ++i) {
        if (group[i] && own.deviation) standards[begin + i][k] = standard(group[i], own);
      }
    });
  }
  auto sums = weigh_rewards(standards, weights);
  // A rated completion whose judges have no deviation to divide by counts as 0, as in TRL.
  for (size_t i = 0; i < rewards.size(); ++i) {
    const bool rated = reward_moments(rewards[i]).mean.has_value();
    if (rated && !sums[i]) sums[i] = 0.0;
  }
  const RewardMoments all = reward_moments(sums);
  GroupAdvantages made;
  for (const auto& sum : sums) {
    made.values.push_back(standard(sum, all));
    made.no_spread.push_back(without_spread(all));
  }
  return made;
}

std::vector<double> rloo_advantages(std::span<const std::optional<double>> rewards,
                                    int64_t generations, bool normalize) {
  OptionalRewards raw(rewards.size());
  for_each_group(rewards, generations, [&](size_t begin, auto group) {
    double sum = 0.0;
    double count = 0.0;
    for (const auto& reward : group) {
      if (!reward) continue;
      sum += *reward;
      count += 1.0;
    }
    const bool flat = all_equal(group);
    for (size_t i = 0; i < group.size(); ++i) {
      if (!group[i]) continue;
      if (flat || count < 2.0) {
        raw[begin + i] = 0.0;
      } else {
        raw[begin + i] = *group[i] - (sum - *group[i]) / (count - 1.0);
      }
    }
  });
  const RewardMoments all = reward_moments(raw);
  std::vector<double> values;
  for (const auto& value : raw)
    values.push_back(normalize ? standard(value, all) : value.value_or(0.0));
  return values;
}

std::vector<double> opo_advantages(std::span<const std::optional<double>> rewards,
                                   std::span<const int64_t> tokens, int64_t generations) {
  check(rewards.size() == tokens.size(), "advantages", "{} lengths were expected, got {}.",
        rewards.size(), tokens.size());
  std::vector<double> values(rewards.size(), 0.0);
  for_each_group(rewards, generations, [&](size_t begin, auto group) {
    double weighted = 0.0;
    double length = 0.0;
    for (size_t i = 0; i < group.size(); ++i) {
      if (!group[i]) continue;
      weighted += static_cast<double>(tokens[begin + i]) * *group[i];
      length += static_cast<double>(tokens[begin + i]);
    }
    if (all_equal(group) || length == 0.0) return;
    for (size_t i = 0; i < group.size(); ++i) {
      if (group[i]) values[begin + i] = *group[i] - weighted / length;
    }
  });
  return values;
}

}  // namespace rlhf
