#include "rlhf/config/training_options.h"

#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

void declare_scheduler(OptionSet& set, SchedulerOptions& options) {
  const std::vector<std::string> curves = {"linear", "cosine", "1-sqrt"};
  set.add("num_cycles", options.num_cycles, "Waves of a cosine schedule, or its restarts.")
      .above(0);
  set.add("power", options.power, "Exponent of polynomial.").above(0);
  set.add("lr_end", options.lr_end, "Last learning rate of polynomial.").at_least(0);
  set.add("min_lr", options.min_lr, "Lowest learning rate.").at_least(0);
  set.add("min_lr_rate", options.min_lr_rate, "Lowest learning rate as a share of learning_rate.")
      .between(0, 1);
  set.add("warmup_lr_rate", options.warmup_lr_rate,
          "First learning rate of the warm-up as a share of learning_rate.")
      .between(0, 1);
  set.add("timescale", options.timescale, "Time scale of inverse_sqrt in steps.").at_least(1);
  set.add("num_decay_steps", options.num_decay_steps, "Steps of the decay of warmup_stable_decay.")
      .at_least(0);
  set.add("num_stable_steps", options.num_stable_steps, "Steps between warm-up and decay.")
      .at_least(0);
  set.add("warmup_type", options.warmup_type, "Curve of the warm-up.").one_of(curves);
  set.add("decay_type", options.decay_type, "Curve of the decay.").one_of(curves);
  set.add("min_lr_ratio", options.min_lr_ratio,
          "Lowest learning rate of warmup_stable_decay as a share.")
      .between(0, 1);
  set.add("mode", options.mode, "Whether a lower or a higher metric is better.")
      .one_of({"min", "max"});
  set.add("factor", options.factor,
          "What the learning rate is multiplied by when the metric stalls.")
      .from_below(0, 1);
  set.add("patience", options.patience, "Evaluations without improvement before the rate changes.")
      .at_least(0);
  set.add("threshold", options.threshold, "Least change that counts as improvement.").at_least(0);
  set.add("threshold_mode", options.threshold_mode, "Whether threshold is relative.")
      .one_of({"rel", "abs"});
  set.add("cooldown", options.cooldown, "Evaluations to wait after a reduction.").at_least(0);
  set.add("eps", options.eps, "Least change of the learning rate that is made.").at_least(0);
  set.add("warmup", options.warmup, "Evaluations to wait after an increase (greedy).").at_least(0);
  set.add("max_lr", options.max_lr, "Highest learning rate (greedy).").above(0);
  set.add("smooth", options.smooth, "Whether greedy averages the metric over window_size.");
  set.add("window_size", options.window_size, "Values averaged by smooth.").at_least(1);
  set.add("reset_start", options.reset_start, "Steps at min_lr before greedy starts anew.")
      .at_least(0);
}

void declare_run(OptionSet& set, TrainingOptions& options) {
  set.group("Run");
  set.add("output_dir", options.output_dir, "The run folder; null: trainer_output.");
  set.add("overwrite_output_dir", options.overwrite_output_dir,
          "Start anew in a folder that holds a run.");
  set.add("resume_from_checkpoint", options.resume_from_checkpoint,
          "Checkpoint folder to go on from; true: the latest of output_dir.")
      .spelling("True", "true")
      .spelling("false", nullptr)
      .spelling("False", nullptr);
  set.add("run_name", options.run_name,
          "Name of the run in reports; null: that of the run folder.");
  set.add("seed", options.seed, "Seed of every random stream.").at_least(0);
  set.add("data_seed", options.data_seed, "Seed of the order of rows; null: seed.").at_least(0);
  set.add("full_determinism", options.full_determinism,
          "Make results independent, to the last bit, of what shares a batch. Slower.");
  set.add("use_cpu", options.use_cpu, "Same as device: cpu.").old_name("no_cuda");
  set.add("threads", options.threads, "Threads to compute with; 0: all cores this process may use.")
      .at_least(0);
}

