#include "rlhf/train/ppo.h"

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/math/adaptive_kl.h"
#include "rlhf/math/gae.h"
#include "rlhf/math/token_rewards.h"
#include "rlhf/math/whiten.h"
#include "rlhf/models/classifier.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/policy_gradient.h"

namespace rlhf {
namespace {

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// What the mathematics reads of a rollout's completions.
struct Drawn {
  OptionalRewards scores;
  std::vector<bool> stopped;
  std::vector<int64_t> tokens;
  TokenValues old_logprobs;
  TokenValues ref_logprobs;
  TokenValues values;
};

Drawn read_drawn(const std::vector<Group>& groups) {
  Drawn drawn{.scores = rewards_of(groups),
              .stopped = {},
              .tokens = {},
              .old_logprobs = {},
              .ref_logprobs = {},
              .values = {}};
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) {
      drawn.stopped.push_back(!sample.truncated);
      drawn.tokens.push_back(sample.tokens());
      drawn.old_logprobs.push_back(doubles(sample.old_logprobs));
      drawn.ref_logprobs.push_back(doubles(sample.ref_logprobs));
      drawn.values.push_back(doubles(sample.values));
    }
  }
  return drawn;
}

/// Means over the completions that have a score, under TRL's names.
void note_objective(const Drawn& drawn, const OptionalRewards& scores, const TokenValues& kl,
                    double beta, Metrics& metrics) {
  double count = 0.0;
  double kl_sum = 0.0;
  double score_sum = 0.0;
  double entropy = 0.0;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!scores[i]) continue;
    count += 1.0;
    score_sum += *scores[i];
    kl_sum += kl.empty() ? 0.0 : sum_of(kl[i]);
    entropy -= sum_of(drawn.old_logprobs[i]);
  }
  count = std::max(1.0, count);
  if (!kl.empty()) metrics.emplace_back("objective/kl", kl_sum / count);
  metrics.emplace_back("objective/entropy", entropy / count);
  metrics.emplace_back("objective/non_score_reward", -beta * kl_sum / count);
  metrics.emplace_back("objective/scores", score_sum / count);
  metrics.emplace_back("objective/rlhf_reward", (score_sum - beta * kl_sum) / count);
  metrics.emplace_back("objective/kl_coef", beta);
  metrics.emplace_back(
      "val/num_eos_tokens",
      static_cast<double>(std::count(drawn.stopped.begin(), drawn.stopped.end(), true)));
}

/// The coefficient follows the KL of a rollout.
void follow(const PpoOptions& options, const TokenValues& kl, KlControl& control) {
  if (kl.empty()) return;
  double kl_sum = 0.0;
  for (const auto& row : kl) kl_sum += sum_of(row);
  control.follow({.target = options.kl_target, .horizon = options.kl_horizon},
                 kl_sum / static_cast<double>(kl.size()), std::ssize(kl));
}

/// Advantages and returns of a rollout. In the reward the coefficient acts on the rollout as it
/// stood and follows its KL then; in the loss it follows first, and acts in the rollout's steps.
void set_advantages(const PpoOptions& options, const ScoreShaping& shaping, KlControl& control,
                    std::vector<Group>& groups, Metrics& metrics) {
  const Drawn drawn = read_drawn(groups);
  const OptionalRewards scores = shaped_scores(drawn.scores, drawn.stopped, shaping);
  const TokenValues kl =
      options.kl_coef > 0 ? token_kl(options.kl_estimator, drawn.old_logprobs, drawn.ref_logprobs)
                          : TokenValues();
  if (options.use_kl_loss) follow(options, kl, control);
  const double beta = control.coefficient;
  auto rewards = token_rewards(scores, drawn.tokens, kl, options.use_kl_loss ? 0.0 : beta);
  if (options.whiten_rewards) rewards = whitened(rewards, scores, WhitenedMean::kept);
  const Gae found = gae(rewards, drawn.values, scores, options.gamma, options.lam);
  const TokenValues advantages = whitened(found.advantages, scores);
  size_t next = 0;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      sample.advantages.assign(advantages[next].begin(), advantages[next].end());
      sample.returns.assign(found.returns[next].begin(), found.returns[next].end());
      ++next;
    }
  }
  note_objective(drawn, scores, kl, beta, metrics);
  if (!options.use_kl_loss) follow(options, kl, control);
}

/// `beta`: of the KL term in the loss; 0: there is none.
Metrics step_metrics(const GrpoStepResult& result, double beta) {
  const PolicyMetrics& sums = result.sums;
  const double tokens = std::max(1.0, sums.tokens);
  const double ratio = sums.ratio_sum / tokens;
  const double kl = sums.kl / tokens;
  Metrics metrics = {{"policy/approxkl_avg", 0.5 * sums.log_ratio_squares / tokens},
                     {"policy/clipfrac_avg", (sums.low + sums.high) / std::max(1.0, sums.ratios)},
                     {"policy/entropy_avg", result.entropy},
                     {"loss/policy_avg", result.loss - beta * kl},
                     {"val/ratio", ratio},
                     {"val/ratio_var", std::max(0.0, sums.ratio_squares / tokens - ratio * ratio)}};
  if (beta > 0) metrics.emplace_back("loss/kl_avg", kl);
  return metrics;
}

