#include <algorithm>
#include <cmath>
#include <map>

#include "rlhf/config/training_options.h"

namespace rlhf {
namespace {

using Keys = std::vector<std::string>;

/// The keys of lr_scheduler_kwargs that a schedule reads, as in transformers' optimization.py.
Keys keys_of(Scheduler scheduler) {
  switch (scheduler) {
    case Scheduler::linear:
    case Scheduler::constant:
    case Scheduler::constant_with_warmup:
      return {};
    case Scheduler::cosine:
    case Scheduler::cosine_with_restarts:
      return {"num_cycles"};
    case Scheduler::polynomial:
      return {"lr_end", "power"};
    case Scheduler::inverse_sqrt:
      return {"timescale"};
    case Scheduler::reduce_lr_on_plateau:
      return {"mode",           "factor",   "patience", "threshold",
              "threshold_mode", "cooldown", "min_lr",   "eps"};
    case Scheduler::cosine_with_min_lr:
      return {"num_cycles", "min_lr", "min_lr_rate"};
    case Scheduler::cosine_warmup_with_min_lr:
      return {"num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"};
    case Scheduler::warmup_stable_decay:
      return {"num_decay_steps", "num_stable_steps", "warmup_type",
              "decay_type",      "min_lr_ratio",     "num_cycles"};
    case Scheduler::greedy:
      return {"mode",   "factor", "patience", "threshold", "threshold_mode", "cooldown",   "warmup",
              "min_lr", "max_lr", "eps",      "smooth",    "window_size",    "reset_start"};
  }
  return {};
}

std::string listed(const Keys& keys) {
  return keys.empty() ? "none" : fmt::format("{}", fmt::join(keys, ", "));
}

bool follows_a_metric(Scheduler scheduler) {
  return scheduler == Scheduler::reduce_lr_on_plateau || scheduler == Scheduler::greedy;
}

/// Services that TRL can report to and this program does not serve.
const Keys& other_services() {
  static const Keys services = {"azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub",
                                "dvclive",  "flyte",   "kubeflow",   "mlflow",   "neptune",
                                "swanlab",  "trackio", "wandb"};
  return services;
}

bool contains(const Keys& keys, const std::string& key) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

void check_schedule(const TrainingOptions& options, Problems& problems) {
  const std::string name = enum_text(options.lr_scheduler_type);
  const Keys allowed = keys_of(options.lr_scheduler_type);
  OptionSet set;
  TrainingOptions copy;  // declared before it takes the values, so that these are not the defaults
  declare(set, copy);
  copy = options;
  const Json given = set.find("lr_scheduler_kwargs")->get();
  for (const auto& [key, value] : given.items()) {
    if (!value.is_null() && !contains(allowed, key)) {
      problems.add("lr_scheduler_kwargs." + key, fmt::format("{} does not read this key.", name),
                   fmt::format("it reads: {}.", listed(allowed)));
    }
  }
  const auto& kwargs = options.lr_scheduler_kwargs;
  const bool has_floor = contains(allowed, "min_lr_rate");
  if (has_floor && kwargs.min_lr.has_value() == kwargs.min_lr_rate.has_value()) {
    problems.add("lr_scheduler_kwargs",
                 fmt::format("{} needs exactly one of min_lr and min_lr_rate, got {}.", name,
                             kwargs.min_lr ? "both" : "neither"),
                 "for example {min_lr_rate: 0.1}.");
  }
  if (options.lr_scheduler_type == Scheduler::warmup_stable_decay && !kwargs.num_decay_steps) {
    problems.add("lr_scheduler_kwargs", fmt::format("{} needs num_decay_steps.", name),
                 "for example {num_decay_steps: 100}.");
  }
  if (follows_a_metric(options.lr_scheduler_type) && options.eval_strategy == Interval::no) {
    problems.add("lr_scheduler_type",
                 fmt::format("{} follows an evaluation metric, and eval_strategy is no.", name),
                 "set eval_strategy.");
  }
  if (options.warmup_steps > 0 && options.warmup_ratio > 0) {
    problems.add("warmup_ratio", fmt::format("warmup_steps is {} too.", options.warmup_steps),
                 "keep one of the two.");
  }
}

/// A count of steps: whole, or a share below 1; not 0.
void check_steps(const std::string& name, double value, Problems& problems) {
  if (value == 0) {
    problems.add(name, "expected a number of steps above 0, got 0.",
                 "to switch it off, set the strategy to no.");
  } else if (value > 1 && std::trunc(value) != value) {
    problems.add(
        name, fmt::format("expected a whole number of steps or a share below 1, got {}.", value));
  }
}

/// Both counts or both shares, and the first a multiple of the second. Shares are compared in
/// millionths.
bool is_multiple(double saves, double evaluations) {
  if ((saves < 1) != (evaluations < 1)) return false;
  constexpr double kMillion = 1e6;
  const double scale = saves < 1 ? kMillion : 1;
  return std::fmod(std::round(saves * scale), std::round(evaluations * scale)) == 0;
}

void check_intervals(const TrainingOptions& options, Problems& problems) {
  if (options.logging_strategy == Interval::steps)
    check_steps("logging_steps", options.logging_steps, problems);
  if (options.save_strategy == SaveInterval::steps)
    check_steps("save_steps", options.save_steps, problems);
  const bool evaluates_by_steps = options.eval_strategy == Interval::steps;
  if (evaluates_by_steps && options.eval_steps)
    check_steps("eval_steps", *options.eval_steps, problems);

  if (options.load_best_model_at_end && options.save_strategy != SaveInterval::best) {
    const std::string saves = enum_text(options.save_strategy);
    const std::string evaluations = enum_text(options.eval_strategy);
    if (saves != evaluations) {
      problems.add("load_best_model_at_end",
                   fmt::format("save_strategy and eval_strategy must agree, got {} and {}.", saves,
                               evaluations),
                   "set both to steps or epoch, or save_strategy to best.");
    } else if (evaluates_by_steps && options.eval_steps && *options.eval_steps > 0 &&
               !is_multiple(options.save_steps, *options.eval_steps)) {
      problems.add("load_best_model_at_end",
                   fmt::format("save_steps must be a multiple of eval_steps, got {} and {}.",
                               options.save_steps, *options.eval_steps),
                   "a checkpoint without an evaluation cannot be ranked.");
    }
  }
  if (options.eval_strategy != Interval::no) return;
  if (options.save_strategy == SaveInterval::best) {
    problems.add("save_strategy",
                 "best ranks checkpoints by an evaluation, and eval_strategy is no.",
                 "set eval_strategy.");
  }
  if (options.early_stopping_patience) {
    problems.add("early_stopping_patience", "it counts evaluations, and eval_strategy is no.",
                 "set eval_strategy.");
  }
}

void check_reports(const TrainingOptions& options, Problems& problems) {
  Keys known = other_services();
  known.insert(known.begin(), {"tensorboard", "none", "all"});
  for (const auto& name : options.report_to) {
    if (contains(known, name)) continue;
    const std::string near = nearest_name(name, known);
    problems.add("report_to", fmt::format("expected tensorboard, none or all, got \"{}\".", name),
                 near.empty() ? "" : fmt::format("did you mean {}?", near));
  }
}

std::map<std::string, std::string> optim_arguments(const TrainingOptions& options,
                                                   Problems& problems) {
  std::map<std::string, std::string> arguments;
  std::string text = options.optim_args.value_or("");
  std::erase(text, ' ');
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string item = text.substr(0, comma);
    text.erase(0, comma + 1);
    const size_t equals = item.find('=');
    if (equals == std::string::npos) {
      problems.add("optim_args", fmt::format("expected key=value, got \"{}\".", item));
    } else {
      arguments[item.substr(0, equals)] = item.substr(equals + 1);
    }
  }
  return arguments;
}

}  // namespace