void declare_batches(OptionSet& set, TrainingOptions& options) {
  set.group("Batches");
  set.add("per_device_train_batch_size", options.per_device_train_batch_size,
          "Rows (packed: full sequences) of an optimiser step, by gradient_accumulation_steps and "
          "processes.")
      .between(1, kMostCount)
      .written("B")
      .old_name("per_gpu_train_batch_size");
  set.add("gradient_accumulation_steps", options.gradient_accumulation_steps,
          "Multiplies the rows of an optimiser step. Memory follows max_tokens_per_microbatch, not "
          "this.")
      .between(1, kMostCount);
  set.add("max_tokens_per_microbatch", options.max_tokens_per_microbatch,
          "Tokens of one forward and backward pass; never changes the result, but the mask of an "
          "adapter's dropout where a group of answers is cut. 0: 768, or 1,152 for groups of "
          "answers (num_generations above 1), of a step's first pass, which meets no gradients, up "
          "to twice that. A longer row stands alone.")
      .at_least(0);
  set.add("num_train_epochs", options.num_train_epochs, "Passes over the data; may be a fraction.")
      .above(0);
  set.add("max_steps", options.max_steps,
          "Optimiser steps, in place of num_train_epochs where positive.")
      .at_least(-1);
  set.add("train_sampling_strategy", options.train_sampling_strategy,
          "Order of rows within an epoch.")
      .spelling("batch_rebalance", "random");
  set.add("group_by_length", options.group_by_length,
          "Older switch for train_sampling_strategy: group_by_length.");
  set.add("dataloader_drop_last", options.dataloader_drop_last,
          "Drop the last, smaller batch of an epoch.");
}

void declare_optimizer(OptionSet& set, TrainingOptions& options) {
  set.group("Optimiser");
  set.add("optim", options.optim,
          "Optimiser. Both adamw_torch are the same fused step here; adamw_8bit keeps moments as "
          "8-bit codes, but for embeddings and tensors below 4096 numbers.")
      .spelling("adamw_hf", "adamw_torch")
      .spelling("paged_adamw", "adamw_torch")
      .spelling("paged_adamw_32bit", "adamw_torch")
      .spelling("adamw_bnb_8bit", "adamw_8bit")
      .spelling("paged_adamw_8bit", "adamw_8bit")
      .advice(
          "in place of AdamW in 4 bits write adamw_8bit, or adafactor, which keeps the smallest "
          "state; low-rank optimisers are not offered.");
  set.add("optim_args", options.optim_args, "For sgd: momentum=0.9,dampening=0,nesterov=true.");
  set.add("learning_rate", options.learning_rate, "Peak learning rate.").at_least(0).written("η");
  set.add("weight_decay", options.weight_decay, "Decoupled weight decay; not on biases and norms.")
      .at_least(0)
      .written("λ");
  set.add("adam_beta1", options.adam_beta1, "Decay of the first moment.")
      .from_below(0, 1)
      .written("β₁");
  set.add("adam_beta2", options.adam_beta2, "Decay of the second moment.")
      .from_below(0, 1)
      .written("β₂");
  set.add("adam_epsilon", options.adam_epsilon, "Added to the root of the second moment.")
      .at_least(0)
      .written("ε");
  set.add("max_grad_norm", options.max_grad_norm, "Largest norm of the gradient; 0: not clipped.")
      .at_least(0);
  set.add("label_smoothing_factor", options.label_smoothing_factor,
          "Share of the target spread over the vocabulary; of sft.")
      .from_below(0, 1);
  set.add("neftune_noise_alpha", options.neftune_noise_alpha,
          "NEFTune, of sft: scale of the noise on embeddings; null: none. Usual: 5 to 15.")
      .above(0)
      .written("α");

  set.group("Schedule");
  set.add("lr_scheduler_type", options.lr_scheduler_type, "How the learning rate moves.");
  set.add_record("lr_scheduler_kwargs", options.lr_scheduler_kwargs,
                 "Parameters of the schedule, named and defaulted as in transformers.",
                 declare_scheduler);
  set.add("warmup_steps", options.warmup_steps,
          "Steps of linear warm-up; below 1: a share of all steps.")
      .at_least(0);
  set.add("warmup_ratio", options.warmup_ratio, "Older key for a share of all steps.")
      .from_below(0, 1);

  set.group("Precision and memory");
  set.add("bf16", options.bf16,
          "Compute in bfloat16; null: where the device does so natively and dtype does not say "
          "otherwise.");
  set.add("gradient_checkpointing", options.gradient_checkpointing,
          "Keep one activation a layer and compute the rest again in the backward pass.");
  set.add("activation_checkpointing", options.activation_checkpointing,
          "Newer name of gradient_checkpointing; wins where set.");
}

