// OpenRLHF's dotted flags (from version 0.10 on), those of train_sft, train_rm, train_dpo and
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
constexpr const char* kSameWeights = "remove it: sampler and trainer are the same weights";
constexpr const char* kNoMuon = "not offered: optim names the optimisers there are";
constexpr const char* kNoAverage =
    "not offered: sync_ref_model keeps a moving average of the policy as the reference";
constexpr const char* kNoMedia = "remove it: rows are text";
constexpr const char* kOneTurn = "not offered: completions have one turn";
constexpr const char* kNoQuantised = "remove it: weights are held in dtype";
constexpr const char* kTokens = "tokens of one pass; never changes a result";
constexpr const char* kCompletions = "in completions: prompts times num_generations";
constexpr const char* kRowsOfAStep =
    "their product is the rows of a step (of grpo, rloo and ppo completions); one process trains, "
    "so it is train_batch_size itself";

}  // namespace

std::span<const PeerKey> openrlhf_dotted_keys() {
  static constexpr auto kKeys = std::to_array<PeerKey>({
      // Models
      {"model.model_name_or_path", "model_name_or_path | model", ""},
      {"actor.model_name_or_path", "model_name_or_path | model", ""},
      {"ref.model_name_or_path", "ref_model_name_or_path", ""},
      {"reward.model_name_or_path", "reward_model_name_or_path", ""},
      {"critic.model_name_or_path", "value_model_name_or_path", ""},
      {"reward.remote_url", "reward_funcs",
       "an entry with a url; a Python function is a command that runs share/reward_worker.py "
       "(docs/rewards.md)"},
      {"train.agent_func_path", "", kOneTurn},
      {"ds.value_head_prefix", "", "remove it: the head is called score"},
      {"data.disable_fast_tokenizer", "", "remove it: tokenizer.json is read as it is"},
      {"data.tokenizer_chat_template", "chat_template", ""},
      {"data.apply_chat_template", "",
       "remove it: rows of messages always go through the chat template"},
      {"data.input_template", "chat_template", "as Jinja; or write prompts as they should stand"},
      // Data
      {"data.dataset", "dataset_name", "JSONL files or folders"},
      {"data.prompt_dataset", "dataset_name", "JSONL files or folders"},
      {"data.dataset_probs", "datasets", "the fraction of each part"},
      {"data.prompt_probs", "datasets", "the fraction of each part"},
      {"data.dataset_split", "dataset_train_split", ""},
      {"data.prompt_split", "dataset_train_split", ""},
      {"eval.dataset", "dataset_test_split",
       "the file of that name in the folder of dataset_name; or set test_split_size"},
      {"eval.split", "dataset_test_split", ""},
      {"data.input_key", "dataset_columns", "{prompt: its value}; rows of messages need none"},
      {"data.output_key", "dataset_columns", "{completion: its value}"},
      {"data.prompt_key", "dataset_columns", "{prompt: its value}"},
      {"data.chosen_key", "dataset_columns", "{chosen: its value}"},
      {"data.rejected_key", "dataset_columns", "{rejected: its value}"},
      {"data.label_key", "dataset_columns",
       "{label: its value}; the answer that accuracy compares with is {solution: its value}"},
      {"data.max_samples", "datasets",
       "the weight of a part is the share of its rows that is taken; or cut the file with head -n"},
      {"data.max_len", "max_length | max_prompt_length, max_completion_length",
       "2048 there by default of train_sft, 512 of others; 1024 here"},
      {"data.prompt_max_len", "max_prompt_length", "longer prompts are left out and counted"},
      {"rollout.max_new_tokens", "max_completion_length | max_new_tokens", ""},
      {"model.pretrain_mode_enable", "", "remove it: rows of text are trained on as a whole"},
      {"data.multiturn", "assistant_only_loss", ""},
      {"ds.packing_samples", "",
       "remove it: rows are always computed side by side, without padding"},
      {"data.dataloader_num_workers", "",
       "remove it: encoded rows are mapped from disk and read in place"},
      {"data.image_key", "", kNoMedia},
      {"data.max_images_per_prompt", "", kNoMedia},
      {"actor.freeze_visual_encoder", "", kNoMedia},
      // Batches and optimiser
      {"train.batch_size", "per_device_train_batch_size, gradient_accumulation_steps",
       kRowsOfAStep},
      {"train.micro_batch_size", "max_tokens_per_microbatch", kTokens},
      {"train.max_tokens_per_gpu", "max_tokens_per_microbatch", kTokens},
      {"train.dynamic_batch_enable", "max_tokens_per_microbatch", "always by tokens"},
      {"rollout.batch_size", "generation_batch_size | per_device_train_batch_size", kCompletions},
      {"rollout.micro_batch_size", "rollout_rows", "most completions that grow together"},
      {"rollout.max_tokens_per_gpu", "rollout_cache_gib", "memory of running completions"},
      {"rollout.vllm_generate_batch_size", "generation_batch_size | per_device_train_batch_size",
       kCompletions},
      {"train.num_episodes", "num_train_epochs", ""},
      {"train.max_epochs", "num_ppo_epochs | num_iterations | num_train_epochs",
       "of train_ppo_ray how often a rollout is trained on, else passes over the data"},
      {"actor.max_norm", "max_grad_norm", ""},
      {"adam.weight_decay", "weight_decay", ""},
      {"actor.adam.weight_decay", "weight_decay", ""},
      {"adam.betas", "adam_beta1, adam_beta2", "0.9 0.95 there by default, 0.9 0.999 here"},
      {"actor.adam.betas", "adam_beta1, adam_beta2", "0.9 0.95 there by default, 0.9 0.999 here"},
      {"adam.eps", "adam_epsilon", ""},
      {"actor.adam.eps", "adam_epsilon", ""},
      {"adam.lr", "learning_rate", ""},
      {"actor.adam.lr", "learning_rate", ""},
      {"critic.adam.lr", "critic_learning_rate", "9e-6 there by default, learning_rate here"},
      {"critic.adam.*", "",
       "remove it: the critic follows the policy's optimiser keys, with critic_learning_rate of "
       "its own"},
      {"critic.lr_scheduler", "",
       "remove it: the critic follows the policy's optimiser keys, with critic_learning_rate of "
       "its own"},
      {"critic.lr_warmup_ratio", "",
       "remove it: the critic follows the policy's optimiser keys, with critic_learning_rate of "
       "its own"},
      {"critic.min_lr_ratio", "",
       "remove it: the critic follows the policy's optimiser keys, with critic_learning_rate of "
       "its own"},
      {"critic.max_norm", "",
       "remove it: the critic follows the policy's optimiser keys, with critic_learning_rate of "
       "its own"},
      {"critic.optim", "",
       "remove it: the critic follows the policy's optimiser keys, with critic_learning_rate of "
       "its own"},
      {"actor.lr_scheduler", "lr_scheduler_type",
       "cosine_with_min_lr there by default, with {min_lr_rate: 0.1} as lr_scheduler_kwargs"},
      {"actor.lr_warmup_ratio", "warmup_ratio", "0.03 there by default, 0 here"},
      {"actor.min_lr_ratio", "lr_scheduler_kwargs",
       "{min_lr_rate: its value} with cosine_with_min_lr"},
      {"actor.optim", "optim", "adam is adamw_torch; muon is not offered"},
      {"muon.*", "", kNoMuon},
      {"actor.muon.*", "", kNoMuon},
      {"critic.muon.*", "", kNoMuon},
      {"model.gradient_checkpointing_enable", "gradient_checkpointing", "true here by default"},
      {"actor.gradient_checkpointing_enable", "gradient_checkpointing", "true here by default"},
      {"model.gradient_checkpointing_reentrant", "", kCheckpointing},
      {"actor.gradient_checkpointing_reentrant", "", kCheckpointing},
      {"ds.param_dtype", "dtype", "bf16 is bfloat16"},
      {"train.seed", "seed", ""},
      {"train.full_determinism_enable", "full_determinism", ""},
      // Adapters
      {"ds.lora.rank", "lora_r", "with use_peft: true; 0 is use_peft: false"},
      {"ds.lora.alpha", "lora_alpha", "16 there by default, 32 here"},
      {"ds.lora.dropout", "lora_dropout", "0 there by default, 0.05 here"},
      {"ds.lora.target_modules", "lora_target_modules", "all-linear there by default"},
      {"ds.load_in_4bit", "", kNoQuantised},
      // Preferences, reward models, KTO
      {"model.beta", "beta", ""},
      {"model.ipo_enable", "loss_type", "ipo; as in TRL on the mean over tokens, there on the sum"},
      {"model.label_smoothing", "label_smoothing", ""},
      {"model.nll_loss_coef", "pref_ftx", ""},
      {"model.loss_type", "", "remove it: a reward model's loss is the logistic one"},
      {"model.margin_loss_enable", "", "remove it: a column margin is read where there is one"},
      {"model.compute_fp32_loss_enable", "", "remove it: losses are computed in float32"},
      {"ref.offload", "precompute_ref_log_probs",
       "the reference is computed once and not held, which is the default where it is fixed"},
      // Reinforcement learning
      {"algo.advantage.estimator", "advantage_estimator",
       "gae is rlhf ppo, which needs no key; rloo, reinforce and reinforce_baseline are of rlhf "
       "rloo; group_norm is rlhf grpo, dr_grpo too with loss_type: dr_grpo and scale_rewards: "
       "none"},
      {"rollout.n_samples_per_prompt", "num_generations", ""},
      {"actor.eps_clip", "cliprange | epsilon", ""},
      {"actor.eps_clip_low_high", "epsilon, epsilon_high | cliprange",
       "the lower one and the upper one; ppo has one bound"},
      {"actor.dual_clip", "delta", ""},
      {"critic.value_clip", "cliprange_value", "0.5 there by default, 0.2 here"},
      {"algo.advantage.lambd", "lam", "1 there by default, 0.95 here"},
      {"algo.advantage.gamma", "gamma", ""},
      {"reward.normalize_enable", "normalize_scores", ""},
      {"reward.clip_range", "reward_clip_range", "-10 10 there by default, null here"},
      {"algo.kl.init_coef", "kl_coef | beta", ""},
      {"algo.kl.target", "kl_target", ""},
      {"algo.kl.horizon", "kl_horizon", ""},
      {"algo.kl.estimator", "kl_estimator", "of ppo; the KL of grpo is k3, that of rloo k1"},
      {"algo.kl.use_loss", "beta", "of grpo, whose KL is in the loss"},
      {"actor.policy_loss_type", "importance_sampling_level",
       "gspo is sequence, with loss_type: grpo"},
      {"actor.entropy_coef", "entropy_coef", ""},
      {"algo.advantage.no_std_norm", "scale_rewards", "none"},
      {"critic.freezing_steps", "critic_warmup", ""},
      {"critic.save_value_network", "", "remove it: the critic is always saved"},
      {"actor.ptx_coef", "", "not offered: train on both in turn with rlhf sft"},
      {"reward.overlong_buffer_len", "reward_funcs",
       "{name: soft_overlong, soft_punish_cache: its value}"},
      {"reward.overlong_penalty_factor", "reward_weights", "the weight of soft_overlong"},
      {"reward.stop_properly_penalty_coef", "missing_eos_penalty",
       "of ppo; or mask_truncated_completions"},
      {"algo.dynamic_filtering_enable", "dynamic_sampling", ""},
      {"algo.dynamic_filtering_range", "dynamic_sampling",
       "groups whose rewards are all equal are replaced"},
      {"rollout.temperature", "temperature", ""},
      {"rollout.top_p", "top_p", ""},
      {"eval.temperature", "",
       "remove it: evaluations sample as training does; rlhf eval has a temperature"},
      {"eval.n_samples_per_prompt", "num_generations_eval", ""},
      {"algo.advantage.is_correction_*", "", kSameWeights},
      {"vllm.*", "", kOwnEngine},
      {"train.async_*", "", kOwnEngine},
      {"train.partial_rollout_enable", "", kOwnEngine},
      {"train.enable_ema", "", kNoAverage},
      {"train.ema_beta", "", kNoAverage},
      // Run
      {"ckpt.output_dir", "output_dir | output", ""},
      {"ckpt.path", "output_dir", "checkpoints lie in it"},
      {"ckpt.save_steps", "save_steps", "-1 is save_strategy: no"},
      {"eval.steps", "eval_steps", "with eval_strategy: steps; -1 is eval_strategy: no"},
      {"logger.logging_steps", "logging_steps", ""},
      {"ckpt.max_num", "save_total_limit", ""},
      {"ckpt.max_mem", "save_total_limit", "a number of checkpoints"},
      {"ckpt.load_enable", "resume_from_checkpoint", ""},
      {"ckpt.save_hf", "", "remove it: every checkpoint is a Hugging Face folder"},
      {"ckpt.disable_ds", "save_only_model", ""},
      {"ckpt.best_metric_key", "metric_for_best_model", "with load_best_model_at_end"},
      {"ds.use_universal_ckpt", "", kOwnCheckpoints},
      {"logger.wandb.key", "report_to", "tensorboard; metrics.jsonl is always written"},
      {"logger.wandb.run_name", "run_name", ""},
      {"logger.wandb.*", "", kNoTracker},
      {"logger.tensorboard_dir", "report_to, logging_dir", "tensorboard, and its path"},
      // Machines
      {"ds.attn_implementation", "", kAttention},
      {"model.aux_loss_coef", "", kNoExperts},
      {"actor.aux_loss_coef", "", kNoExperts},
      {"ds.experts_implementation", "", kNoExperts},
      {"ds.use_liger_kernel", "", "remove it: fused kernels are always on"},
      {"reward.offload", "", kOneProcess},
      {"ds.*", "", kOneProcess},
      {"actor.num_*", "", kOneProcess},
      {"critic.num_*", "", kOneProcess},
      {"ref.num_*", "", kOneProcess},
      {"reward.num_*", "", kOneProcess},
      {"train.colocate_*", "", kOneProcess},
  });
  return kKeys;
}

}  // namespace rlhf
