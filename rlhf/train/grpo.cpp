#include "rlhf/train/grpo.h"

#include "rlhf/math/advantages.h"
#include "rlhf/train/policy_gradient.h"

namespace rlhf {
namespace {

/// Rewards by judge of each completion that has a reward; none of the others.
std::vector<OptionalRewards> by_judge(const std::vector<Group>& groups, size_t judges) {
  std::vector<OptionalRewards> rewards;
  for (const auto& group : groups) {
    for (const auto& sample : group.samples)
      rewards.push_back(sample.reward ? sample.rewards : OptionalRewards(judges));
  }
  return rewards;
}

GroupAdvantages advantages_of(const GrpoOptions& options, const std::vector<double>& weights,
                              const std::vector<Group>& groups) {
  const auto generations = std::ssize(groups.front().samples);
  if (options.multi_objective_aggregation == RewardAggregation::normalize_then_sum)
    return gdpo_advantages(by_judge(groups, weights.size()), weights, generations);
  const auto rewards = rewards_of(groups);
  auto advantages = group_advantages(rewards, generations, options.scale_rewards);
  if (options.advantage_estimator == GroupEstimator::grpo_passk)
    advantages.values = pass_at_k_advantages(rewards, generations, options.scale_rewards);
  return advantages;
}

}  // namespace

TrainResult train_grpo(GrpoConfig config, const TrainHooks& hooks) {
  const GrpoOptions options = config.grpo;
  const PolicyGradientMethod method{
      .name = "grpo",
      .config_yaml = resolved_yaml(config),
      .config_table = resolved_table(config),
      .kl = options.loss.beta > 0 ? KlTerm::loss : KlTerm::none,
      .set_advantages =
          [&options](std::vector<Group>& groups, const std::vector<double>& weights, Metrics&) {
            const auto values = advantages_of(options, weights, groups).values;
            size_t next = 0;
            for (auto& group : groups) {
              for (auto& sample : group.samples)
                sample.advantages.assign(sample.ids.size(), static_cast<float>(values[next++]));
            }
          },
      .without_spread =
          [&options](const std::vector<Group>& groups, const std::vector<double>& weights) {
            return advantages_of(options, weights, groups).no_spread;
          }};
  return train_policy_gradient(std::move(config), method, hooks);
}

}  // namespace rlhf
