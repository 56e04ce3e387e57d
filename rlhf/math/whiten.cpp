#include "rlhf/math/whiten.h"

#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr double kInRoot = 1e-8;

}  // namespace

TokenValues whitened(TokenValues values, std::span<const std::optional<double>> rewards,
                     WhitenedMean mean) {
  check(rewards.size() == values.size(), "whitened",
        "rewards of {} completions were expected, got {}.", values.size(), rewards.size());
  OptionalRewards every;
  for (size_t i = 0; i < values.size(); ++i) {
    if (rewards[i]) every.insert(every.end(), values[i].begin(), values[i].end());
  }
  const RewardMoments moments = reward_moments(every);
  const double deviation = moments.deviation.value_or(0.0);
  const double level = mean == WhitenedMean::kept ? moments.mean.value_or(0.0) : 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    for (double& value : values[i]) {
      const double distance =
          moments.deviation ? (value - *moments.mean) / std::sqrt(deviation * deviation + kInRoot)
                            : 0.0;
      value = rewards[i] ? distance + level : 0.0;
    }
  }
  return values;
}

}  // namespace rlhf
