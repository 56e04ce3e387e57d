// Runs of `rlhf grpo` on the tiny model of tests/fixtures/train.
#pragma once

#include <string>

#include "rlhf/train/grpo.h"
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

inline TrainResult train_grpo_with(const Arguments& arguments, const TrainHooks& hooks = {}) {
  return train_grpo(read_grpo_config(arguments, nullptr), hooks);
}

}  // namespace rlhf::testing
