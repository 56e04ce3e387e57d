// What a run remembers beside tensors, and when it logs, evaluates and saves.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "rlhf/config/training_options.h"
#include "rlhf/core/json.h"
#include "rlhf/report/run_folder.h"

namespace rlhf {

/// Counters and windows; all of it goes into rlhf_state.json and trainer_state.json.
struct RunState {
  int64_t step = 0;           ///< optimizer steps done: the position in the data, too
  int64_t tokens_seen = 0;    ///< tokens of all rows trained on
  MetricWindow window;        ///< metrics of the steps since the last logged line
  double window_seconds = 0;  ///< time of those steps; not part of what must repeat bit for bit
  int64_t window_tokens = 0;
  int64_t window_steps = 0;
  Json log_history = Json::array();
  std::optional<double> best_metric;
  int64_t best_step = 0;
  int64_t evaluations_without_gain = 0;  ///< for early stopping
  bool stop_early = false;

  Json to_json() const;
  static RunState from_json(const Json& json);
};

/// When things happen, in optimizer steps; transformers' rules (DefaultFlowCallback), the end of an
/// epoch included. The last step is logged too, so that no run ends without its numbers.
class Cadence {
 public:
  Cadence(const TrainingOptions& options, int64_t steps_per_epoch, int64_t total_steps);

  /// All are asked after step `step` (counted from 1) is done.
  bool logs(int64_t step) const;
  bool evaluates(int64_t step) const;
  /// `save_strategy: best` is the evaluation's to decide.
  bool saves(int64_t step) const;

  double epoch_of(int64_t step) const {
    return static_cast<double>(step) / static_cast<double>(steps_per_epoch_);
  }

  int64_t logging_steps() const { return logging_steps_; }
  int64_t eval_steps() const { return eval_steps_; }
  int64_t save_steps() const { return save_steps_; }

 private:
  bool ends_epoch(int64_t step) const {
    return step % steps_per_epoch_ == 0 || step == total_steps_;
  }

  const TrainingOptions& options_;
  int64_t steps_per_epoch_;
  int64_t total_steps_;
  int64_t logging_steps_;
  int64_t eval_steps_;
  int64_t save_steps_;
};

/// Takes an evaluation's metrics into best_metric, best_step and the early-stopping count. Returns
/// whether this is the best so far. UserError when `metric_for_best_model` is not among them (lists
/// what is).
bool note_evaluation_of(const TrainingOptions& options, const Json& metrics, RunState& state);

/// trainer_state.json in Hugging Face's layout.
Json trainer_state_json(const TrainingOptions& options, const RunState& state,
                        const Cadence& cadence, int64_t total_steps,
                        const std::string& best_checkpoint);

}  // namespace rlhf
