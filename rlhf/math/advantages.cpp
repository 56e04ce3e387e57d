#include "rlhf/math/advantages.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/math/group_statistics.h"

namespace rlhf {
namespace {

using Rewards = std::span<const std::optional<double>>;

/// Calls fn(the group's number, its first completion, its rewards).
template <class Fn>
void for_each_group(Rewards rewards, const GroupSizes& groups, Fn fn) {
  size_t begin = 0;
  size_t number = 0;
  for (const int64_t size : groups.of(rewards.size())) {
    fn(number++, begin, rewards.subspan(begin, static_cast<size_t>(size)));
    begin += static_cast<size_t>(size);
  }
}

bool no_deviation(const RewardMoments& moments) {
  constexpr double kNone = 1e-8;  // torch.isclose
  return moments.deviation && *moments.deviation <= kNone;
}

/// The largest reward of `group` but for that at `without`; −∞ where there is none.
double best(Rewards group, size_t without) {
  double largest = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < group.size(); ++i) {
    if (group[i] && i != without) largest = std::max(largest, *group[i]);
  }
  return largest;
}

}  // namespace

std::vector<int64_t> GroupSizes::of(size_t completions) const {
  const auto count = static_cast<int64_t>(completions);
  std::vector<int64_t> sizes = sizes_;
  if (sizes.empty()) {
    check(generations_ > 0, "advantages", "groups of at least 1 completion were expected, got {}.",
          generations_);
    sizes.assign(completions / static_cast<size_t>(generations_), generations_);
  }
  int64_t held = 0;
  for (const int64_t size : sizes) {
    check(size > 0, "advantages", "groups of at least 1 completion were expected, got {}.", size);
    held += size;
  }
  check(held == count, "advantages", "whole groups of {} completions were expected, got {}.",
        generations_ > 0 ? fmt::to_string(generations_) : fmt::format("{}", fmt::join(sizes, ", ")),
        count);
  return sizes;
}

OptionalRewards weigh_rewards(std::span<const OptionalRewards> rewards,
                              std::span<const double> weights) {
  OptionalRewards sums;
  for (const auto& row : rewards) {
    check(row.size() == weights.size(), "rewards", "{} rewards were expected, got {}.",
          weights.size(), row.size());
    std::optional<double> sum;
    for (size_t k = 0; k < row.size(); ++k) {
      if (!row[k]) continue;
      check(std::isfinite(*row[k]), "rewards", "a finite reward was expected, got {}.", *row[k]);
      sum = sum.value_or(0.0) + weights[k] * *row[k];
    }
    sums.push_back(sum);
  }
  return sums;
}

OptionalRewards penalised_rewards(Rewards rewards, std::optional<std::pair<double, double>> range,
                                  std::span<const double> kl, double beta) {
  check(!range || range->first <= range->second, "rewards",
        "a range from low to high was expected, got {} to {}.", range ? range->first : 0.0,
        range ? range->second : 0.0);
  check(beta == 0.0 || kl.size() == rewards.size(), "rewards", "{} KL sums were expected, got {}.",
        rewards.size(), kl.size());
  OptionalRewards made(rewards.begin(), rewards.end());
  for (size_t i = 0; i < made.size(); ++i) {
    if (!made[i]) continue;
    if (range) made[i] = std::clamp(*made[i], range->first, range->second);
    if (beta != 0.0) *made[i] -= beta * kl[i];
  }
  return made;
}

RewardMoments reward_moments(Rewards rewards) {
  double sum = 0.0;
  double count = 0.0;
  for (const auto& reward : rewards) {
    if (!reward) continue;
    sum += *reward;
    count += 1.0;
  }
  if (count == 0.0) return {};
  if (all_equal(rewards)) {
    // Exactly, whatever rounding makes of the sum.
    const auto first = *std::find_if(rewards.begin(), rewards.end(),
                                     [](const auto& reward) { return reward.has_value(); });
    return {.mean = first, .deviation = count < 2.0 ? std::nullopt : std::optional(0.0)};
  }
  const double mean = sum / count;
  double squares = 0.0;
  for (const auto& reward : rewards) {
    if (reward) squares += (*reward - mean) * (*reward - mean);
  }
  return {.mean = mean, .deviation = std::sqrt(squares / (count - 1.0))};
}

std::vector<bool> without_spread(Rewards rewards, const GroupSizes& groups, RewardScale scale) {
  std::vector<bool> flags;
  const RewardMoments all = reward_moments(rewards);
  for_each_group(rewards, groups, [&](size_t, size_t, Rewards group) {
    const auto one = [](Rewards several) { return several.size() == 1; };
    const bool none = scale == RewardScale::batch
                          ? one(rewards) || no_deviation(all)
                          : one(group) || no_deviation(reward_moments(group));
    flags.insert(flags.end(), group.size(), none);
  });
  return flags;
}

