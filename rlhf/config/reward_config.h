// `rlhf reward`: its configuration, from the command line to the checked struct. Names and
// defaults: TRL 1.16's RewardConfig.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"

namespace rlhf {

struct RewardOptions {
  std::optional<double> center_rewards_coefficient;  ///< c of c (r+ + r-)²; null: no such term
  std::optional<int64_t> max_length = 1024;          ///< longer rows are dropped, never cut
  bool drop_identical_pairs = false;
  bool disable_dropout = true;  ///< see adapter_dropout()
};

struct RewardConfig : CommonConfig {
  RewardConfig() { training.learning_rate = 1e-4; }

  RewardOptions reward;
};

/// As for dpo (dpo_config.h).
void declare(OptionSet& set, RewardOptions& options);
void declare(OptionSet& set, RewardConfig& config);
void resolve(RewardConfig& config, std::vector<std::string>* notes);
void validate(const RewardConfig& config, Problems& problems);

/// As read_sft_config and its siblings (sft_config.h).
RewardConfig read_reward_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string reward_help();
std::string resolved_yaml(const RewardConfig& config);
std::string resolved_table(const RewardConfig& config);

}  // namespace rlhf
