#include "rlhf/config/inert_keys.h"

#include <span>
#include <string>

namespace rlhf {
namespace {

constexpr auto kAccepted = InertKey::Status::accepted;
constexpr auto kRefused = InertKey::Status::refused;

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
     "the head's large buffers go back to the system, others are used again."},
    {kAccepted, "auto_find_batch_size", "false",
     "max_tokens_per_microbatch bounds the memory of a step and leaves its batch as it is."},
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
    {kAccepted, "push_to_hub", "false", kNoPush},
    {kAccepted, "hub_token", "null", kNoHub},
    {kAccepted, "hub_private_repo", "null", kNoHub},
    {kAccepted, "hub_model_id", "null", kNoHub},
    {kAccepted, "hub_strategy", "\"every_save\"", kNoHub},
    {kAccepted, "hub_always_push", "false", kNoHub},
    {kAccepted, "hub_revision", "null", kNoHub},
    {kAccepted, "hub_model_revision", "\"main\"", kNoHub},
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

constexpr const char* kNoQuantised =
    "remove it, or pass false on the command line: weights are held in dtype and not quantised; "
    "with dtype: bfloat16 an adapter's base takes 2 bytes a weight.";
constexpr const char* kWithoutQuantised = "it only matters with load_in_4bit.";
constexpr const char* kNoRemoteCode =
    "no Python runs here: the architecture must be a supported one.";

constexpr Row kModel[] = {
    {kAccepted, "model_revision", "\"main\"", "a folder has no revisions."},
    {kAccepted, "base_model_revision", "null", "a folder has no revisions."},
    {kAccepted, "model_code_revision", "null", "a folder has no revisions."},
    {kAccepted, "attn_implementation", "null", "one exact attention serves every device."},
    {kAccepted, "use_flash_attention_2", "false", "one exact attention serves every device."},
    {kAccepted, "trust_remote_code", "false", kNoRemoteCode},
    {kRefused, "router_aux_loss_coef", "null",
     "remove it; mixtures of experts are not among the architectures."},
    {kRefused, "activation_offloading", "false",
     "use gradient_checkpointing, or lower max_tokens_per_microbatch."},
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
    {kAccepted, "dataset_configs", "null",
     "configurations are a notion of the Hub; name the folder or file."},
    {kAccepted, "dataset_streaming", "false", kNoStreams},
    {kAccepted, "streaming", "false", kNoStreams},
    {kAccepted, "ignore_bias_buffers", "false", "there are no such buffers."},
    {kAccepted, "pad_to_multiple_of", "\"auto\"", kNoPadding},
    {kAccepted, "padding_free", "false", kNoPadding},
    {kAccepted, "dataset_batch_size", "1000",
     "rows are encoded one by one on dataset_num_proc threads."},
};

constexpr const char* kDecodersOnly = "only decoders are among the architectures.";

constexpr Row kPreference[] = {
    {kRefused, "generate_during_eval", "false",
     "remove it; run `rlhf generate` on a checkpoint to see what it writes."},
    {kRefused, "is_encoder_decoder", "false", kDecodersOnly},
    {kAccepted, "padding_value", "null", kNoPadding},
    {kAccepted, "label_pad_token_id", "-100", kNoPadding},
    {kAccepted, "max_prompt_length", "null",
     "prompts are not cut by themselves, as in TRL today: a row whose prompt fills max_length is "
     "dropped, counted and named."},
    {kAccepted, "max_completion_length", "null",
     "max_length cuts the answer; TRL cuts it by itself for encoder-decoders alone."},
    {kAccepted, "use_logits_to_keep", "false", "the head only ever sees rows that are scored."},
    {kAccepted, "use_num_logits_to_keep", "false", "the head only ever sees rows that are scored."},
    {kAccepted, "base_model_attribute_name", "\"model\"", "there are no wrapped models."},
};

}  // namespace

void declare_inert_training_keys(OptionSet& set) { declare_rows(set, kTraining); }

void declare_inert_model_keys(OptionSet& set) { declare_rows(set, kModel); }

void declare_inert_model_init_keys(OptionSet& set) { declare_rows(set, kModelInit); }

void declare_inert_data_keys(OptionSet& set) { declare_rows(set, kData); }

void declare_inert_preference_keys(OptionSet& set) { declare_rows(set, kPreference); }

}  // namespace rlhf
