#include "rlhf/train/grpo.h"

#include <algorithm>

#include "rlhf/math/token_advantages.h"
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

/// Weighted sums of rewards: of all judges but the process reward model, which is the last.
OptionalRewards outcomes_of(const std::vector<Group>& groups, std::vector<double> weights) {
  weights.back() = 0.0;
  auto rewards = by_judge(groups, weights.size());
  for (auto& row : rewards) row.back() = std::nullopt;
  return weigh_rewards(rewards, weights);
}

bool has_steps(const std::vector<Group>& groups) {
  return std::any_of(groups.begin(), groups.end(), [](const Group& group) {
    return std::any_of(group.samples.begin(), group.samples.end(),
                       [](const Sample& sample) { return !sample.steps.empty(); });
  });
}

GroupAdvantages advantages_of(const GrpoOptions& options, const std::vector<double>& weights,
                              const std::vector<Group>& groups, const OptionalRewards& rewards) {
  const auto generations = std::ssize(groups.front().samples);
  if (options.multi_objective_aggregation == RewardAggregation::normalize_then_sum)
    return gdpo_advantages(by_judge(groups, weights.size()), weights, generations);
  auto advantages = group_advantages(rewards, generations, options.scale_rewards);
  if (options.advantage_estimator == GroupEstimator::grpo_passk)
    advantages.values = pass_at_k_advantages(rewards, generations, options.scale_rewards);
  return advantages;
}

/// Groups of one, which evaluations may have, are no estimator's business here.
std::vector<bool> flat_groups(const GrpoOptions& options, const std::vector<double>& weights,
                              const std::vector<Group>& groups) {
  const auto generations = std::ssize(groups.front().samples);
  if (options.multi_objective_aggregation == RewardAggregation::normalize_then_sum &&
      generations > 1)
    return gdpo_advantages(by_judge(groups, weights.size()), weights, generations).no_spread;
  return without_spread(rewards_of(groups), generations, options.scale_rewards);
}

/// Of tokens, by the rewards of steps; a completion that a failure took out has none.
TokenValues step_advantages(const GrpoOptions& options, const std::vector<Group>& groups) {
  std::vector<std::vector<StepReward>> steps;
  std::vector<int64_t> tokens;
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) {
      steps.push_back(sample.reward ? sample.steps : std::vector<StepReward>{});
      tokens.push_back(sample.tokens());
    }
  }
  return process_advantages(steps, tokens, std::ssize(groups.front().samples),
                            options.scale_rewards);
}

/// The advantage of a completion is that of its outcome for every token, and where steps are judged
/// that of the steps at or behind a token, times the weight of their judge.
void set_advantages(const GrpoOptions& options, const std::vector<double>& weights,
                    std::vector<Group>& groups) {
  const bool stepwise = has_steps(groups);
  const auto rewards = stepwise ? outcomes_of(groups, weights) : rewards_of(groups);
  const auto values = advantages_of(options, weights, groups, rewards).values;
  const TokenValues by_step = stepwise ? step_advantages(options, groups) : TokenValues();
  size_t next = 0;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      sample.advantages.assign(sample.ids.size(), static_cast<float>(values[next]));
      for (size_t t = 0; stepwise && t < sample.advantages.size(); ++t)
        sample.advantages[t] += static_cast<float>(weights.back() * by_step[next][t]);
      ++next;
    }
  }
}

}  // namespace

TrainResult train_grpo(GrpoConfig config, const TrainHooks& hooks) {
  const GrpoOptions options = config.grpo;
  const PolicyGradientMethod method{
      .name = "grpo",
      .config_table = resolved_table(config),
      .config_yaml = yaml_of(config),
      .kl = options.loss.beta > 0 ? KlTerm::loss : KlTerm::none,
      .set_advantages = [&options](std::vector<Group>& groups, const std::vector<double>& weights,
                                   Metrics&) { set_advantages(options, weights, groups); },
      .without_spread =
          [&options](const std::vector<Group>& groups, const std::vector<double>& weights) {
            return flat_groups(options, weights, groups);
          }};
  return train_policy_gradient(std::move(config), method, hooks);
}

}  // namespace rlhf