KlTerm kl_term(const PpoOptions& options) {
  if (options.kl_coef == 0) return KlTerm::none;
  return options.use_kl_loss ? KlTerm::loss : KlTerm::reward;
}

ScoreShaping shaping_of(const PpoOptions& options) {
  ScoreShaping shaping{.moments = {},
                       .range = options.clip_range(),
                       .missing_eos_penalty = options.missing_eos_penalty};
  if (!options.normalize_scores) return shaping;
  const std::string& folder = *options.rollout.reward_model_name_or_path;
  if (!fs::exists(folder)) return shaping;  // the judges say so
  const auto statistics = load_reward_statistics(folder);
  if (!statistics) {
    throw UserError(
        "normalize_scores",
        fmt::format("reward_mean and reward_std in {} were expected, there are none.", folder),
        "rlhf reward writes them into config.json, of an adapter into "
        "classifier_config.json.");
  }
  shaping.moments = {.mean = statistics->mean, .deviation = statistics->std};
  return shaping;
}

/// Steps of the run: a rollout is followed by num_ppo_epochs × num_mini_batches of them.
int64_t steps_of(const PpoConfig& config) {
  if (!config.ppo.total_episodes) return config.training.max_steps;
  const int64_t prompts =
      completions_per_step(config.training) / config.ppo.rollout.num_generations;
  const int64_t rollouts = (*config.ppo.total_episodes + prompts - 1) / prompts;
  return rollouts * config.ppo.num_ppo_epochs * config.ppo.num_mini_batches;
}

/// The surrogate's step is GRPO's with other options and PPO's batches.
GrpoConfig with_surrogate(const PpoConfig& config) {
  const PpoOptions& ppo = config.ppo;
  GrpoConfig made;
  static_cast<CommonConfig&>(made) = config;
  made.training.max_steps = steps_of(config);
  made.training.per_device_train_batch_size =
      completions_per_step(config.training) / ppo.num_mini_batches;
  made.training.gradient_accumulation_steps = 1;
  made.grpo.rollout = ppo.rollout;
  made.grpo.rollout.steps_per_generation = ppo.num_mini_batches;
  made.grpo.rollout.num_iterations = ppo.num_ppo_epochs;
  made.grpo.loss.loss_type = PolicyLoss::bnpo;
  made.grpo.loss.epsilon = ppo.cliprange;
  made.grpo.loss.kl_estimator = ppo.kl_estimator;
  made.grpo.loss.use_bias_correction_kl = false;
  return made;
}

CriticOptions critic_options(const PpoConfig& config) {
  const PpoOptions& ppo = config.ppo;
  const double rate = config.training.learning_rate;
  return {.folder = critic_folder(config),
          .vf_coef = ppo.vf_coef,
          .cliprange_value = ppo.cliprange_value,
          .learning_rate_scale = ppo.critic_learning_rate ? *ppo.critic_learning_rate / rate : 1.0,
          .warmup = ppo.critic_warmup};
}

}  // namespace

TrainResult train_ppo(PpoConfig config, const TrainHooks& hooks) {
  const PpoOptions& options = config.ppo;
  ScoreShaping shaping;
  KlControl control{.coefficient = options.kl_coef};
  const auto kl_weight = [&] { return options.use_kl_loss ? control.coefficient : 0.0; };
  const PolicyGradientMethod method{
      .name = "ppo",
      .config_table = resolved_table(config),
      .config_yaml = yaml_of(config),
      .kl = kl_term(options),
      .critic = critic_options(config),
      .shuffles = options.num_mini_batches > 1,
      .batches = {{"per_device_train_batch_size", config.training.per_device_train_batch_size},
                  {"gradient_accumulation_steps", config.training.gradient_accumulation_steps},
                  {"num_mini_batches", options.num_mini_batches},
                  {"num_ppo_epochs", options.num_ppo_epochs}},
      .set_advantages =
          [&](std::vector<Group>& groups, const std::vector<double>&, Metrics& metrics) {
            set_advantages(options, shaping, control, groups, metrics);
          },
      .step_metrics =
          [&](const GrpoStepResult& result) { return step_metrics(result, kl_weight()); },
      .kl_weight = kl_weight,
      .read = [&] { shaping = shaping_of(options); },
      .fewer_prompts = "lower per_device_train_batch_size or gradient_accumulation_steps.",
      .state = [&] { return control.to_json(); },
      .set_state =
          [&](const Json& state) {
            // A fixed coefficient is an option, which a resumed run may change.
            if (options.kl_target) control = KlControl::from_json(state);
          },
      .without_spread =
          [](const std::vector<Group>& groups, const std::vector<double>&) {
            // The critic compares with expectations, not with a group.
            return without_spread(rewards_of(groups), std::ssize(groups.front().samples),
                                  RewardScale::batch);
          }};
  return train_policy_gradient(with_surrogate(config), method, hooks);
}

}  // namespace rlhf