void declare_logging(OptionSet& set, TrainingOptions& options) {
  set.group("Logging");
  set.add("logging_strategy", options.logging_strategy, "When training metrics are logged.");
  set.add("logging_steps", options.logging_steps,
          "Steps between two logs; below 1: a share of all steps.")
      .at_least(0);
  set.add("logging_first_step", options.logging_first_step, "Log the first step too.");
  set.add("logging_nan_inf_filter", options.logging_nan_inf_filter,
          "Leave losses that are not finite out of the logged mean. Gradients are not touched.");
  set.add("logging_dir", options.logging_dir,
          "Folder of TensorBoard files; null: runs in the run folder.");
  set.add("report_to", options.report_to,
          "tensorboard, none or all. metrics.jsonl is always written; other services are named but "
          "not served.");
  set.add("include_num_input_tokens_seen", options.include_num_input_tokens_seen,
          "Log the tokens seen so far; there is no padding, so all and non_padding are the same.")
      .spelling("true", "all")
      .spelling("True", "all")
      .spelling("false", "no")
      .spelling("False", "no");
  set.add("log_level", options.log_level, "Least severe messages shown; passive: info.")
      .one_of({"debug", "info", "warning", "error", "critical", "passive"});
  set.add("disable_tqdm", options.disable_tqdm,
          "No progress bar; null: one where standard error is a terminal.");
}

void declare_evaluation(OptionSet& set, TrainingOptions& options) {
  set.group("Evaluation");
  set.add("eval_strategy", options.eval_strategy, "When the test split is evaluated.")
      .old_name("evaluation_strategy");
  set.add("eval_steps", options.eval_steps,
          "Steps between two evaluations; below 1: a share of all steps; null: logging_steps.")
      .at_least(0)
      .advice("eval_strategy: no evaluates never, epoch after each epoch.");
  set.add("eval_delay", options.eval_delay,
          "Epochs or steps, by eval_strategy, before the first evaluation.")
      .at_least(0);
  set.add("eval_on_start", options.eval_on_start, "Evaluate before the first step too.");
  set.add("per_device_eval_batch_size", options.per_device_eval_batch_size,
          "Rows of an evaluation batch. Sums run over the whole split, so it does not change the "
          "result.")
      .at_least(1)
      .old_name("per_gpu_eval_batch_size");
  set.add("metric_for_best_model", options.metric_for_best_model,
          "Metric, with or without eval_, that ranks checkpoints; null: loss where one is needed.");
  set.add("greater_is_better", options.greater_is_better,
          "Null: false for names that end in loss.");
  set.add("early_stopping_patience", options.early_stopping_patience,
          "Stop after this many evaluations without improvement; null: never.")
      .at_least(1);
  set.add("early_stopping_threshold", options.early_stopping_threshold,
          "Least change that counts as improvement.")
      .at_least(0);
}

void declare_checkpoints(OptionSet& set, TrainingOptions& options) {
  set.group("Checkpoints");
  set.add("save_strategy", options.save_strategy,
          "When checkpoints are written; best: after an evaluation that improves.");
  set.add("save_steps", options.save_steps,
          "Steps between two checkpoints; below 1: a share of all steps.")
      .at_least(0)
      .advice("save_strategy: no writes none before the end.");
  set.add("save_total_limit", options.save_total_limit,
          "Newest checkpoints to keep (the best besides, with load_best_model_at_end); null: all.")
      .at_least(1);
  set.add("save_only_model", options.save_only_model, "Write no state to resume from.");
  set.add("load_best_model_at_end", options.load_best_model_at_end,
          "End with the best checkpoint, not the last weights.");
}

}  // namespace

void declare(OptionSet& set, TrainingOptions& options) {
  declare_run(set, options);
  declare_batches(set, options);
  declare_optimizer(set, options);
  declare_logging(set, options);
  declare_evaluation(set, options);
  declare_checkpoints(set, options);
}

}  // namespace rlhf
