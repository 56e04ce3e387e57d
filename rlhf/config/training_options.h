// What every trained method shares: batches, optimiser, schedule, logging, evaluation, checkpoints.
// Names and defaults: transformers' TrainingArguments as TRL 1.16 changes them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rlhf/config/model_options.h"
#include "rlhf/core/options.h"

namespace rlhf {

enum class Interval { no, steps, epoch };
template <>
struct EnumNames<Interval> {
  static constexpr std::array<std::string_view, 3> names = {"no", "steps", "epoch"};
};

enum class SaveInterval { no, steps, epoch, best };
template <>
struct EnumNames<SaveInterval> {
  static constexpr std::array<std::string_view, 4> names = {"no", "steps", "epoch", "best"};
};

enum class Scheduler {
  linear,
  cosine,
  cosine_with_restarts,
  polynomial,
  constant,
  constant_with_warmup,
  inverse_sqrt,
  reduce_lr_on_plateau,
  cosine_with_min_lr,
  cosine_warmup_with_min_lr,
  warmup_stable_decay,
  greedy,
};
template <>
struct EnumNames<Scheduler> {
  static constexpr std::array<std::string_view, 12> names = {"linear",
                                                             "cosine",
                                                             "cosine_with_restarts",
                                                             "polynomial",
                                                             "constant",
                                                             "constant_with_warmup",
                                                             "inverse_sqrt",
                                                             "reduce_lr_on_plateau",
                                                             "cosine_with_min_lr",
                                                             "cosine_warmup_with_min_lr",
                                                             "warmup_stable_decay",
                                                             "greedy"};
};

// A checkpoint holds the number: new ones come last.
enum class OptimizerChoice { adamw_torch, adamw_torch_fused, sgd, adafactor, adamw_8bit };
template <>
struct EnumNames<OptimizerChoice> {
  static constexpr std::array<std::string_view, 5> names = {"adamw_torch", "adamw_torch_fused",
                                                            "sgd", "adafactor", "adamw_8bit"};
};

enum class SamplingStrategy { random, sequential, group_by_length };
template <>
struct EnumNames<SamplingStrategy> {
  static constexpr std::array<std::string_view, 3> names = {"random", "sequential",
                                                            "group_by_length"};
};

enum class TokensSeen { no, all, non_padding };
template <>
struct EnumNames<TokensSeen> {
  static constexpr std::array<std::string_view, 3> names = {"no", "all", "non_padding"};
};

/// `lr_scheduler_kwargs`. Which keys a schedule reads stands in the table of training_checks.cpp;
/// null: the default that transformers gives the schedule.
struct SchedulerOptions {
  std::optional<double> num_cycles;
  std::optional<double> power;
  std::optional<double> lr_end;
  std::optional<double> min_lr;
  std::optional<double> min_lr_rate;
  std::optional<double> warmup_lr_rate;
  std::optional<int64_t> timescale;
  std::optional<int64_t> num_decay_steps;
  std::optional<int64_t> num_stable_steps;
  std::optional<std::string> warmup_type;
  std::optional<std::string> decay_type;
  std::optional<double> min_lr_ratio;
  std::optional<std::string> mode;
  std::optional<double> factor;
  std::optional<int64_t> patience;
  std::optional<double> threshold;
  std::optional<std::string> threshold_mode;
  std::optional<int64_t> cooldown;
  std::optional<double> eps;
  std::optional<int64_t> warmup;
  std::optional<double> max_lr;
  std::optional<bool> smooth;
  std::optional<int64_t> window_size;
  std::optional<int64_t> reset_start;
};

/// `optim_args` of sgd.
struct SgdOptions {
  double momentum = 0;
  double dampening = 0;
  bool nesterov = false;
  std::optional<double> weight_decay;  ///< wins over the key of the same name
};

struct TrainingOptions {
  // Run
  std::optional<std::string> output_dir;  ///< set once resolved
  bool overwrite_output_dir = false;
  std::optional<std::string>
      resume_from_checkpoint;  ///< a folder, or "true": the latest of output_dir
  std::optional<std::string> run_name;
  int64_t seed = 42;
  std::optional<int64_t> data_seed;
  bool full_determinism = false;
  bool use_cpu = false;
  int64_t threads = 0;

