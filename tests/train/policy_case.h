// Runs of `rlhf grpo` and `rlhf rloo` on the tiny model of tests/fixtures/train.
#pragma once

#include <fstream>
#include <string>

#include "rlhf/train/grpo.h"
#include "rlhf/train/rloo.h"
#include "sft_case.h"

namespace rlhf::testing {

inline fs::path policy() { return fixtures() / "policy"; }

/// What all runs share; those of `more` win.
inline Arguments grpo_arguments(const fs::path& output, const Arguments& more) {
  return merged({"--model_name_or_path",
                 (fixtures() / "model").string(),
                 "--output_dir",
                 output.string(),
                 "--cache_dir",
                 (output.parent_path() / "cache").string(),
                 "--per_device_train_batch_size",
                 "8",
                 "--num_generations",
                 "4",
                 "--max_completion_length",
                 "12",
                 "--max_steps",
                 "20",
                 "--learning_rate",
                 "2e-3",
                 "--weight_decay",
                 "0.1",
                 "--logging_steps",
                 "1",
                 "--save_strategy",
                 "no",
                 "--gradient_checkpointing",
                 "false",
                 "--threads",
                 "1"},
                more);
}

/// The same on the recorded completions.
inline Arguments replay_arguments(const fs::path& output, const Arguments& more) {
  return merged(
      grpo_arguments(output, {"--replay_completions", (policy() / "replay.jsonl.gz").string()}),
      more);
}

/// Prompts with answers for the tiny model's characters.
inline fs::path prompts_in(const fs::path& folder) {
  std::ofstream out(folder / "prompts.jsonl");
  for (int i = 0; i < 12; ++i)
    out << Json{{"prompt", fmt::format("{}+{}=", i, 2 * i)}, {"answer", std::to_string(3 * i)}}
               .dump()
        << '\n';
  return folder / "prompts.jsonl";
}

/// A run that samples; digits are what it is paid for.
inline Arguments sampling(const fs::path& folder, const std::string& run, const Arguments& more) {
  return merged(grpo_arguments(folder / run, {"--dataset_name", prompts_in(folder).string(),
                                              "--reward_funcs", "digit_share", "--max_steps", "6"}),
                more);
}

inline TrainResult train_grpo_with(const Arguments& arguments, const TrainHooks& hooks = {}) {
  return train_grpo(read_grpo_config(arguments, nullptr), hooks);
}

inline TrainResult train_rloo_with(const Arguments& arguments, const TrainHooks& hooks = {}) {
  return train_rloo(read_rloo_config(arguments, nullptr), hooks);
}

}  // namespace rlhf::testing
