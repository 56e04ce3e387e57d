#include "rlhf/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr int64_t kEvaluationsAtFloor = 500;

double half_cosine(double cycles, double progress) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * cycles * 2.0 * progress));
}

/// A factor in [0, 1] stretched over [floor, 1].
double above_floor(double factor, double floor) {
  return std::max(0.0, factor * (1.0 - floor) + floor);
}

}  // namespace

Schedule::Schedule(SchedulePlan plan) : plan_(std::move(plan)), current_(plan_.learning_rate) {
  if (plan_.kwargs.mode) plan_.greater_is_better = *plan_.kwargs.mode == "max";
  best_ = worst();
  waits_at_floor_ = plan_.kwargs.reset_start.value_or(kEvaluationsAtFloor);
}

double Schedule::worst() const {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return plan_.greater_is_better ? -kInfinity : kInfinity;
}

bool Schedule::follows_metric() const {
  return plan_.type == Scheduler::reduce_lr_on_plateau || plan_.type == Scheduler::greedy;
}

double Schedule::learning_rate(int64_t step) const {
  if (follows_metric()) return current_;
  const bool warming = step < plan_.warmup_steps && plan_.type != Scheduler::constant;
  const double at = static_cast<double>(step);
  return plan_.learning_rate * (warming ? warmup_factor(at) : curve(at));
}

double Schedule::warmup_factor(double step) const {
  const double warmup = static_cast<double>(plan_.warmup_steps);
  const double rise = step / std::max(1.0, warmup);
  if (plan_.type == Scheduler::cosine_warmup_with_min_lr) {
    if (!plan_.kwargs.warmup_lr_rate) return (step + 1.0) / std::max(1.0, warmup);
    const double start = *plan_.kwargs.warmup_lr_rate;
    return start + (1.0 - start) * step / std::max(1.0, warmup - 1.0);
  }
  if (plan_.type == Scheduler::warmup_stable_decay) {
    const std::string shape = plan_.kwargs.warmup_type.value_or("linear");
    const double factor = shape == "linear"   ? rise
                          : shape == "cosine" ? 0.5 * (1.0 - std::cos(std::numbers::pi * rise))
                                              : 1.0 - std::sqrt(1.0 - rise);
    return above_floor(factor, plan_.kwargs.min_lr_ratio.value_or(0.0));
  }
  return rise;
}

double Schedule::curve(double step) const {
  const double warmup = static_cast<double>(plan_.warmup_steps);
  const double total = static_cast<double>(plan_.total_steps);
  const double base = plan_.learning_rate;
  const auto& kwargs = plan_.kwargs;
  const double length = std::max(1.0, total - warmup);
  const double progress = (step - warmup) / length;
  switch (plan_.type) {
    case Scheduler::linear:
      return std::max(0.0, (total - step) / length);
    case Scheduler::cosine:
      return std::max(0.0, half_cosine(kwargs.num_cycles.value_or(0.5), progress));
    case Scheduler::cosine_with_restarts:
      if (progress >= 1.0) return 0.0;
      return 0.5 * (1.0 + std::cos(std::numbers::pi *
                                   std::fmod(kwargs.num_cycles.value_or(1.0) * progress, 1.0)));
    case Scheduler::polynomial: {
      const double end = kwargs.lr_end.value_or(1e-7);
      if (step > total) return end / base;
      const double left = 1.0 - (step - warmup) / (total - warmup);
      return ((base - end) * std::pow(left, kwargs.power.value_or(1.0)) + end) / base;
    }
    case Scheduler::inverse_sqrt: {
      const double fallback = plan_.warmup_steps > 0 ? warmup : 10'000.0;
      const double timescale = kwargs.timescale ? static_cast<double>(*kwargs.timescale) : fallback;
      return 1.0 / std::sqrt((step + timescale - warmup) / timescale);
    }
    case Scheduler::cosine_with_min_lr:
    case Scheduler::cosine_warmup_with_min_lr: {
      const double floor = kwargs.min_lr ? *kwargs.min_lr / base : kwargs.min_lr_rate.value_or(0.0);
      const double ahead = plan_.type == Scheduler::cosine_warmup_with_min_lr ? 1.0 / length : 0.0;
      return above_floor(half_cosine(kwargs.num_cycles.value_or(0.5), progress + ahead), floor);
    }
    case Scheduler::warmup_stable_decay:
      return stable_decay_factor(step);
    case Scheduler::constant:
    case Scheduler::constant_with_warmup:
    case Scheduler::reduce_lr_on_plateau:
    case Scheduler::greedy:
      return 1.0;
  }
  return 1.0;
}

