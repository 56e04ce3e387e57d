// LLaMA-Factory's arguments of model, data, fine-tuning and generation (version 0.9, August 2026).
// Those of transformers' TrainingArguments, which it passes on, are keys here.
#include <array>

#include "rlhf/config/peer_keys.h"

namespace rlhf {
namespace {

constexpr const char* kNoHub = "remove it: nothing is sent to or read from a hub";
constexpr const char* kNoQuantised =
    "remove it: weights are held in dtype; with bfloat16 an adapter's base takes 2 bytes a weight";
constexpr const char* kNoMedia = "remove it: rows are text";
constexpr const char* kOneKernel = "remove it: fused kernels and one exact attention are always on";
constexpr const char* kNoOptimiser =
    "remove it: optim names what is offered; adafactor keeps the smallest state";
constexpr const char* kNoFreeze =
    "remove it: all weights are trained, or an adapter; lora_layers_to_transform chooses its "
    "layers";
constexpr const char* kNoTracker =
    "remove it: metrics.jsonl and TensorBoard files hold the metrics";
constexpr const char* kNoExport =
    "run rlhf merge: it folds an adapter in and measures what that changes";
constexpr const char* kNoNewTokens = "remove it: the vocabulary is the model's";

}  // namespace

std::span<const PeerKey> llama_factory_keys() {
  static constexpr auto kKeys = std::to_array<PeerKey>({
      // What is done
      {"stage", "",
       "the command says it: pt and sft are rlhf sft, rm is rlhf reward, ppo, dpo and kto are rlhf "
       "ppo, rlhf dpo and rlhf kto"},
      {"finetuning_type", "use_peft",
       "lora is use_peft: true, full is use_peft: false; freeze and oft are not offered"},
      // Data
      {"dataset", "dataset_name",
       "names of dataset_info.json are paths here: JSONL files or folders, a list instead of "
       "commas"},
      {"eval_dataset", "dataset_test_split",
       "the file of that name in the folder of dataset_name; or set test_split_size"},
      {"dataset_dir", "dataset_name",
       "write whole paths; columns of dataset_info.json are dataset_columns, and alpaca and "
       "sharegpt rows are recognised"},
      {"template", "chat_template_path",
       "a Jinja file; null is the model's own template, which is meant by most names"},
      {"default_system", "chat_template",
       "put the system message into the rows or into the template"},
      {"enable_thinking", "chat_template_kwargs",
       "of a row: a column chat_template_kwargs, such as {enable_thinking: false}"},
      {"tool_format", "", "remove it: the chat template writes tools"},
      {"cutoff_len", "max_length | max_prompt_length, max_completion_length",
       "a longer answer is cut at its end, where LLaMA-Factory cuts prompt and answer in "
       "proportion"},
      {"train_on_prompt", "completion_only_loss", "true there is false here"},
      {"mask_history", "",
       "not offered: write rows of prompt and completion, whose completion is the last turn"},
      {"streaming", "", "no meaning: rows are read from a memory map"},
      {"buffer_size", "", "remove it: rows are read from a memory map and shuffled as a whole"},
      {"mix_strategy", "datasets",
       "concat lists the parts; interleave_under gives each a fraction; no row is used twice"},
      {"interleave_probs", "datasets", "the fraction of each part"},
      {"overwrite_cache", "",
       "remove it: encoded rows are found by their content and are never stale"},
      {"preprocessing_batch_size", "",
       "remove it: rows are encoded one by one on dataset_num_proc threads"},
      {"preprocessing_num_workers", "dataset_num_proc", "in training read as it is"},
      {"data_shared_file_system", "", "remove it: one process trains"},
      {"max_samples", "datasets",
       "the weight of a part is the share of its rows that is taken; or cut the file with head -n"},
      {"eval_num_beams", "", "remove it: there is no beam search"},
      {"ignore_pad_token_for_loss", "", "remove it: nothing is padded"},
      {"val_size", "test_split_size", "a share below 1, or a count"},
      {"eval_on_each_dataset", "", "not offered: run rlhf eval on each"},
      {"packing", "packing", "never across rows, which is neat_packing there"},
      {"neat_packing", "packing", "rows of a pack never see each other here"},
      {"tokenized_path", "cache_dir", "encoded rows are kept there by content"},
      {"media_dir", "", kNoMedia},
      {"image_max_pixels", "", kNoMedia},
      {"image_min_pixels", "", kNoMedia},
      {"image_do_pan_and_scan", "", kNoMedia},
      {"crop_to_patches", "", kNoMedia},
      {"video_max_pixels", "", kNoMedia},
      {"video_min_pixels", "", kNoMedia},
      {"video_fps", "", kNoMedia},
      {"video_maxlen", "", kNoMedia},
      {"use_audio_in_video", "", kNoMedia},
      {"audio_sampling_rate", "", kNoMedia},
      {"freeze_vision_tower", "", kNoMedia},
      {"freeze_multi_modal_projector", "", kNoMedia},
      {"freeze_language_model", "", kNoMedia},
      // Model
      {"adapter_name_or_path", "adapter_name_or_path",
       "one adapter, which is trained on; merge others before with rlhf merge"},
      {"adapter_folder", "adapter_name_or_path", "its path"},
      {"create_new_adapter", "",
       "merge the adapter with rlhf merge, and start from the merged model with use_peft: true"},
      {"use_fast_tokenizer", "", "remove it: tokenizer.json is read as it is"},
      {"split_special_tokens", "", "remove it: special tokens in a text are tokens"},
      {"resize_vocab", "", kNoNewTokens},
      {"add_tokens", "", kNoNewTokens},
      {"add_special_tokens", "", kNoNewTokens},
      {"new_special_tokens_config", "", kNoNewTokens},
      {"init_special_tokens", "", kNoNewTokens},
      {"rope_scaling", "",
       "set it in config.json: default, linear, dynamic, llama3, yarn and longrope are read there"},
      {"flash_attn", "", kOneKernel},
      {"use_unsloth", "", kOneKernel},
      {"use_unsloth_gc", "gradient_checkpointing", ""},
      {"enable_liger_kernel", "", kOneKernel},
      {"use_v1_kernels", "", kOneKernel},
      {"use_kt", "", kOneKernel},
      {"shift_attn", "", "not offered: attention is exact"},
      {"mixture_of_depths", "", "not offered: the architectures are those of the README"},
      {"moe_aux_loss_coef", "", "remove it: mixtures of experts are not among the architectures"},
      {"disable_gradient_checkpointing", "gradient_checkpointing", "true there is false here"},
      {"use_reentrant_gc", "", "remove it: there is one way of checkpointing"},
      {"upcast_layernorm", "", "remove it: norms compute in float32"},
      {"upcast_lmhead_output", "", "remove it: log-probabilities are computed in float32"},
      {"train_from_scratch", "from_scratch", ""},
      {"infer_backend", "", "remove it: sampling runs on the model itself"},
      {"infer_dtype", "dtype", ""},
      {"offload_folder", "", "remove it: weights are read from a memory map"},
      {"use_kv_cache", "", "remove it: sampling always keeps keys and values"},
      {"hf_hub_token", "", kNoHub},
      {"ms_hub_token", "", kNoHub},
      {"om_hub_token", "", kNoHub},
      {"print_param_status", "", "remove it: the run says how many weights it trains"},
      {"quantization_method", "", kNoQuantised},
      {"quantization_bit", "", kNoQuantised},
      {"quantization_type", "", kNoQuantised},
      {"double_quantization", "", kNoQuantised},
      {"quantization_device_map", "", kNoQuantised},
      {"fp8", "", "bf16 is the narrowest type of training here"},
      {"fp8_backend", "", "bf16 is the narrowest type of training here"},
      {"fp8_enable_fsdp_float8_all_gather", "", "bf16 is the narrowest type of training here"},
      {"export_dir", "", kNoExport},
      {"export_size", "", kNoExport},
      {"export_device", "", kNoExport},
      {"export_quantization_bit", "", kNoExport},
      {"export_quantization_dataset", "", kNoExport},
      {"export_quantization_nsamples", "", kNoExport},
      {"export_quantization_maxlen", "", kNoExport},
      {"export_legacy_format", "", kNoExport},
      {"export_hub_model_id", "", kNoHub},
      // Adapters
      {"lora_rank", "lora_r", "8 there by default, 16 here"},
      {"lora_alpha", "lora_alpha", "twice the rank there by default, 32 here"},
      {"lora_target", "lora_target_modules",
       "all is all-linear; names are a list instead of commas"},
      {"lora_dropout", "lora_dropout", "0 there by default, 0.05 here"},
      {"additional_target", "lora_modules_to_save", ""},
      {"loraplus_lr_ratio", "",
       "not offered: every matrix of an adapter has the same learning rate"},
      {"loraplus_lr_embedding", "",
       "not offered: every matrix of an adapter has the same learning rate"},
      {"pissa_init", "", "not offered: a new adapter starts at zero"},
      {"pissa_iter", "", "not offered: a new adapter starts at zero"},
      {"pissa_convert", "", "not offered: a new adapter starts at zero"},
      {"oft_rank", "", "not offered: adapters are LoRA, rsLoRA or DoRA"},
      {"oft_block_size", "", "not offered: adapters are LoRA, rsLoRA or DoRA"},
      {"oft_target", "", "not offered: adapters are LoRA, rsLoRA or DoRA"},
      {"module_dropout", "", "not offered: adapters are LoRA, rsLoRA or DoRA"},
      {"freeze_trainable_layers", "", kNoFreeze},
      {"freeze_trainable_modules", "", kNoFreeze},
      {"freeze_extra_modules", "", kNoFreeze},
      {"use_llama_pro", "", kNoFreeze},
      // Preferences, KTO
      {"pref_beta", "beta", "of dpo read as it is"},
      {"pref_loss", "loss_type", "of dpo read as it is; kto_pair is rlhf kto with unpair: true"},
      {"pref_ftx", "pref_ftx", ""},
      {"pref_bco_weight", "loss_type, loss_weights",
       "bco_pair as one of several losses; there the running mean of rewards is taken off first "
       "and the sum is divided by 1 + weight"},
      {"dpo_label_smoothing", "label_smoothing", "of dpo read as it is"},
      {"kto_chosen_weight", "desirable_weight", ""},
      {"kto_rejected_weight", "undesirable_weight", ""},
      {"simpo_gamma", "simpo_gamma", ""},
      {"ld_alpha", "ld_alpha", "here, as in TRL, of the reference too"},
      {"ref_model", "ref_model_name_or_path", ""},
      {"ref_model_adapters", "ref_model_name_or_path", "merge them first with rlhf merge"},
      {"ref_model_quantization_bit", "", kNoQuantised},
      // PPO
      {"ppo_buffer_size", "gradient_accumulation_steps",
       "a rollout is per_device_train_batch_size by gradient_accumulation_steps; num_mini_batches "
       "cuts it"},
      {"ppo_epochs", "num_ppo_epochs | num_iterations", ""},
      {"ppo_score_norm", "normalize_scores",
       "by the reward model's own statistics instead of running ones"},
      {"ppo_target", "kl_target", ""},
      {"ppo_whiten_rewards", "whiten_rewards", ""},
      {"reward_model", "reward_model_name_or_path", "merge an adapter first with rlhf merge"},
      {"reward_model_adapters", "reward_model_name_or_path", "merge it first with rlhf merge"},
      {"reward_model_quantization_bit", "", kNoQuantised},
      {"reward_model_type", "reward_model_name_or_path",
       "full and lora are told by the folder; api is an entry of reward_funcs with a url"},
      // Optimisers and the rest
      {"use_galore", "", kNoOptimiser},
      {"galore_*", "", kNoOptimiser},
      {"use_apollo", "", kNoOptimiser},
      {"apollo_*", "", kNoOptimiser},
      {"use_badam", "", kNoOptimiser},
      {"badam_*", "", kNoOptimiser},
      {"use_adam_mini", "", kNoOptimiser},
      {"use_muon", "", kNoOptimiser},
      {"use_mca", "", "remove it: one process trains on one device"},
      {"pure_bf16", "dtype", "dtype: bfloat16 holds the weights in it; masters stay float32"},
      {"use_dft_loss", "loss_type", "dft"},
      {"use_asft_loss", "", "not offered: loss_type nll and dft are"},
      {"asft_alpha", "", "not offered: loss_type nll and dft are"},
      {"use_eaft_loss", "", "not offered: loss_type nll and dft are"},
      {"eaft_alpha", "", "not offered: loss_type nll and dft are"},
      {"compute_accuracy", "", "remove it: mean_token_accuracy is always logged"},
      {"disable_shuffling", "train_sampling_strategy", "sequential"},
      {"early_stopping_steps", "early_stopping_patience", "counted in evaluations there too"},
      {"plot_loss", "", "remove it: metrics.jsonl and TensorBoard files hold the curves"},
      {"include_effective_tokens_per_second", "", "remove it: tokens_per_second is always logged"},
      {"use_swanlab", "", kNoTracker},
      {"swanlab_*", "", kNoTracker},
      {"trackio_project", "", kNoTracker},
      {"predict_with_generate", "", "run rlhf generate, or rlhf eval"},
      // Generation
      {"do_sample", "temperature",
       "training always samples; of rlhf generate and eval 0 is greedy"},
      {"max_new_tokens", "max_completion_length", ""},
      {"num_beams", "", "remove it: there is no beam search"},
      {"length_penalty", "", "remove it: there is no beam search"},
      {"skip_special_tokens", "", "remove it: texts of completions have no special tokens"},
  });
  return kKeys;
}

}  // namespace rlhf
