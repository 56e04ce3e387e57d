// `rlhf ppo`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.12's PPOConfig, the last that TRL had; what is new here: the keys of the critic, of the
// adaptive coefficient, of the KL term's place (OpenRLHF's and verl's use_kl_loss), of scores, and what stands in rollout_options.h.
//
// TRL's batch keys mean what they mean there:
//
//   prompts of a rollout                per_device_train_batch_size × gradient_accumulation_steps
//   completions of an optimizer step    that, divided by num_mini_batches
//   times each rollout is trained on    num_ppo_epochs
//
// so that a rollout is followed by num_ppo_epochs × num_mini_batches optimizer steps. Steps, here
// as everywhere, are optimizer steps (TRL counts rollouts).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/rollout_options.h"
#include "rlhf/math/kl_estimator.h"

namespace rlhf {

template <>
struct EnumNames<KlEstimator> {
  static constexpr std::array<std::string_view, 3> names = {"k1", "k2", "k3"};
};

struct PpoOptions {
  PpoOptions() {
    rollout.num_generations = 1;
    rollout.max_completion_length = 53;
    rollout.temperature = 0.7;
  }

  int64_t num_ppo_epochs = 4;
  int64_t num_mini_batches = 1;
  std::optional<int64_t> total_episodes;  ///< prompts of the whole run; null: num_train_epochs says
  double cliprange = 0.2;
  double cliprange_value = 0.2;
  double vf_coef = 0.1;
  double gamma = 1.0;
  double lam = 0.95;

  // The term that holds the policy near its reference
  double kl_coef = 0.05;
  bool use_kl_loss = false;  ///< in the loss, not in the reward
  KlEstimator kl_estimator = KlEstimator::k1;
  std::optional<double> kl_target;  ///< of the adaptive coefficient; null: fixed
  double kl_horizon = 10000;

  // Scores
  std::optional<double> missing_eos_penalty;
  bool whiten_rewards = false;
  bool normalize_scores = false;
  std::optional<std::vector<double>> reward_clip_range;  ///< two numbers

  // Critic
  std::optional<std::string>
      value_model_name_or_path;                ///< null: the reward model's, or the policy's
  std::optional<double> critic_learning_rate;  ///< null: learning_rate
  int64_t critic_warmup = 0;                   ///< steps in which the critic alone learns

  RolloutOptions rollout;

  std::optional<std::pair<double, double>> clip_range() const;
};

struct PpoConfig : CommonConfig {
  PpoConfig() { training.learning_rate = 3e-6; }

  PpoOptions ppo;
};

/// As for dpo (dpo_config.h).
void declare(OptionSet& set, PpoOptions& options);
void declare(OptionSet& set, PpoConfig& config);
void resolve(PpoConfig& config, std::vector<std::string>* notes);
void validate(const PpoConfig& config, Problems& problems);

/// As read_sft_config and its siblings (sft_config.h).
PpoConfig read_ppo_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string ppo_help();
std::string resolved_yaml(const PpoConfig& config);
std::string resolved_table(const PpoConfig& config);

}  // namespace rlhf