bool needs_a_metric(const TrainingOptions& options) {
  return options.load_best_model_at_end || options.save_strategy == SaveInterval::best ||
         options.early_stopping_patience || follows_a_metric(options.lr_scheduler_type);
}

SgdOptions sgd_options(const TrainingOptions& options, Problems& problems) {
  SgdOptions sgd;
  OptionSet set;
  set.add("momentum", sgd.momentum, "").at_least(0);
  set.add("dampening", sgd.dampening, "");
  set.add("nesterov", sgd.nesterov, "").spelling("1", true).spelling("0", false);
  set.add("weight_decay", sgd.weight_decay, "").at_least(0);
  for (const auto& [key, value] : optim_arguments(options, problems)) {
    set.apply_one(key, ConfigNode::scalar(value), "optim_args", key, problems, /*notes=*/nullptr);
  }
  if (sgd.nesterov && (sgd.momentum == 0 || sgd.dampening != 0)) {
    problems.add("optim_args", "nesterov needs a momentum above 0 and a dampening of 0.");
  }
  return sgd;
}

int64_t warmup_steps_of(const TrainingOptions& options, int64_t total_steps) {
  if (options.warmup_steps >= 1) return static_cast<int64_t>(options.warmup_steps);
  const double share = options.warmup_steps > 0 ? options.warmup_steps : options.warmup_ratio;
  return static_cast<int64_t>(std::ceil(static_cast<double>(total_steps) * share));
}

