#include "rlhf/train/rloo.h"

#include <algorithm>
#include <numeric>

#include "rlhf/losses/rloo.h"
#include "rlhf/math/token_advantages.h"
#include "rlhf/train/policy_gradient.h"

namespace rlhf {
namespace {

/// What the estimators read of the completions of a rollout.
struct Drawn {
  OptionalRewards rewards;  ///< clipped
  std::vector<int64_t> tokens;
  TokenValues kl;          ///< log π_old − log π_ref of each token; empty without a reference
  OptionalRewards greedy;  ///< of each group, clipped
  int64_t generations = 0;

  std::vector<double> kl_sums() const {
    std::vector<double> sums;
    for (const auto& row : kl) sums.push_back(std::accumulate(row.begin(), row.end(), 0.0));
    return sums;
  }
  /// R'.
  OptionalRewards penalised(double beta) const {
    return penalised_rewards(rewards, std::nullopt, kl_sums(), beta);
  }
};

/// k1 of the completion's tokens that are trained on; zeros where it is none of them, and in
/// evaluations, which have no log-probabilities.
std::vector<double> kl_of(const Sample& sample, bool counts) {
  std::vector<double> kl(sample.ids.size(), 0.0);
  if (!counts) return kl;
  std::transform(sample.old_logprobs.begin(), sample.old_logprobs.end(),
                 sample.ref_logprobs.begin(), kl.begin(),
                 [](float own, float other) { return double{own} - double{other}; });
  return kl;
}

Drawn read_drawn(const RlooOptions& options, const std::vector<Group>& groups) {
  Drawn drawn;
  OptionalRewards greedy;
  for (const auto& group : groups) {
    greedy.push_back(group.greedy_reward);
    for (const auto& sample : group.samples) {
      const bool counts = sample.counts(options.rollout.mask_truncated_completions);
      drawn.tokens.push_back(sample.tokens());
      if (options.beta > 0) drawn.kl.push_back(kl_of(sample, counts));
    }
  }
  const auto range = options.clip_range();
  drawn.rewards = penalised_rewards(rewards_of(groups), range, {}, 0.0);
  drawn.greedy = penalised_rewards(greedy, range, {}, 0.0);
  drawn.generations = std::ssize(groups.front().samples);
  return drawn;
}

/// The same advantage for every token of a completion.
TokenValues spread_over(std::span<const int64_t> tokens, const std::vector<double>& values) {
  TokenValues rows;
  for (size_t i = 0; i < values.size(); ++i)
    rows.emplace_back(static_cast<size_t>(tokens[i]), values[i]);
  return rows;
}

TokenValues advantages_of(const RlooOptions& options, const Drawn& drawn) {
  const auto rewards = drawn.penalised(options.beta);
  switch (options.advantage_estimator) {
    case AdvantageEstimator::reinforce_plus_plus:
      return reinforce_pp_advantages(drawn.rewards, drawn.tokens, drawn.kl, options.beta,
                                     options.gamma);
    case AdvantageEstimator::reinforce_plus_plus_baseline:
      return reinforce_pp_baseline_advantages(rewards, drawn.tokens, drawn.generations);
    case AdvantageEstimator::remax:
      return spread_over(drawn.tokens, remax_advantages(rewards, drawn.greedy, drawn.generations));
    case AdvantageEstimator::opo:
      return spread_over(drawn.tokens, opo_advantages(rewards, drawn.tokens, drawn.generations));
    case AdvantageEstimator::rloo:
      break;
  }
  return spread_over(drawn.tokens,
                     rloo_advantages(rewards, drawn.generations, options.normalize_advantages));
}

/// Mean KL of a token that counts.
double mean_kl(const RlooOptions& options, const std::vector<Group>& groups, const Drawn& drawn) {
  double tokens = 0.0;
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) {
      const bool counts = sample.counts(options.rollout.mask_truncated_completions);
      tokens += counts ? static_cast<double>(sample.tokens()) : 0.0;
    }
  }
  const auto sums = drawn.kl_sums();
  return std::accumulate(sums.begin(), sums.end(), 0.0) / std::max(1.0, tokens);
}

void set_advantages(const RlooOptions& options, std::vector<Group>& groups, Metrics& metrics) {
  const Drawn drawn = read_drawn(options, groups);
  const auto advantages = advantages_of(options, drawn);
  size_t next = 0;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      const auto& row = advantages[next++];
      sample.advantages.assign(row.begin(), row.end());
    }
  }
  if (options.beta > 0) metrics.emplace_back("kl", mean_kl(options, groups, drawn));
}

/// The surrogate's step is GRPO's with other options.
GrpoConfig with_surrogate(const RlooConfig& config) {
  const RlooOptions& rloo = config.rloo;
  GrpoConfig made;
  static_cast<CommonConfig&>(made) = config;
  made.grpo.rollout = rloo.rollout;
  made.grpo.loss = rloo_options(rloo.epsilon, rloo.epsilon_high);
  if (rloo.advantage_estimator != AdvantageEstimator::rloo) {
    made.grpo.loss.loss_type = PolicyLoss::bnpo;
    made.grpo.loss.importance_sampling_level = ImportanceLevel::token;
  }
  return made;
}

}  // namespace

TrainResult train_rloo(RlooConfig config, const TrainHooks& hooks) {
  const RlooOptions& options = config.rloo;
  const PolicyGradientMethod method{
      .name = "rloo",
      .config_table = resolved_table(config),
      .config_yaml = yaml_of(config),
      .kl = options.beta > 0 ? KlTerm::reward : KlTerm::none,
      .greedy_baseline = options.advantage_estimator == AdvantageEstimator::remax,
      .set_advantages = [&options](std::vector<Group>& groups, const std::vector<double>&,
                                   Metrics& metrics) { set_advantages(options, groups, metrics); },
      .without_spread =
          [&options](const std::vector<Group>& groups, const std::vector<double>&) {
            const Drawn drawn = read_drawn(options, groups);
            const bool grouped = needs_group(options.advantage_estimator);
            return without_spread(drawn.penalised(options.beta), drawn.generations,
                                  grouped ? RewardScale::group : RewardScale::batch);
          }};
  return train_policy_gradient(with_surrogate(config), method, hooks);
}

}  // namespace rlhf