GroupAdvantages group_advantages(Rewards rewards, const GroupSizes& groups, RewardScale scale) {
  GroupAdvantages made{.values = std::vector<double>(rewards.size(), 0.0),
                       .no_spread = without_spread(rewards, groups, scale)};
  const RewardMoments all = reward_moments(rewards);
  for_each_group(rewards, groups, [&](size_t, size_t begin, Rewards group) {
    const RewardMoments own = reward_moments(group);
    for (size_t i = 0; i < group.size(); ++i) {
      if (group[i]) made.values[begin + i] = scaled(*group[i] - *own.mean, own, all, scale);
    }
  });
  return made;
}

GroupAdvantages gdpo_advantages(std::span<const OptionalRewards> rewards,
                                std::span<const double> weights, const GroupSizes& groups) {
  std::vector<OptionalRewards> standards(rewards.size(), OptionalRewards(weights.size()));
  for (size_t k = 0; k < weights.size(); ++k) {
    OptionalRewards column;
    for (const auto& row : rewards) column.push_back(row.at(k));
    for_each_group(column, groups, [&](size_t, size_t begin, Rewards group) {
      const RewardMoments own = reward_moments(group);
      for (size_t i = 0; i < group.size(); ++i) {
        if (group[i] && own.deviation) standards[begin + i][k] = standard(*group[i], own);
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
  for (const auto& sum : sums) made.values.push_back(sum ? standard(*sum, all) : 0.0);
  made.no_spread.assign(sums.size(), no_deviation(all));
  return made;
}

std::vector<double> rloo_advantages(Rewards rewards, const GroupSizes& groups, bool normalize) {
  check_comparable(groups.of(rewards.size()));
  OptionalRewards raw(rewards.size());
  for_each_group(rewards, groups, [&](size_t, size_t begin, Rewards group) {
    double sum = 0.0;
    double count = 0.0;
    for (const auto& reward : group) {
      if (!reward) continue;
      sum += *reward;
      count += 1.0;
    }
    if (count < 2.0) return;
    const bool flat = all_equal(group);
    for (size_t i = 0; i < group.size(); ++i) {
      if (group[i]) raw[begin + i] = flat ? 0.0 : *group[i] - (sum - *group[i]) / (count - 1.0);
    }
  });
  const RewardMoments all = reward_moments(raw);
  std::vector<double> values;
  for (const auto& value : raw)
    values.push_back(value && normalize ? standard(*value, all) : value.value_or(0.0));
  return values;
}

std::vector<double> opo_advantages(Rewards rewards, std::span<const int64_t> tokens,
                                   const GroupSizes& groups) {
  check_comparable(groups.of(rewards.size()));
  check(rewards.size() == tokens.size(), "advantages", "{} lengths were expected, got {}.",
        rewards.size(), tokens.size());
  std::vector<double> values(rewards.size(), 0.0);
  for_each_group(rewards, groups, [&](size_t, size_t begin, Rewards group) {
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

std::vector<double> remax_advantages(Rewards rewards, Rewards greedy, const GroupSizes& groups) {
  const size_t count = groups.of(rewards.size()).size();
  check(greedy.size() == count, "advantages",
        "a greedy completion's reward for each of {} groups was expected, got {}.", count,
        greedy.size());
  std::vector<double> values(rewards.size(), 0.0);
  for_each_group(rewards, groups, [&](size_t number, size_t begin, Rewards group) {
    for (size_t i = 0; i < group.size(); ++i) {
      if (group[i] && greedy[number]) values[begin + i] = *group[i] - *greedy[number];
    }
  });
  return values;
}

std::vector<double> pass_at_k_advantages(Rewards rewards, const GroupSizes& groups,
                                         RewardScale scale) {
  check_comparable(groups.of(rewards.size()));
  std::vector<double> values(rewards.size(), 0.0);
  const RewardMoments all = reward_moments(rewards);
  for_each_group(rewards, groups, [&](size_t, size_t begin, Rewards group) {
    const RewardMoments own = reward_moments(group);
    if (!own.deviation) return;
    const double largest = best(group, /*without=*/group.size());
    for (size_t i = 0; i < group.size(); ++i) {
      if (group[i]) values[begin + i] = scaled(largest - best(group, i), own, all, scale);
    }
  });
  return values;
}

}  // namespace rlhf
