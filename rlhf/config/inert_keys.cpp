#include "rlhf/config/inert_keys.h"

#include <span>
#include <string>

namespace rlhf {
namespace {

constexpr auto kAccepted = InertKey::Status::accepted;
constexpr auto kRefused = InertKey::Status::refused;
constexpr auto kLater = InertKey::Status::later;

struct Row {
  InertKey::Status status;
  const char* name;
  const char* harmless;  ///< JSON
  const char* text;
};

void declare_rows(OptionSet& set, std::span<const Row> rows) {
  for (const Row& row : rows)
    set.add_inert({row.status, row.name, Json::parse(row.harmless), row.text});
}

constexpr const char* kNoHub = "nothing is sent to or read from the Hub.";
constexpr const char* kNoPush =
    "nothing is sent to the Hub; upload the run folder with `hf upload`.";
constexpr const char* kNoLoader =
    "there are no loader processes: encoded rows are mapped from disk and read in place.";
constexpr const char* kNoWrapper =
    "gradients are reduced by this program itself, which has no such setting.";
constexpr const char* kNoCompiler =
    "the program is compiled already; its kernels need no run-time compiler.";
constexpr const char* kNoShards =
    "remove it; lower max_tokens_per_microbatch where memory is short.";
constexpr const char* kNoHalf = "use bf16: float16 would need loss scaling.";
constexpr const char* kNoTrackio = "Trackio is not served; metrics.jsonl holds the same metrics.";
constexpr const char* kSumsOnly = "evaluation keeps sums, not predictions.";
constexpr const char* kScriptFlag =
    "transformers' Trainer does not read it either; eval_strategy decides.";

constexpr Row kTraining[] = {
    {kRefused, "optim_target_modules", "null",
     "remove it; GaLore and APOLLO are not offered. optim: adafactor keeps the smallest state."},
    {kAccepted, "average_tokens_across_devices", "true",
     "a loss is always a sum over the global count of tokens."},
    {kRefused, "fp16", "false", kNoHalf},
    {kRefused, "fp16_full_eval", "false", kNoHalf},
    {kAccepted, "bf16_full_eval", "false", "evaluation computes in the type of training."},
    {kAccepted, "tf32", "null", "matrix products follow dtype and bf16 alone."},
    {kAccepted, "gradient_checkpointing_kwargs", "null",
     "one way of checkpointing serves all; there is no re-entrant one."},
    {kAccepted, "activation_checkpointing_kwargs", "null",
     "one way of checkpointing serves all; there is no re-entrant one."},
    {kAccepted, "torch_compile", "false", kNoCompiler},
    {kAccepted, "torch_compile_backend", "null", kNoCompiler},
    {kAccepted, "torch_compile_mode", "null", kNoCompiler},
    {kAccepted, "use_liger_kernel", "false", "fused kernels and the tiled head are always on."},
    {kAccepted, "liger_kernel_config", "null", "fused kernels and the tiled head are always on."},
    {kAccepted, "use_cache", "false", "training keeps no cache of keys."},
    {kAccepted, "torch_empty_cache_steps", "null",
     "large buffers are reused; memory is trimmed when the phase changes."},
    {kAccepted, "auto_find_batch_size", "false",
     "max_tokens_per_microbatch: 0 finds what fits and leaves the batch as it is."},
    {kAccepted, "log_on_each_node", "true", "one process writes the log."},
    {kAccepted, "log_level_replica", "\"warning\"", "one process writes the log."},
    {kAccepted, "project", "\"huggingface\"", kNoTrackio},
    {kAccepted, "trackio_space_id", "null", kNoTrackio},
    {kAccepted, "trackio_bucket_id", "null", kNoTrackio},
    {kAccepted, "trackio_static_space_id", "null", kNoTrackio},
    {kAccepted, "prediction_loss_only", "false", kSumsOnly},
    {kAccepted, "eval_do_concat_batches", "true", kSumsOnly},
    {kAccepted, "eval_use_gather_object", "false", kSumsOnly},
    {kAccepted, "eval_accumulation_steps", "null", kSumsOnly},
    {kAccepted, "include_for_metrics", "[]", kSumsOnly},
    {kAccepted, "batch_eval_metrics", "false", kSumsOnly},
    {kAccepted, "save_on_each_node", "false", "one process writes checkpoints."},
    {kAccepted, "enable_jit_checkpoint", "false",
     "Ctrl-C and SIGTERM always write a checkpoint first."},
    {kRefused, "push_to_hub", "false", kNoPush},
    {kAccepted, "hub_token", "null", kNoHub},
    {kAccepted, "hub_private_repo", "null", kNoHub},
    {kAccepted, "hub_model_id", "null", kNoHub},
    {kAccepted, "hub_strategy", "\"every_save\"", kNoHub},
    {kAccepted, "hub_always_push", "false", kNoHub},
    {kAccepted, "hub_revision", "null", kNoHub},
    {kRefused, "ignore_data_skip", "false",
     "remove it; a resumed run goes on at the row where it stopped, at no cost."},
    {kAccepted, "restore_callback_states_from_checkpoint", "false",
     "the whole state is always restored."},
    {kRefused, "accelerator_config", "null",
     "remove it; batches are never split or dispatched otherwise than the batch keys say."},
    {kRefused, "parallelism_config", "null", kNoShards},
    {kRefused, "fsdp", "\"\"", kNoShards},
    {kRefused, "fsdp_config", "null", kNoShards},
    {kRefused, "deepspeed", "null", kNoShards},
    {kAccepted, "dataloader_num_workers", "0", kNoLoader},
    {kAccepted, "dataloader_pin_memory", "true", kNoLoader},
    {kAccepted, "dataloader_persistent_workers", "false", kNoLoader},
    {kAccepted, "dataloader_prefetch_factor", "null", kNoLoader},
    {kAccepted, "dataloader_multiprocessing_context", "null", kNoLoader},
    {kAccepted, "dataloader_in_order", "true", kNoLoader},
    {kAccepted, "remove_unused_columns", "true",
     "columns that a method does not read stay in the file."},
    {kAccepted, "label_names", "null", "labels are made from the rows."},
    {kAccepted, "length_column_name", "\"length\"", "lengths are those of the encoded rows."},
    {kAccepted, "ddp_find_unused_parameters", "null", kNoWrapper},
    {kAccepted, "ddp_bucket_cap_mb", "null", kNoWrapper},
    {kAccepted, "ddp_broadcast_buffers", "null", kNoWrapper},
    {kAccepted, "ddp_static_graph", "null", kNoWrapper},
    {kAccepted, "ddp_backend", "null", kNoWrapper},
    {kAccepted, "ddp_timeout", "1800", kNoWrapper},
    {kRefused, "debug", "\"\"",
     "remove it; a gradient that is not finite stops the run by itself."},
    {kAccepted, "skip_memory_metrics", "true", "peak_memory is always logged."},
    {kAccepted, "do_train", "false", kScriptFlag},
    {kAccepted, "do_eval", "false", kScriptFlag},
    {kAccepted, "do_predict", "false", kScriptFlag},
    {kAccepted, "local_rank", "-1", "the launcher's environment says it."},
    // Of older versions.
    {kAccepted, "save_safetensors", "true", "weights are always safetensors."},
    {kAccepted, "dispatch_batches", "null", kNoLoader},
    {kRefused, "split_batches", "false",
     "give the rows of one process as per_device_train_batch_size."},
    {kAccepted, "include_tokens_per_second", "false", "tokens_per_second is always logged."},
    {kAccepted, "include_inputs_for_metrics", "false", kSumsOnly},
    {kAccepted, "fp16_backend", "\"auto\"", "there is no float16 training."},
    {kAccepted, "half_precision_backend", "\"auto\"", "there is no float16 training."},
    {kAccepted, "fp16_opt_level", "\"O1\"", "there is no float16 training."},
    {kAccepted, "jit_mode_eval", "false", kNoCompiler},
    {kAccepted, "use_ipex", "false", kNoCompiler},
    {kAccepted, "torchdynamo", "null", kNoCompiler},
    {kAccepted, "past_index", "-1",
     "no supported architecture hands a memory from batch to batch."},
    {kAccepted, "ray_scope", "\"last\"", "there is no hyper-parameter search here."},
    {kAccepted, "tpu_num_cores", "null", "there is no TPU support."},
    {kAccepted, "push_to_hub_model_id", "null", kNoHub},
    {kAccepted, "push_to_hub_organization", "null", kNoHub},
    {kAccepted, "push_to_hub_token", "null", kNoHub},
    {kRefused, "env", "null",
     "set environment variables in the shell: they must stand before the program starts."},
};

constexpr const char* kNoLora =
    "LoRA is not built yet, and without use_peft the key asks for nothing.";
constexpr const char* kNoQuantised = "train in bfloat16 or float32: weights are not quantised.";
constexpr const char* kWithoutQuantised = "it only matters with load_in_4bit.";
constexpr const char* kNoRemoteCode =
    "no Python runs here: the architecture must be a supported one.";

constexpr Row kModel[] = {
    {kAccepted, "model_revision", "\"main\"", "a folder has no revisions."},
    {kAccepted, "attn_implementation", "null", "one exact attention serves every device."},
    {kAccepted, "trust_remote_code", "false", kNoRemoteCode},
    {kRefused, "router_aux_loss_coef", "null",
     "remove it; mixtures of experts are not among the architectures."},
    {kRefused, "activation_offloading", "false",
     "use gradient_checkpointing, or lower max_tokens_per_microbatch."},
    {kLater, "use_peft", "false", "train all weights, or use PEFT until LoRA is here."},
    {kAccepted, "lora_r", "16", kNoLora},
    {kAccepted, "lora_alpha", "32", kNoLora},
    {kAccepted, "lora_dropout", "0.05", kNoLora},
    {kAccepted, "lora_target_modules", "null", kNoLora},
    {kAccepted, "lora_target_parameters", "null", kNoLora},
    {kAccepted, "lora_modules_to_save", "null", kNoLora},
    {kAccepted, "lora_task_type", "\"CAUSAL_LM\"", kNoLora},
    {kAccepted, "use_rslora", "false", kNoLora},
    {kAccepted, "use_dora", "false", kNoLora},
    {kRefused, "load_in_8bit", "false", kNoQuantised},
    {kRefused, "load_in_4bit", "false", kNoQuantised},
    {kAccepted, "bnb_4bit_quant_type", "\"nf4\"", kWithoutQuantised},
    {kAccepted, "use_bnb_nested_quant", "false", kWithoutQuantised},
    {kAccepted, "bnb_4bit_quant_storage", "null", kWithoutQuantised},
};

constexpr Row kModelInit[] = {
    {kAccepted, "attn_implementation", "null", "one exact attention serves every device."},
    {kAccepted, "revision", "\"main\"", "a folder has no revisions."},
    {kAccepted, "trust_remote_code", "false", kNoRemoteCode},
    {kAccepted, "device_map", "null", "device says where the model is."},
    {kAccepted, "low_cpu_mem_usage", "null",
     "weights are read from a memory map, one tensor at a time."},
    {kAccepted, "use_cache", "false", "training keeps no cache of keys."},
    {kAccepted, "use_kernels", "null", "fused kernels are always on."},
    {kAccepted, "use_safetensors", "null", "weights are always safetensors."},
    {kRefused, "quantization_config", "null", kNoQuantised},
    {kRefused, "load_in_8bit", "false", kNoQuantised},
    {kRefused, "load_in_4bit", "false", kNoQuantised},
};

constexpr const char* kNoPadding = "rows are packed side by side; nothing is ever padded.";
constexpr const char* kNoStreams = "rows are always read from a memory map, never held as a whole.";

constexpr Row kData[] = {
    {kAccepted, "dataset_config", "null",
     "configurations are a notion of the Hub; name the folder or file."},
    {kAccepted, "dataset_streaming", "false", kNoStreams},
    {kAccepted, "streaming", "false", kNoStreams},
    {kAccepted, "ignore_bias_buffers", "false", "there are no such buffers."},
    {kAccepted, "pad_to_multiple_of", "\"auto\"", kNoPadding},
    {kAccepted, "padding_free", "false", kNoPadding},
    {kAccepted, "dataset_batch_size", "1000",
     "rows are encoded one by one on dataset_num_proc threads."},
    {kRefused, "dataset_mixer", "null",
     "list the parts under datasets: path, split, columns, fraction."},
    {kRefused, "dataset_mixture", "null",
     "list the parts under datasets: path, split, columns, fraction."},
    {kRefused, "chat_template", "null",
     "write the template into a file and name it as chat_template_path."},
};

struct MethodKey {
  const char* name;
  const char* methods;
};

constexpr const char* kEveryPreference = "reward, dpo, kto, grpo, rloo, prm, bco, cpo, orpo";
constexpr const char* kOnline = "grpo, rloo";

/// Keys that methods add to what all share, with the methods that have them.
constexpr MethodKey kMethodKeys[] = {
    {"disable_dropout", kEveryPreference},
    {"center_rewards_coefficient", "reward"},
    {"precompute_ref_log_probs", "dpo, kto, bco"},
    {"precompute_ref_batch_size", "dpo, kto"},
    {"loss_weights", "dpo"},
    {"ld_alpha", "dpo"},
    {"f_divergence_type", "dpo"},
    {"f_alpha_divergence_coef", "dpo"},
    {"label_smoothing", "dpo, cpo"},
    {"beta", "dpo, kto, grpo, rloo, bco, cpo, orpo"},
    {"use_weighting", "dpo"},
    {"discopop_tau", "dpo"},
    {"sync_ref_model", "dpo, kto, grpo, rloo"},
    {"ref_model_mixup_alpha", "dpo, kto, grpo, rloo"},
    {"ref_model_sync_steps", "dpo, kto, grpo, rloo"},
    {"desirable_weight", "kto"},
    {"undesirable_weight", "kto"},
    {"cast_lm_head_to_fp32", "grpo"},
    {"num_generations", kOnline},
    {"num_generations_eval", kOnline},
    {"max_completion_length", "grpo, rloo, prm, bco, cpo, orpo"},
    {"ds3_gather_for_generation", "grpo, rloo, ppo"},
    {"generation_batch_size", kOnline},
    {"steps_per_generation", kOnline},
    {"temperature", "grpo, rloo, ppo"},
    {"top_p", kOnline},
    {"top_k", kOnline},
    {"min_p", kOnline},
    {"generation_kwargs", kOnline},
    {"chat_template_kwargs", kOnline},
    {"repetition_penalty", kOnline},
    {"cache_implementation", kOnline},
    {"use_vllm", kOnline},
    {"vllm_mode", kOnline},
    {"vllm_model_impl", kOnline},
    {"vllm_enable_sleep_mode", kOnline},
    {"vllm_structured_outputs_regex", kOnline},
    {"vllm_server_base_url", kOnline},
    {"vllm_server_host", kOnline},
    {"vllm_server_port", kOnline},
    {"vllm_server_timeout", kOnline},
    {"vllm_group_port", kOnline},
    {"vllm_gpu_memory_utilization", kOnline},
    {"vllm_max_model_length", kOnline},
    {"vllm_tensor_parallel_size", kOnline},
    {"vllm_importance_sampling_correction", "grpo"},
    {"vllm_importance_sampling_mode", "grpo"},
    {"vllm_importance_sampling_clip_max", "grpo"},
    {"vllm_importance_sampling_clip_min", "grpo"},
    {"vllm_importance_sampling_cap", "grpo"},
    {"num_iterations", kOnline},
    {"epsilon", kOnline},
    {"epsilon_high", kOnline},
    {"delta", "grpo"},
    {"sapo_temperature_neg", "grpo"},
    {"sapo_temperature_pos", "grpo"},
    {"vespo_k_pos", "grpo"},
    {"vespo_lambda_pos", "grpo"},
    {"vespo_k_neg", "grpo"},
    {"vespo_lambda_neg", "grpo"},
    {"importance_sampling_level", "grpo"},
    {"reward_weights", kOnline},
    {"reward_funcs", "grpo, rloo"},
    {"reward_model_name_or_path", "grpo, rloo"},
    {"multi_objective_aggregation", "grpo"},
    {"scale_rewards", "grpo"},
    {"mask_truncated_completions", kOnline},
    {"top_entropy_quantile", "grpo"},
    {"entropy_coef", "grpo"},
    {"use_adaptive_entropy", "grpo"},
    {"entropy_coef_min", "grpo"},
    {"entropy_coef_max", "grpo"},
    {"entropy_coef_delta", "grpo"},
    {"entropy_target", "grpo"},
    {"max_tool_calling_iterations", "grpo"},
    {"off_policy_mask_threshold", "grpo"},
    {"use_bias_correction_kl", "grpo"},
    {"log_completions", kOnline},
    {"log_multimodal", kOnline},
    {"num_completions_to_print", kOnline},
    {"log_unique_prompts", kOnline},
    {"log_completions_hub_repo", "grpo"},
    {"use_transformers_continuous_batching", kOnline},
    {"transformers_continuous_batching_config", kOnline},
    {"use_transformers_paged", kOnline},
    {"normalize_advantages", "rloo"},
    {"reward_clip_range", "rloo"},
    {"num_mini_batches", "ppo"},
    {"total_episodes", "ppo"},
    {"local_rollout_forward_batch_size", "ppo"},
    {"num_sample_generations", "ppo"},
    {"response_length", "ppo"},
    {"stop_token", "ppo"},
    {"stop_token_id", "ppo"},
    {"missing_eos_penalty", "ppo"},
    {"sft_model_path", "ppo"},
    {"world_size", "ppo"},
    {"num_total_batches", "ppo"},
    {"micro_batch_size", "ppo"},
    {"local_batch_size", "ppo"},
    {"batch_size", "ppo"},
    {"local_mini_batch_size", "ppo"},
    {"mini_batch_size", "ppo"},
    {"reward_model_path", "ppo"},
    {"model_adapter_name", "ppo"},
    {"ref_adapter_name", "ppo"},
    {"num_ppo_epochs", "ppo"},
    {"whiten_rewards", "ppo"},
    {"kl_coef", "ppo"},
    {"kl_estimator", "ppo"},
    {"cliprange", "ppo"},
    {"vf_coef", "ppo"},
    {"cliprange_value", "ppo"},
    {"gamma", "ppo"},
    {"lam", "ppo"},
    {"step_separator", "prm"},
    {"train_on_last_step_only", "prm"},
    {"generate_during_eval", "bco, cpo, orpo"},
    {"is_encoder_decoder", "bco, cpo, orpo"},
    {"prompt_sample_size", "bco"},
    {"min_density_ratio", "bco"},
    {"max_density_ratio", "bco"},
    {"cpo_alpha", "cpo"},
    {"simpo_gamma", "cpo"},
    {"alpha", "cpo"},
    {"padding_value", "orpo"},
};

}  // namespace

void declare_inert_training_keys(OptionSet& set) { declare_rows(set, kTraining); }

void declare_inert_model_keys(OptionSet& set) { declare_rows(set, kModel); }

void declare_inert_model_init_keys(OptionSet& set) { declare_rows(set, kModelInit); }

void declare_inert_data_keys(OptionSet& set) { declare_rows(set, kData); }

void declare_keys_of_other_methods(OptionSet& set, std::string_view method) {
  for (const auto& [name, methods] : kMethodKeys) {
    if (set.find(name) != nullptr || set.find_inert(name) != nullptr) continue;
    set.add_inert(
        {kLater, name, nullptr,
         fmt::format("remove it; {} has no such option: it belongs to {}.", method, methods)});
  }
}

}  // namespace rlhf
