// `rlhf rloo`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.16's RLOOConfig; those of verl's `algorithm.adv_estimator` for the other baselines, and
// what is new here stands in rollout_options.h.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/rollout_options.h"

namespace rlhf {

/// What a completion's reward is compared with (train/rloo.h has the formulas).
enum class AdvantageEstimator {
  rloo,
  reinforce_plus_plus,
  reinforce_plus_plus_baseline,
  remax,
  opo
};
template <>
struct EnumNames<AdvantageEstimator> {
  static constexpr std::array<std::string_view, 5> names = {
      "rloo", "reinforce_plus_plus", "reinforce_plus_plus_baseline", "remax", "opo"};
};

/// The estimator compares the completions of a prompt with each other.
constexpr bool needs_group(AdvantageEstimator estimator) {
  return estimator != AdvantageEstimator::remax &&
         estimator != AdvantageEstimator::reinforce_plus_plus;
}

struct RlooOptions {
  RlooOptions() { rollout.num_generations = 2; }

  AdvantageEstimator advantage_estimator = AdvantageEstimator::rloo;
  double beta = 0.05;  ///< weight of the KL in the reward; 0: no reference
  double epsilon = 0.2;
  std::optional<double> epsilon_high;
  bool normalize_advantages = false;
  std::optional<std::vector<double>> reward_clip_range;  ///< two numbers
  double gamma = 1.0;

  RolloutOptions rollout;

  /// reward_clip_range; call on a checked configuration.
  std::optional<std::pair<double, double>> clip_range() const;
};

struct RlooConfig : CommonConfig {
  RlooConfig() { training.learning_rate = 1e-6; }

  RlooOptions rloo;
};

/// As for dpo (dpo_config.h).
void declare(OptionSet& set, RlooOptions& options);
void declare(OptionSet& set, RlooConfig& config);
void resolve(RlooConfig& config, std::vector<std::string>* notes);
void validate(const RlooConfig& config, Problems& problems);

/// As read_sft_config and its siblings (sft_config.h).
RlooConfig read_rloo_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string rloo_help();
std::string resolved_yaml(const RlooConfig& config);
std::string resolved_table(const RlooConfig& config);

}  // namespace rlhf