  // Batches
  int64_t per_device_train_batch_size = 8;
  int64_t gradient_accumulation_steps = 1;
  int64_t max_tokens_per_microbatch = 0;
  double num_train_epochs = 3.0;
  int64_t max_steps = -1;
  SamplingStrategy train_sampling_strategy = SamplingStrategy::random;
  std::optional<bool> group_by_length;
  bool dataloader_drop_last = false;

  // Optimiser
  OptimizerChoice optim = OptimizerChoice::adamw_torch_fused;
  std::optional<std::string> optim_args;
  double learning_rate = 5e-5;
  double weight_decay = 0.0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  double label_smoothing_factor = 0.0;
  std::optional<double> neftune_noise_alpha;

  // Schedule
  Scheduler lr_scheduler_type = Scheduler::linear;
  SchedulerOptions lr_scheduler_kwargs;
  double warmup_steps = 0;
  double warmup_ratio = 0;

  // Precision and memory
  std::optional<bool> bf16;
  bool gradient_checkpointing = true;
  std::optional<bool> activation_checkpointing;

  // Logging
  Interval logging_strategy = Interval::steps;
  double logging_steps = 10;
  bool logging_first_step = false;
  bool logging_nan_inf_filter = true;
  std::optional<std::string> logging_dir;
  std::vector<std::string> report_to = {"none"};
  TokensSeen include_num_input_tokens_seen = TokensSeen::no;
  std::string log_level = "passive";
  std::optional<bool> disable_tqdm;

  // Evaluation
  Interval eval_strategy = Interval::no;
  std::optional<double> eval_steps;
  double eval_delay = 0;
  bool eval_on_start = false;
  int64_t per_device_eval_batch_size = 8;
  std::optional<std::string> metric_for_best_model;
  std::optional<bool> greater_is_better;
  std::optional<int64_t> early_stopping_patience;
  double early_stopping_threshold = 0;

  // Checkpoints
  SaveInterval save_strategy = SaveInterval::steps;
  double save_steps = 500;
  std::optional<int64_t> save_total_limit;
  bool save_only_model = false;
  bool load_best_model_at_end = false;
};

/// Declares the options; the members' values are the defaults, so a method sets its own
/// (learning_rate) beforehand.
void declare(OptionSet& set, TrainingOptions& options);

/// Fills what follows from other keys, as transformers does: output_dir, eval_steps from
/// logging_steps, metric_for_best_model and greater_is_better, the old names of switches. Resolving
/// twice changes nothing more.
void resolve(TrainingOptions& options, ModelOptions& model, std::vector<std::string>* notes);

/// Checks keys against each other; call on resolved options.
void validate(const TrainingOptions& options, const ModelOptions& model, Problems& problems);

/// `optim_args` of sgd, `momentum=0.9,nesterov=true`; problems on an unknown key or a value that
/// does not fit.
SgdOptions sgd_options(const TrainingOptions& options, Problems& problems);

/// Whether something follows metric_for_best_model: the best model, early stopping, a schedule.
bool needs_a_metric(const TrainingOptions& options);

/// Whether a run evaluates at all.
inline bool evaluates(const TrainingOptions& options) {
  return options.eval_strategy != Interval::no || options.eval_on_start;
}

/// Steps of warm-up in a run of `total_steps`: warmup_steps, where a value below 1 is a share, or
/// else warmup_ratio; shares are rounded up, as transformers does.
int64_t warmup_steps_of(const TrainingOptions& options, int64_t total_steps);

/// Steps between two events for logging_steps, eval_steps or save_steps: a value below 1 is a share
/// of `total_steps`, rounded up.
int64_t interval_steps_of(double value, int64_t total_steps);

}  // namespace rlhf
