// What differs from TRL under the same name, keys that only its older versions have, and what the
// commands without training call otherwise.
#include <array>

#include "rlhf/config/peer_keys.h"

namespace rlhf {

std::span<const PeerKey> trl_keys() {
  static constexpr auto kKeys = std::to_array<PeerKey>({
      {"model_name_or_path", "model_name_or_path", "a folder; nothing is downloaded"},
      {"dataset_name", "dataset_name",
       "JSONL files or folders with a file for each split, also several"},
      {"datasets", "datasets",
       "path is a file or folder; weight is a share of the part's own rows, as in the "
       "alignment-handbook"},
      {"per_device_train_batch_size", "per_device_train_batch_size",
       "rows of a step, by gradient_accumulation_steps; memory follows max_tokens_per_microbatch "
       "alone"},
      {"bf16", "bf16",
       "null by default: on where the device computes in it natively; true by default there"},
      {"packing", "packing", "the same packs; rows of a pack never see each other on any device"},
      {"padding_free", "", "no meaning: nothing is ever padded"},
      {"precompute_ref_log_probs", "precompute_ref_log_probs",
       "null by default: once, before the first step, where the reference is fixed"},
      {"use_vllm", "", "no meaning: completions are drawn on the trained weights themselves"},
      {"push_to_hub", "", "no meaning: nothing is sent; upload the run folder with `hf upload`"},
      {"report_to", "report_to", "tensorboard, none or all; metrics.jsonl is always written"},
      {"load_in_4bit", "", "refused: weights are held in dtype"},
      {"max_seq_length", "max_length", "in training read as it is"},
      {"torch_dtype", "dtype", "in training read as it is"},
      {"evaluation_strategy", "eval_strategy", "in training read as it is"},
      {"rpo_alpha", "rpo_alpha",
       "read as loss_type: [sigmoid, sft] with loss_weights: [1, rpo_alpha]"},
      {"ppo_epochs", "num_ppo_epochs | num_iterations", ""},
      {"init_kl_coef", "kl_coef | beta", ""},
      {"adap_kl_ctrl", "kl_target", "a kl_target makes kl_coef adaptive; without one it is fixed"},
      {"target", "kl_target", ""},
      {"horizon", "kl_horizon", ""},
      {"kl_penalty", "kl_estimator", "kl is k1, mse is k2; abs and full are not offered"},
      {"target_kl", "",
       "not offered: no update is broken off for its KL; kl_target makes kl_coef adaptive"},
      {"early_stopping", "",
       "not offered: no update is broken off for its KL; kl_target makes kl_coef adaptive"},
      {"log_with", "report_to", ""},
      {"tracker_project_name", "", "remove it: no service is reported to"},
      {"num_train_steps", "max_steps", ""},
      {"max_target_length", "max_length", "prompt and answer together"},
      {"peft_config", "use_peft",
       "write its fields as lora_r, lora_alpha, lora_dropout and lora_target_modules"},
      {"processing_class", "tokenizer_name_or_path", ""},
      {"tokenizer", "tokenizer_name_or_path", ""},
      {"ref_model", "ref_model_name_or_path", ""},
      {"reward_model", "reward_model_name_or_path", ""},
      {"value_model", "value_model_name_or_path", ""},
      {"train_dataset", "dataset_name", ""},
      {"eval_dataset", "dataset_test_split", said::kTestSplit},
  });
  return kKeys;
}

std::span<const PeerKey> inference_keys() {
  static constexpr auto kKeys = std::to_array<PeerKey>({
      {"model_name_or_path", "model", ""},
      {"pretrained_model_name_or_path", "model", ""},
      {"adapter_name_or_path", "model",
       "an adapter's folder is a model, with base_model where its base has moved"},
      {"dataset_name", "data", ""},
      {"dataset_test_split", "split", ""},
      {"dataset_train_split", "split", ""},
      {"torch_dtype", "dtype", ""},
      {"output_dir", "output", "a file"},
      {"output_file", "output", ""},
      {"max_completion_length", "max_new_tokens", ""},
      {"response_length", "max_new_tokens", ""},
      {"max_tokens", "max_new_tokens", ""},
      {"num_return_sequences", "num_generations", ""},
      {"num_samples", "num_generations", ""},
      {"reward_funcs", "reward", ""},
      {"reward_model_name_or_path", "reward_model", ""},
      {"ref_model_name_or_path", "ref_model", ""},
      {"per_device_eval_batch_size", "max_rows", "most completions that grow together"},
      {"use_cpu", "device", "device: cpu"},
  });
  return kKeys;
}

}  // namespace rlhf
