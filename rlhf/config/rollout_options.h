// What methods that learn from their own samples (GRPO, RLOO) have in common: how many samples of
// which prompts, how they are drawn, what judges them. Names and defaults: TRL 1.16's GRPOConfig
// and GRPOScriptArguments.
//
// The step is the unit, as everywhere. TRL's batch keys mean what they mean there:
//
//   completions of an optimizer step      per_device_train_batch_size × gradient_accumulation_steps
//   completions drawn at once             per_device_train_batch_size × steps_per_generation
//   times each of them is trained on      num_iterations
//
// and `prompts_per_step` says it plainly: a step has prompts_per_step × num_generations
// completions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/judge_options.h"
#include "rlhf/config/ref_model_options.h"
#include "rlhf/core/options.h"

namespace rlhf {

struct RolloutOptions : JudgeOptions {
  // Batches
  std::optional<int64_t> prompts_per_step;
  int64_t num_generations = 8;
  std::optional<int64_t> num_generations_eval;  ///< null: num_generations
  std::optional<int64_t> generation_batch_size;
  std::optional<int64_t> steps_per_generation;  ///< set once resolved
  int64_t num_iterations = 1;
  bool shuffle_dataset = true;
  std::optional<int64_t> max_prompt_length;
  Json chat_template_kwargs;  ///< null: none

  // Sampling
  int64_t max_completion_length = 512;
  double temperature = 1.0;
  double top_p = 1.0;
  int64_t top_k = 0;
  std::optional<double> min_p;
  double repetition_penalty = 1.0;
  std::vector<std::string> stop;
  double rollout_cache_gib = 2.0;
  int64_t rollout_rows = 128;

  // Rows
  bool mask_truncated_completions = false;
  bool dynamic_sampling = false;
  int64_t dynamic_sampling_rounds = 10;
  std::optional<std::string> replay_completions;

  // Seeing it
  bool log_completions = false;
  std::optional<int64_t> num_completions_to_print;
  bool log_unique_prompts = false;

  bool disable_dropout = false;
  RefModelOptions reference;

  int64_t eval_generations() const { return num_generations_eval.value_or(num_generations); }
};

/// Declares the options; the members' values are the defaults.
void declare(OptionSet& set, RolloutOptions& options);

/// Names that a method had for some of them in older versions; null: none.
struct OldRolloutNames {
  const char* max_completion_length = nullptr;
  const char* reward_model_name_or_path = nullptr;
};
/// Those that do not say how completions become batches: of methods with batch keys of their own.
void declare_rollouts(OptionSet& set, RolloutOptions& options, const OldRolloutNames& old);

/// Fills prompts_per_step's consequences and steps_per_generation. Resolving twice changes nothing
/// more.
void resolve(RolloutOptions& options, TrainingOptions& training);

/// The metric that says which model is best, where one is asked for: the evaluation's reward.
void follow_eval_reward(TrainingOptions& training);

/// Adds a note where the sampler leaves tokens out: training takes every log-probability under the
/// full softmax, so that its samples are then not quite the policy's.
void note_sampler(const RolloutOptions& options, std::vector<std::string>* notes);

/// Checks what judges completions, without their batches.
void validate_judges(const RolloutOptions& options, const CommonConfig& config, Problems& problems);

/// Checks `reward_clip_range` of methods that have it: two numbers, the smaller one first.
void validate_clip_range(const std::optional<std::vector<double>>& range, Problems& problems);

/// `needs_group`: the method compares the samples of a prompt with each other.
void validate(const RolloutOptions& options, const CommonConfig& config, bool needs_group,
              Problems& problems);

/// Completions of one optimizer step.
inline int64_t completions_per_step(const TrainingOptions& training) {
  return training.per_device_train_batch_size * training.gradient_accumulation_steps;
}
/// Completions drawn at once; call on resolved options.
inline int64_t completions_per_generation(const RolloutOptions& options,
                                          const TrainingOptions& training) {
  return training.per_device_train_batch_size * options.steps_per_generation.value_or(1);
}

}  // namespace rlhf
