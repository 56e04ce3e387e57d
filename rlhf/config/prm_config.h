// `rlhf prm`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.12's PRMConfig.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"

namespace rlhf {

struct PrmOptions {
  std::optional<int64_t> max_length = 1024;
  std::optional<int64_t> max_completion_length;
  std::string step_separator = "\n";
  bool train_on_last_step_only = false;
  bool disable_dropout = true;  ///< see adapter_dropout()
};

struct PrmConfig : CommonConfig {
  PrmConfig() { training.learning_rate = 1e-5; }

  PrmOptions prm;
};

/// As for dpo (dpo_config.h).
void declare(OptionSet& set, PrmOptions& options);
void declare(OptionSet& set, PrmConfig& config);
void resolve(PrmConfig& config, std::vector<std::string>* notes);
void validate(const PrmConfig& config, Problems& problems);

/// As read_sft_config and its siblings (sft_config.h).
PrmConfig read_prm_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string prm_help();
std::string resolved_yaml(const PrmConfig& config);
std::string resolved_table(const PrmConfig& config);

}  // namespace rlhf