int64_t interval_steps_of(double value, int64_t total_steps) {
  if (value >= 1) return static_cast<int64_t>(value);
  return std::max<int64_t>(
      1, static_cast<int64_t>(std::ceil(static_cast<double>(total_steps) * value)));
}

void resolve(TrainingOptions& options, ModelOptions& model, std::vector<std::string>* notes) {
  if (!options.output_dir) options.output_dir = "trainer_output";
  if (options.activation_checkpointing)
    options.gradient_checkpointing = *options.activation_checkpointing;
  if (options.group_by_length.value_or(false)) {
    options.train_sampling_strategy = SamplingStrategy::group_by_length;
  }
  if (options.use_cpu && model.device == DeviceChoice::automatic) model.device = DeviceChoice::cpu;
  if (options.eval_strategy == Interval::steps && options.eval_steps.value_or(0) == 0) {
    options.eval_steps = options.logging_steps;
  }
  if (needs_a_metric(options) && !options.metric_for_best_model)
    options.metric_for_best_model = "loss";
  if (options.metric_for_best_model && !options.greater_is_better) {
    options.greater_is_better = !options.metric_for_best_model->ends_with("loss");
  }
  if (notes == nullptr) return;
  for (const auto& name : options.report_to) {
    if (!contains(other_services(), name)) continue;
    notes->push_back(fmt::format(
        "[report_to] {} is not served: metrics.jsonl holds the same metrics, and with report_to: "
        "tensorboard so do TensorBoard's files.",
        name));
  }
}

void validate(const TrainingOptions& options, const ModelOptions& model, Problems& problems) {
  check_schedule(options, problems);
  check_intervals(options, problems);
  check_reports(options, problems);
  if (options.optim == OptimizerChoice::sgd) {
    sgd_options(options, problems);
  } else if (options.optim_args && !options.optim_args->empty()) {
    problems.add(
        "optim_args", fmt::format("{} reads none.", enum_text(options.optim)),
        "its numbers are keys of their own: adam_beta1, adam_beta2, adam_epsilon, weight_decay.");
  }
  if (options.use_cpu && model.device == DeviceChoice::cuda) {
    problems.add("use_cpu", "device is cuda.", "keep one of the two.");
  }
  constexpr int64_t kMostRows = int64_t{1} << 31;
  if (options.per_device_train_batch_size > kMostRows / options.gradient_accumulation_steps) {
    problems.add("per_device_train_batch_size",
                 fmt::format("by gradient_accumulation_steps at most {} rows a step were expected, "
                             "got {} by {}.",
                             kMostRows, options.per_device_train_batch_size,
                             options.gradient_accumulation_steps));
  }
  if (options.max_steps == 0) {
    problems.add("max_steps",
                 "expected a positive number of steps, or -1 for num_train_epochs, got 0.");
  }
}

}  // namespace rlhf
