// OpenRLHF's flags before version 0.10, those of train_sft, train_rm, train_dpo, train_kto and
// train_ppo_ray.
#include <array>

#include "rlhf/config/peer_keys.h"

namespace rlhf {
namespace {

constexpr const char* kOneProcess = "remove it: one process trains on one device";
constexpr const char* kOwnEngine =
    "remove it: completions are drawn on the trained weights themselves, without a second engine";
constexpr const char* kAttention = "remove it: one exact attention serves every device";
constexpr const char* kNoTracker =
    "remove it: metrics.jsonl and TensorBoard files hold the metrics";
constexpr const char* kCheckpointing = "remove it: one way of checkpointing serves all";
constexpr const char* kOwnCheckpoints =
    "remove it: checkpoints are folders of this program, whole or absent";
constexpr const char* kNoExperts = "remove it: mixtures of experts are not among the architectures";
constexpr const char* kNoHub = "remove it: nothing is sent to or read from a hub";
constexpr const char* kSameWeights = "remove it: sampler and trainer are the same weights";
constexpr const char* kNoAverage =
    "not offered: sync_ref_model keeps a moving average of the policy as the reference";
constexpr const char* kOneTurn = "not offered: completions have one turn";
constexpr const char* kTokens = "tokens of one pass; never changes a result";
constexpr const char* kCompletions = "in completions: prompts times num_generations";
constexpr const char* kRowsOfAStep =
    "their product is the rows of a step (of grpo, rloo and ppo completions); one process trains, "
    "so it is train_batch_size itself";

}  // namespace

std::span<const PeerKey> openrlhf_keys() {
  static constexpr auto kKeys = std::to_array<PeerKey>({
      // Models
      {"pretrain", "model_name_or_path | model", ""},
      {"ref_pretrain", "ref_model_name_or_path", ""},
      {"reward_pretrain", "reward_model_name_or_path", ""},
      {"critic_pretrain", "value_model_name_or_path", ""},
      {"remote_rm_url", "reward_funcs",
       "an entry with a url; a Python function is a command that runs share/reward_worker.py "
       "(docs/rewards.md)"},
      {"agent_func_path", "", kOneTurn},
      {"value_head_prefix", "", "remove it: the head is called score"},
      {"disable_fast_tokenizer", "", "remove it: tokenizer.json is read as it is"},
      {"tokenizer_chat_template", "chat_template", ""},
      {"apply_chat_template", "",
       "remove it: rows of messages always go through the chat template"},
      {"input_template", "chat_template", "as Jinja; or write prompts as they should stand"},
      // Data
      {"dataset", "dataset_name", "JSONL files or folders"},
      {"prompt_data", "dataset_name", "JSONL files or folders"},
      {"dataset_probs", "datasets", "the fraction of each part"},
      {"prompt_data_probs", "datasets", "the fraction of each part"},
      {"train_split", "dataset_train_split", ""},
      {"dataset_split", "dataset_train_split", ""},
      {"prompt_split", "dataset_train_split", ""},
      {"eval_dataset", "dataset_test_split",
       "the file of that name in the folder of dataset_name; or set test_split_size"},
      {"eval_split", "dataset_test_split", ""},
      {"input_key", "dataset_columns", "{prompt: its value}; rows of messages need none"},
      {"output_key", "dataset_columns", "{completion: its value}"},
      {"prompt_key", "dataset_columns", "{prompt: its value}"},
      {"chosen_key", "dataset_columns", "{chosen: its value}"},
      {"rejected_key", "dataset_columns", "{rejected: its value}"},
      {"label_key", "dataset_columns",
       "{label: its value}; the answer that accuracy compares with is {solution: its value}"},
      {"max_samples", "datasets",
       "the weight of a part is the share of its rows that is taken; or cut the file with head -n"},
      {"max_len", "max_length | max_prompt_length, max_completion_length",
       "2048 there by default of train_sft, 512 of others; 1024 here"},
      {"prompt_max_len", "max_prompt_length", "longer prompts are left out and counted"},
      {"generate_max_len", "max_completion_length | max_new_tokens", ""},
      {"pretrain_mode", "", "remove it: rows of text are trained on as a whole"},
      {"multiturn", "assistant_only_loss", ""},
      {"packing_samples", "", "remove it: rows are always computed side by side, without padding"},
      // Batches and optimiser
      {"train_batch_size", "per_device_train_batch_size, gradient_accumulation_steps",
       kRowsOfAStep},
      {"micro_train_batch_size", "max_tokens_per_microbatch", kTokens},
      {"train_max_tokens_per_gpu", "max_tokens_per_microbatch", kTokens},
      {"use_dynamic_batch", "max_tokens_per_microbatch", "always by tokens"},
      {"rollout_batch_size", "generation_batch_size | per_device_train_batch_size", kCompletions},
      {"micro_rollout_batch_size", "rollout_rows", "most completions that grow together"},
      {"rollout_max_tokens_per_gpu", "rollout_cache_gib", "memory of running completions"},
      {"vllm_generate_batch_size", "generation_batch_size | per_device_train_batch_size",
       kCompletions},
      {"num_episodes", "num_train_epochs", ""},
      {"max_epochs", "num_ppo_epochs | num_iterations | num_train_epochs",
       "of train_ppo_ray how often a rollout is trained on, else passes over the data"},
      {"max_norm", "max_grad_norm", ""},
      {"l2", "weight_decay", ""},
      {"adam_betas", "adam_beta1, adam_beta2", "0.9 0.95 there by default, 0.9 0.999 here"},
      {"learning_rate", "learning_rate", ""},
      {"actor_learning_rate", "learning_rate", ""},
      {"critic_learning_rate", "critic_learning_rate", "9e-6 there by default, learning_rate here"},
      {"lr_scheduler", "lr_scheduler_type",
       "cosine_with_min_lr there by default, with {min_lr_rate: 0.1} as lr_scheduler_kwargs"},
      {"lr_warmup_ratio", "warmup_ratio", "0.03 there by default, 0 here"},
      {"min_lr_ratio", "lr_scheduler_kwargs", "{min_lr_rate: its value} with cosine_with_min_lr"},
      {"gradient_checkpointing", "gradient_checkpointing", "true here by default"},
      {"gradient_checkpointing_use_reentrant", "", kCheckpointing},
      {"full_determinism", "full_determinism", ""},
      // Adapters
      {"lora_rank", "lora_r", "with use_peft: true; 0 is use_peft: false"},
      {"lora_alpha", "lora_alpha", "16 there by default, 32 here"},
      {"lora_dropout", "lora_dropout", "0 there by default, 0.05 here"},
      {"target_modules", "lora_target_modules", "all-linear there by default"},
      // Preferences, reward models, KTO
      {"beta", "beta", ""},
      {"ipo", "loss_type", "ipo; as in TRL on the mean over tokens, there on the sum"},
      {"label_smoothing", "label_smoothing", ""},
      {"nll_loss_coef", "pref_ftx", ""},
      {"desirable_loss_weight", "desirable_weight", ""},
      {"undesirable_loss_weight", "undesirable_weight", ""},
      {"loss", "", "remove it: a reward model's loss is the logistic one"},
      {"margin_loss", "", "remove it: a column margin is read where there is one"},
      {"compute_fp32_loss", "", "remove it: losses are computed in float32"},
      {"ref_offload", "precompute_ref_log_probs",
       "the reference is computed once and not held, which is the default where it is fixed"},
      // Reinforcement learning
      {"advantage_estimator", "advantage_estimator",
       "gae is rlhf ppo, which needs no key; rloo, reinforce and reinforce_baseline are of rlhf "
       "rloo; group_norm is rlhf grpo, dr_grpo too with loss_type: dr_grpo and scale_rewards: "
       "none"},
      {"n_samples_per_prompt", "num_generations", ""},
      {"eps_clip", "cliprange | epsilon", ""},
      {"eps_clip_low_high", "epsilon, epsilon_high | cliprange",
       "the lower one and the upper one; ppo has one bound"},
      {"dual_clip", "delta", ""},
      {"value_clip", "cliprange_value", "0.5 there by default, 0.2 here"},
      {"lambd", "lam", "1 there by default, 0.95 here"},
      {"gamma", "gamma", ""},
      {"normalize_reward", "normalize_scores", ""},
      {"reward_clip_range", "reward_clip_range", "-10 10 there by default, null here"},
      {"init_kl_coef", "kl_coef | beta", ""},
      {"kl_target", "kl_target", ""},
      {"kl_horizon", "kl_horizon", ""},
      {"kl_estimator", "kl_estimator", "of ppo; the KL of grpo is k3, that of rloo k1"},
      {"use_kl_loss", "beta", "of grpo, whose KL is in the loss"},
      {"policy_loss_type", "importance_sampling_level", "gspo is sequence, with loss_type: grpo"},
      {"entropy_loss_coef", "entropy_coef", ""},
      {"no_advantage_std_norm", "scale_rewards", "none"},
      {"freezing_actor_steps", "critic_warmup", ""},
      {"save_value_network", "", "remove it: the critic is always saved"},
      {"ptx_coef", "", "not offered: train on both in turn with rlhf sft"},
      {"overlong_buffer_len", "reward_funcs",
       "{name: soft_overlong, soft_punish_cache: its value}"},
      {"overlong_penalty_factor", "reward_weights", "the weight of soft_overlong"},
      {"dynamic_filtering", "dynamic_sampling", ""},
      {"dynamic_filtering_reward_range", "dynamic_sampling",
       "groups whose rewards are all equal are replaced"},
      {"eval_temperature", "",
       "remove it: evaluations sample as training does; rlhf eval has a temperature"},
      {"eval_n_samples_per_prompt", "num_generations_eval", ""},
      {"enable_vllm_is_correction", "", kSameWeights},
      {"vllm_is_truncated_threshold", "", kSameWeights},
      {"vllm_*", "", kOwnEngine},
      {"enable_prefix_caching", "", "remove it: the prompt of a group is computed once"},
      {"enforce_eager", "", kOwnEngine},
      {"rollout_tasks_per_gpu", "", kOwnEngine},
      {"async_train", "", kOwnEngine},
      {"async_queue_size", "", kOwnEngine},
      {"enable_ema", "", kNoAverage},
      {"ema_beta", "", kNoAverage},
      // Run
      {"save_path", "output_dir | output", ""},
      {"ckpt_path", "output_dir", "checkpoints lie in it"},
      {"save_steps", "save_steps", "-1 is save_strategy: no"},
      {"eval_steps", "eval_steps", "with eval_strategy: steps; -1 is eval_strategy: no"},
      {"logging_steps", "logging_steps", ""},
      {"max_ckpt_num", "save_total_limit", ""},
      {"max_ckpt_mem", "save_total_limit", "a number of checkpoints"},
      {"load_checkpoint", "resume_from_checkpoint", ""},
      {"save_hf_ckpt", "", "remove it: every checkpoint is a Hugging Face folder"},
      {"disable_ds_ckpt", "save_only_model", ""},
      {"use_ds_universal_ckpt", "", kOwnCheckpoints},
      {"use_wandb", "report_to", "tensorboard; metrics.jsonl is always written"},
      {"wandb_run_name", "run_name", ""},
      {"wandb_*", "", kNoTracker},
      {"use_tensorboard", "report_to, logging_dir", "tensorboard, and its path"},
      {"use_ms", "", kNoHub},
      {"perf", "", "remove it: tokens_per_second and peak_memory are always logged"},
      // Machines
      {"flash_attn", "", kAttention},
      {"aux_loss_coef", "", kNoExperts},
      {"ref_reward_offload", "", kOneProcess},
      {"zero_stage", "", kOneProcess},
      {"zpg", "", kOneProcess},
      {"adam_offload", "", kOneProcess},
      {"overlap_comm", "", kOneProcess},
      {"grad_accum_dtype", "", kOneProcess},
      {"deepcompile", "", kOneProcess},
      {"dist_backend", "", kOneProcess},
      {"ds_tensor_parallel_size", "", kOneProcess},
      {"ring_attn_size", "", kOneProcess},
      {"ring_head_stride", "", kOneProcess},
      {"disable_trace_cache", "", kOneProcess},
      {"actor_init_on_gpu", "", kOneProcess},
      {"deepspeed_enable_sleep", "", kOneProcess},
      {"actor_num_nodes", "", kOneProcess},
      {"actor_num_gpus_per_node", "", kOneProcess},
      {"critic_num_nodes", "", kOneProcess},
      {"critic_num_gpus_per_node", "", kOneProcess},
      {"ref_num_nodes", "", kOneProcess},
      {"ref_num_gpus_per_node", "", kOneProcess},
      {"reward_num_nodes", "", kOneProcess},
      {"reward_num_gpus_per_node", "", kOneProcess},
      {"colocate_actor_ref", "", kOneProcess},
      {"colocate_critic_reward", "", kOneProcess},
      {"colocate_all_models", "", kOneProcess},
  });
  return kKeys;
}

}  // namespace rlhf
