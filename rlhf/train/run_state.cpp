#include "rlhf/train/run_state.h"

#include <algorithm>
#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {

Json RunState::to_json() const {
  Json json = {{"step", step},
               {"tokens_seen", tokens_seen},
               {"window", window.state()},
               {"window_seconds", window_seconds},
               {"window_tokens", window_tokens},
               {"window_steps", window_steps},
               {"log_history", log_history},
               {"best_step", best_step},
               {"evaluations_without_gain", evaluations_without_gain}};
  if (best_metric) json["best_metric"] = *best_metric;
  return json;
}

RunState RunState::from_json(const Json& json) {
  RunState state;
  state.step = json.at("step").get<int64_t>();
  state.tokens_seen = json.at("tokens_seen").get<int64_t>();
  state.window.set_state(json.at("window"));
  state.window_seconds = json.at("window_seconds").get<double>();
  state.window_tokens = json.at("window_tokens").get<int64_t>();
  state.window_steps = json.at("window_steps").get<int64_t>();
  state.log_history = json.at("log_history");
  state.best_step = json.at("best_step").get<int64_t>();
  state.evaluations_without_gain = json.at("evaluations_without_gain").get<int64_t>();
  if (json.contains("best_metric")) state.best_metric = number_or_nan(json.at("best_metric"));
  return state;
}

Cadence::Cadence(const TrainingOptions& options, int64_t steps_per_epoch, int64_t total_steps)
    : options_(options),
      steps_per_epoch_(std::max<int64_t>(1, steps_per_epoch)),
      total_steps_(total_steps),
      logging_steps_(std::max<int64_t>(1, interval_steps_of(options.logging_steps, total_steps))),
      eval_steps_(std::max<int64_t>(
          1, interval_steps_of(options.eval_steps.value_or(options.logging_steps), total_steps))),
      save_steps_(std::max<int64_t>(1, interval_steps_of(options.save_steps, total_steps))) {}

bool Cadence::logs(int64_t step) const {
  if (step == 1 && options_.logging_first_step) return true;
  switch (options_.logging_strategy) {
    case Interval::no:
      return false;
    case Interval::steps:
      return step % logging_steps_ == 0 || step == total_steps_;
    case Interval::epoch:
      return ends_epoch(step);
  }
  return false;
}

bool Cadence::evaluates(int64_t step) const {
  switch (options_.eval_strategy) {
    case Interval::no:
      return false;
    case Interval::steps:
      return (step % eval_steps_ == 0 || step == total_steps_) &&
             options_.eval_delay <= static_cast<double>(step);
    case Interval::epoch:
      return ends_epoch(step) && options_.eval_delay <= epoch_of(step);
  }
  return false;
}

bool Cadence::saves(int64_t step) const {
  switch (options_.save_strategy) {
    case SaveInterval::no:
    case SaveInterval::best:
      return false;
    case SaveInterval::steps:
      return step % save_steps_ == 0 || step == total_steps_;
    case SaveInterval::epoch:
      return ends_epoch(step);
  }
  return false;
}

bool note_evaluation_of(const TrainingOptions& options, const Json& metrics, RunState& state) {
  if (!options.metric_for_best_model) return false;
  std::string name = *options.metric_for_best_model;
  if (!name.starts_with("eval_")) name = "eval_" + name;
  if (!metrics.contains(name)) {
    std::vector<std::string> known;
    for (const auto& [key, value] : metrics.items()) known.push_back(key);
    throw UserError("metric_for_best_model",
                    fmt::format("{} is not among the evaluation's metrics.", name),
                    fmt::format("choose one of {}.", fmt::join(known, ", ")));
  }
  const double value = metrics.at(name).get<double>();
  const double sign = options.greater_is_better.value_or(false) ? 1.0 : -1.0;
  const double gain = state.best_metric ? sign * (value - *state.best_metric) : 0.0;
  const bool best = !state.best_metric || gain > 0.0;
  const bool enough = !state.best_metric || gain > options.early_stopping_threshold;
  state.evaluations_without_gain = enough ? 0 : state.evaluations_without_gain + 1;
  if (best) {
    state.best_metric = value;
    state.best_step = state.step;
  }
  if (options.early_stopping_patience) {
    state.stop_early = state.evaluations_without_gain >= *options.early_stopping_patience;
  }
  return best;
}

Json trainer_state_json(const TrainingOptions& options, const RunState& state,
                        const Cadence& cadence, int64_t total_steps,
                        const std::string& best_checkpoint) {
  Json json;
  json["best_global_step"] = state.best_metric ? Json(state.best_step) : Json(nullptr);
  json["best_metric"] = state.best_metric ? Json(*state.best_metric) : Json(nullptr);
  json["best_model_checkpoint"] = best_checkpoint.empty() ? Json(nullptr) : Json(best_checkpoint);
  json["epoch"] = cadence.epoch_of(state.step);
  json["eval_steps"] = cadence.eval_steps();
  json["global_step"] = state.step;
  json["is_hyper_param_search"] = false;
  json["is_local_process_zero"] = true;
  json["is_world_process_zero"] = true;
  json["log_history"] = state.log_history;
  json["logging_steps"] = cadence.logging_steps();
  json["max_steps"] = total_steps;
  json["num_input_tokens_seen"] = state.tokens_seen;
  json["num_train_epochs"] = static_cast<int64_t>(std::ceil(cadence.epoch_of(total_steps)));
  json["save_steps"] = cadence.save_steps();
  json["stateful_callbacks"] = Json::object();
  json["total_flos"] = 0;
  json["train_batch_size"] = options.per_device_train_batch_size;
  json["trial_name"] = nullptr;
  json["trial_params"] = nullptr;
  return json;
}

}  // namespace rlhf
