// `rlhf grpo`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.16's GRPOConfig; what is new here stands in rollout_options.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/rollout_options.h"
#include "rlhf/losses/policy_options.h"
#include "rlhf/math/advantages.h"

namespace rlhf {

template <>
struct EnumNames<RewardScale> {
  static constexpr std::array<std::string_view, 3> names = {"group", "batch", "none"};
};

enum class RewardAggregation { sum_then_normalize, normalize_then_sum };
template <>
struct EnumNames<RewardAggregation> {
  static constexpr std::array<std::string_view, 2> names = {"sum_then_normalize",
                                                            "normalize_then_sum"};
};

/// What makes a completion's advantage of the rewards of its group.
///   grpo         its distance from the group's mean
///   grpo_passk   of the best one its distance from the second, of all others 0 (arXiv 2503.19595)
enum class GroupEstimator { grpo, grpo_passk };
template <>
struct EnumNames<GroupEstimator> {
  static constexpr std::array<std::string_view, 2> names = {"grpo", "grpo_passk"};
};

struct GrpoOptions {
  PolicyLossOptions loss;
  GroupEstimator advantage_estimator = GroupEstimator::grpo;
  RewardScale scale_rewards = RewardScale::group;
  RewardAggregation multi_objective_aggregation = RewardAggregation::sum_then_normalize;
  double top_entropy_quantile = 1.0;

  // Entropy bonus
  double entropy_coef = 0.0;
  bool use_adaptive_entropy = false;
  double entropy_coef_min = 0.0;
  double entropy_coef_max = 1.0;
  double entropy_coef_delta = 0.005;
  double entropy_target = 0.2;

  RolloutOptions rollout;

  bool has_entropy_bonus() const { return entropy_coef != 0.0 || use_adaptive_entropy; }
};

struct GrpoConfig : CommonConfig {
  GrpoConfig() { training.learning_rate = 1e-6; }

  GrpoOptions grpo;
};

/// As for dpo (dpo_config.h).
void declare(OptionSet& set, GrpoOptions& options);
void declare(OptionSet& set, GrpoConfig& config);
void resolve(GrpoConfig& config, std::vector<std::string>* notes);
void validate(const GrpoConfig& config, Problems& problems);

/// As read_sft_config and its siblings (sft_config.h).
GrpoConfig read_grpo_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string grpo_help();
std::string resolved_yaml(const GrpoConfig& config);
std::string resolved_table(const GrpoConfig& config);

}  // namespace rlhf
