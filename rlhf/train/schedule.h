// Learning-rate schedules: all of transformers' `lr_scheduler_type` names, with its formulas.
//
// Two kinds. A *curve* is a pure function of the step: lr(step) = base · factor(step), nothing to
// save. A *follower* (reduce_lr_on_plateau, greedy) moves with an evaluation metric and has a
// state.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "rlhf/config/training_options.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// What a schedule is made of. `kwargs` has been checked against `type`
/// (config/training_checks.cpp).
struct SchedulePlan {
  Scheduler type = Scheduler::linear;
  SchedulerOptions kwargs{};
  double learning_rate = 2e-5;  ///< the base
  int64_t warmup_steps = 0;
  int64_t total_steps = 1;
  bool greater_is_better =
      false;  ///< for the followers: the direction of their metric, unless `kwargs.mode` says
};

class Schedule {
 public:
  explicit Schedule(SchedulePlan plan);

  /// Learning rate of optimizer step `step`, counted from 0.
  double learning_rate(int64_t step) const;

  /// Whether an evaluation metric is needed.
  bool follows_metric() const;
  /// One evaluation; only for followers.
  void observe(double metric);

  /// A follower's memory; an empty object for curves.
  Json state() const;
  void set_state(const Json& state);

 private:
  double curve(double step) const;
  double warmup_factor(double step) const;
  double stable_decay_factor(double step) const;
  bool is_better(double metric) const;
  void observe_plateau(double metric);
  void observe_greedy(double metric);
  double smoothed(double metric);
  double worst() const;

  SchedulePlan plan_;
  double current_;          // a follower's learning rate
  double best_;             // a follower's best metric
  int64_t bad_ = 0;         // evaluations in a row without improvement
  int64_t good_ = 0;        // and with
  int64_t cooldown_ = 0;    // evaluations left to ignore after a cut
  int64_t warming_ = 0;     // and after a raise
  int64_t waits_at_floor_;  // evaluations at the lowest rate before a restart
  std::vector<double> window_;
};

}  // namespace rlhf
