#include "rlhf/math/token_advantages.h"

#include "rlhf/core/error.h"
#include "rlhf/math/group_statistics.h"
#include "rlhf/math/whiten.h"

namespace rlhf {
namespace {

using Rewards = std::span<const std::optional<double>>;

void check_lengths(size_t completions, std::span<const int64_t> tokens) {
  check(tokens.size() == completions, "advantages", "{} lengths were expected, got {}.",
        completions, tokens.size());
}

/// Tokens of completion i.
size_t length(std::span<const int64_t> tokens, size_t i) {
  check(tokens[i] >= 0, "advantages", "a length of at least 0 was expected, got {}.", tokens[i]);
  return static_cast<size_t>(tokens[i]);
}

}  // namespace

TokenValues reinforce_pp_advantages(Rewards rewards, std::span<const int64_t> tokens,
                                    const TokenValues& kl, double beta, double gamma) {
  check_lengths(rewards.size(), tokens);
  check(gamma >= 0 && gamma <= 1, "advantages", "a gamma in [0, 1] was expected, got {}.", gamma);
  check(beta == 0.0 || kl.size() == rewards.size(), "advantages",
        "KL of {} completions was expected, got {}.", rewards.size(), kl.size());
  TokenValues returns;
  for (size_t i = 0; i < rewards.size(); ++i) {
    std::vector<double> row(length(tokens, i), 0.0);
    check(beta == 0.0 || kl[i].size() == row.size(), "advantages",
          "KL of {} tokens was expected, got {}.", row.size(), beta == 0.0 ? 0 : kl[i].size());
    double later = 0.0;
    for (size_t t = row.size(); t-- > 0;) {
      const double own = t + 1 == row.size() ? rewards[i].value_or(0.0) : gamma * later;
      row[t] = later = own - (beta == 0.0 ? 0.0 : beta * kl[i][t]);
    }
    returns.push_back(std::move(row));
  }
  return whitened(std::move(returns), rewards);
}

TokenValues reinforce_pp_baseline_advantages(Rewards rewards, std::span<const int64_t> tokens,
                                             const GroupSizes& groups) {
  check_lengths(rewards.size(), tokens);
  check_comparable(groups.of(rewards.size()));
  const auto centred = group_advantages(rewards, groups, RewardScale::none).values;
  TokenValues returns;
  for (size_t i = 0; i < centred.size(); ++i) returns.emplace_back(length(tokens, i), centred[i]);
  return whitened(std::move(returns), rewards);
}

TokenValues process_advantages(std::span<const std::vector<StepReward>> steps,
                               std::span<const int64_t> tokens, const GroupSizes& groups,
                               RewardScale scale) {
  check_lengths(steps.size(), tokens);
  const auto sizes = groups.of(steps.size());
  check_comparable(sizes);
  const auto rewards_of = [&](size_t begin, size_t end) {
    OptionalRewards rewards;
    for (size_t i = begin; i < end; ++i) {
      for (const auto& step : steps[i]) rewards.push_back(step.reward);
    }
    return rewards;
  };
  const RewardMoments all = reward_moments(rewards_of(0, steps.size()));
  TokenValues advantages;
  for (const int64_t size : sizes) {
    const size_t begin = advantages.size();
    const size_t end = begin + static_cast<size_t>(size);
    const RewardMoments own = reward_moments(rewards_of(begin, end));
    for (size_t i = begin; i < end; ++i) {
      std::vector<double> row(length(tokens, i), 0.0);
      for (const auto& step : steps[i]) {
        check(step.last_token >= 0 && step.last_token < tokens[i], "advantages",
              "a step that ends within {} tokens was expected, got token {}.", tokens[i],
              step.last_token);
        if (!step.reward) continue;
        const double value = scaled(*step.reward - *own.mean, own, all, scale);
        row[static_cast<size_t>(step.last_token)] += value;
      }
      for (size_t t = row.size(); t-- > 1;) row[t - 1] += row[t];
      advantages.push_back(std::move(row));
    }
  }
  return advantages;
}

}  // namespace rlhf
