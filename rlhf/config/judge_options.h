// What judges completions: rewards by rule, reward models, judges outside the program, and what
// their failures may cost (docs/rewards.md). Of every command that has completions judged.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/core/options.h"

namespace rlhf {

struct JudgeOptions {
  std::optional<std::vector<Json>>
      reward_funcs;  ///< names, or maps with parameters (docs/rewards.md)
  std::optional<std::string> reward_model_name_or_path;
  bool reward_model_reencode = false;
  std::optional<std::string> process_reward_model_name_or_path;  ///< of grpo and generate
  std::string step_separator = "\n";
  std::optional<std::vector<double>> reward_weights;
  double reward_failure_limit = 0.5;
  int64_t reward_workers = 2;
  double reward_timeout = 60.0;  ///< seconds

  bool any() const {
    return reward_funcs || reward_model_name_or_path || process_reward_model_name_or_path;
  }
};

/// Declares all but the process reward model. `old_reward_model_name`: a name that a method had for
/// the reward model in older versions; null: none.
void declare_judges(OptionSet& set, JudgeOptions& options,
                    const char* old_reward_model_name = nullptr);

/// Problems of these.
void validate_judges(const JudgeOptions& options, Problems& problems);

/// Declares the process reward model and its separator.
void declare_process_judge(OptionSet& set, JudgeOptions& options);

/// Problems of the separator: none to read, or nobody to read it.
void validate_process_judge(const JudgeOptions& options, Problems& problems);

}  // namespace rlhf