double Schedule::stable_decay_factor(double step) const {
  const auto& kwargs = plan_.kwargs;
  const int64_t decay = kwargs.num_decay_steps.value_or(0);
  const int64_t stable =
      kwargs.num_stable_steps.value_or(plan_.total_steps - plan_.warmup_steps - decay);
  const double start = static_cast<double>(plan_.warmup_steps + stable);
  const double floor = kwargs.min_lr_ratio.value_or(0.0);
  if (step < start) return 1.0;
  if (step >= start + static_cast<double>(decay)) return floor;
  const double fall = (step - start) / std::max(1.0, static_cast<double>(decay));
  const std::string shape = kwargs.decay_type.value_or("cosine");
  const double factor = shape == "linear"   ? 1.0 - fall
                        : shape == "cosine" ? half_cosine(kwargs.num_cycles.value_or(0.5), fall)
                                            : 1.0 - std::sqrt(fall);
  return above_floor(factor, floor);
}

bool Schedule::is_better(double metric) const {
  const bool greedy = plan_.type == Scheduler::greedy;
  const double threshold = plan_.kwargs.threshold.value_or(greedy ? 1e-6 : 1e-4);
  const bool relative = plan_.kwargs.threshold_mode.value_or(greedy ? "abs" : "rel") == "rel";
  if (plan_.greater_is_better)
    return metric > (relative ? best_ * (1.0 + threshold) : best_ + threshold);
  return metric < (relative ? best_ * (1.0 - threshold) : best_ - threshold);
}

void Schedule::observe(double metric) {
  check(follows_metric(), "Schedule", "a curve follows no metric.");
  plan_.type == Scheduler::greedy ? observe_greedy(metric) : observe_plateau(metric);
}

void Schedule::observe_plateau(double metric) {
  const auto& kwargs = plan_.kwargs;
  if (is_better(metric)) {
    best_ = metric;
    bad_ = 0;
  } else {
    ++bad_;
  }
  if (cooldown_ > 0) {
    --cooldown_;
    bad_ = 0;
  }
  if (bad_ <= kwargs.patience.value_or(10)) return;
  const double lower =
      std::max(current_ * kwargs.factor.value_or(0.1), kwargs.min_lr.value_or(0.0));
  if (current_ - lower > kwargs.eps.value_or(1e-8)) current_ = lower;
  cooldown_ = kwargs.cooldown.value_or(0);
  bad_ = 0;
}

double Schedule::smoothed(double metric) {
  if (!plan_.kwargs.smooth.value_or(false)) return metric;
  window_.push_back(metric);
  if (std::ssize(window_) > plan_.kwargs.window_size.value_or(50)) window_.erase(window_.begin());
  return std::accumulate(window_.begin(), window_.end(), 0.0) / static_cast<double>(window_.size());
}

void Schedule::observe_greedy(double metric) {
  // GreedyLR (arXiv 2512.14527): faster while the metric improves, slower while it does not.
  const auto& kwargs = plan_.kwargs;
  metric = smoothed(metric);
  if (cooldown_ > 0 || warming_ > 0) {
    --(cooldown_ > 0 ? cooldown_ : warming_);
    bad_ = good_ = 0;
    return;
  }
  if (is_better(metric)) {
    best_ = metric;
    bad_ = 0;
    ++good_;
  } else {
    ++bad_;
    good_ = 0;
  }
  const int64_t patience = kwargs.patience.value_or(10);
  const double factor = kwargs.factor.value_or(0.95);
  const double eps = kwargs.eps.value_or(1e-8);
  const int64_t at_floor = kwargs.reset_start.value_or(kEvaluationsAtFloor);
  if (good_ > patience) {
    const double higher = std::min(current_ / factor, kwargs.max_lr.value_or(1.0));
    if (higher - current_ > eps) current_ = higher;
    waits_at_floor_ = at_floor;
    warming_ = kwargs.warmup.value_or(0);
    good_ = 0;
  } else if (bad_ > patience) {
    const double floor = kwargs.min_lr.value_or(1e-3);
    const double lower = std::max(current_ * factor, floor);
    if (current_ - lower > eps) current_ = lower;
    if (current_ <= floor && --waits_at_floor_ <= 0) {
      current_ = plan_.learning_rate;
      best_ = worst();
      waits_at_floor_ = at_floor;
      window_.clear();
    }
    cooldown_ = kwargs.cooldown.value_or(0);
    bad_ = 0;
  }
}

Json Schedule::state() const {
  if (!follows_metric()) return Json::object();
  Json state = {
      {"learning_rate", current_}, {"bad", bad_},         {"good", good_},
      {"cooldown", cooldown_},     {"warming", warming_}, {"waits_at_floor", waits_at_floor_},
      {"window", window_}};
  if (std::isfinite(best_)) state["best"] = best_;
  return state;
}

void Schedule::set_state(const Json& state) {
  if (!follows_metric()) return;
  current_ = state.at("learning_rate").get<double>();
  bad_ = state.at("bad").get<int64_t>();
  good_ = state.at("good").get<int64_t>();
  cooldown_ = state.at("cooldown").get<int64_t>();
  warming_ = state.at("warming").get<int64_t>();
  waits_at_floor_ = state.at("waits_at_floor").get<int64_t>();
  window_ = state.at("window").get<std::vector<double>>();
  best_ = state.contains("best") ? state.at("best").get<double>() : worst();
}

}  // namespace rlhf
