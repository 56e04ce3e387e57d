// What the estimators of advantages share: a deviation with something beside it, and the check that
// a group can be compared with itself.
#pragma once

#include <span>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/math/advantages.h"

namespace rlhf {

inline constexpr double kBesideDeviation = 1e-4;  ///< TRL's

/// Error for a group of one.
inline void check_comparable(const std::vector<int64_t>& sizes) {
  for (const int64_t size : sizes) {
    if (size < 2) {
      fail("advantages",
           fmt::format("groups of at least 2 completions were expected, got one of {}.", size),
           "sample more completions of a prompt, or use an estimator without a group (remax).");
    }
  }
}

/// Whether all rewards that are there are equal.
inline bool all_equal(std::span<const std::optional<double>> rewards) {
  std::optional<double> first;
  for (const auto& reward : rewards) {
    if (!reward) continue;
    if (!first) first = reward;
    if (*reward != *first) return false;
  }
  return true;
}

/// (R − mean) / (deviation + 1e−4); 0 where there is no deviation to divide by.
inline double standard(double reward, const RewardMoments& moments) {
  if (!moments.deviation) return 0.0;
  return (reward - *moments.mean) / (*moments.deviation + kBesideDeviation);
}

/// `difference` over the deviation that `scale` names, of the group or of all.
inline double scaled(double difference, const RewardMoments& own, const RewardMoments& all,
                     RewardScale scale) {
  if (scale == RewardScale::none) return difference;
  const RewardMoments& used = scale == RewardScale::group ? own : all;
  return used.deviation ? difference / (*used.deviation + kBesideDeviation) : 0.0;
}

}  // namespace rlhf
