// Runs of the preference trainers on the tiny models of tests/fixtures/train.
#pragma once

#include <string>

#include "rlhf/train/dpo.h"
#include "rlhf/train/kto.h"
#include "rlhf/train/prm.h"
#include "rlhf/train/reward.h"
#include "sft_case.h"

namespace rlhf::testing {

inline fs::path preference() { return fixtures() / "preference"; }

inline TrainResult train(const std::string& command, const Arguments& arguments,
                         const TrainHooks& hooks = {}) {
  if (command == "dpo") return train_dpo(read_dpo_config(arguments, nullptr), hooks);
  if (command == "kto") return train_kto(read_kto_config(arguments, nullptr), hooks);
  if (command == "reward") return train_reward(read_reward_config(arguments, nullptr), hooks);
  if (command == "prm") return train_prm(read_prm_config(arguments, nullptr), hooks);
  return train_sft(read_sft_config(arguments, nullptr), hooks);
}

/// What a command reads here: its tiny model and its sixty rows.
inline fs::path model_of(const std::string& command) {
  if (command == "reward") return preference() / "reward_model";
  if (command == "prm") return preference() / "stepwise_model";
  return fixtures() / "model";
}
inline fs::path data_of(const std::string& command) {
  const char* name = command == "kto" ? "unpaired" : command == "prm" ? "stepwise" : "pairs";
  return preference() / name / "train.jsonl";
}

/// Arguments of a run of `command`; those of `more` win.
inline Arguments arguments_of(const std::string& command, const fs::path& output,
                              const Arguments& more) {
  return merged(common_arguments(output, "pairs"),
                with({"--model_name_or_path", model_of(command).string(), "--dataset_name",
                      data_of(command).string()},
                     more));
}

/// Flags of a new adapter.
inline Arguments lora(const Arguments& more = {}) {
  return with({"--use_peft", "true", "--lora_r", "4", "--lora_alpha", "16", "--lora_dropout", "0",
               "--lora_target_modules", "all-linear"},
              more);
}

/// Dropout that trains: drawn by a token's number in the step.
inline Arguments lora_with_dropout(const Arguments& more = {}) {
  return with(lora({"--lora_dropout", "0.3", "--disable_dropout", "false"}), more);
}

/// Changes one weight in the folder of a model.
inline void change_a_weight(const fs::path& folder) {
  const auto model = load_model(folder, {.dtype = std::nullopt, .trainable = true});
  model.decoder.tensors().back().tensor.view({-1})[0] += 1e-3;
  save_model(model, folder);
}

/// What was trained: the model's tensors, or the adapter's.
inline fs::path trained_file(const fs::path& folder) {
  const fs::path adapter = folder / "adapter_model.safetensors";
  return fs::exists(adapter) ? adapter : folder / "model.safetensors";
}

/// The same bits in everything that was trained.
inline void expect_same_trained(const fs::path& a, const fs::path& b) {
  EXPECT_TRUE(read_file(trained_file(a)) == read_file(trained_file(b)))
      << a.string() << " and " << b.string() << " hold different tensors";
}

}  // namespace rlhf::testing
