// Golden values: tools/make_train_goldens.py (transformers' get_scheduler).
#include "rlhf/train/schedule.h"

#include <gtest/gtest.h>

#include <map>

#include "rlhf/core/file.h"

namespace rlhf {
namespace {

const Json& goldens() {
  static const Json all =
      Json::parse(read_file(fs::path(RLHF_FIXTURES) / "train/optimization.json"));
  return all;
}

template <class T>
void take(const Json& kwargs, const char* name, std::optional<T>& into) {
  if (kwargs.contains(name)) into = kwargs.at(name).get<T>();
}

SchedulePlan plan_of(const Json& one) {
  SchedulePlan plan{.learning_rate = goldens().at("base").get<double>(),
                    .warmup_steps = one.value("warmup", int64_t{0}),
                    .total_steps = goldens().at("total").get<int64_t>()};
  const auto& names = EnumNames<Scheduler>::names;
  const auto found = std::find(names.begin(), names.end(), one.at("type").get<std::string>());
  plan.type = static_cast<Scheduler>(found - names.begin());
  const Json& kwargs = one.at("kwargs");
  auto& into = plan.kwargs;
  for (auto& [name, member] :
       std::map<const char*, std::optional<double>*>{{"num_cycles", &into.num_cycles},
                                                     {"power", &into.power},
                                                     {"lr_end", &into.lr_end},
                                                     {"min_lr", &into.min_lr},
                                                     {"min_lr_rate", &into.min_lr_rate},
                                                     {"warmup_lr_rate", &into.warmup_lr_rate},
                                                     {"min_lr_ratio", &into.min_lr_ratio},
                                                     {"factor", &into.factor},
                                                     {"max_lr", &into.max_lr}}) {
    take(kwargs, name, *member);
  }
  for (auto& [name, member] :
       std::map<const char*, std::optional<int64_t>*>{{"timescale", &into.timescale},
                                                      {"num_decay_steps", &into.num_decay_steps},
                                                      {"patience", &into.patience},
                                                      {"cooldown", &into.cooldown},
                                                      {"warmup", &into.warmup},
                                                      {"window_size", &into.window_size},
                                                      {"reset_start", &into.reset_start}}) {
    take(kwargs, name, *member);
  }
  take(kwargs, "decay_type", into.decay_type);
  take(kwargs, "warmup_type", into.warmup_type);
  take(kwargs, "smooth", into.smooth);
  return plan;
}

// Tolerance: both sides compute in double; operations are ordered differently, so 1e-12 relative.
constexpr double kTolerance = 1e-12;

TEST(Schedule, CurvesEqualTransformers) {
  for (const Json& one : goldens().at("curves")) {
    const Schedule schedule(plan_of(one));
    const auto rates = one.at("rates").get<std::vector<double>>();
    for (size_t step = 0; step < rates.size(); ++step) {
      EXPECT_NEAR(schedule.learning_rate(static_cast<int64_t>(step)), rates[step], kTolerance)
          << one.at("type") << " at step " << step;
    }
    EXPECT_FALSE(schedule.follows_metric());
  }
}

TEST(Schedule, FollowersEqualTransformersAndSurviveACheckpoint) {
  const auto metrics = goldens().at("metrics").get<std::vector<double>>();
  for (const Json& one : goldens().at("followers")) {
    Schedule schedule(plan_of(one));
    const auto rates = one.at("rates").get<std::vector<double>>();
    for (size_t i = 0; i < rates.size(); ++i) {
      EXPECT_NEAR(schedule.learning_rate(0), rates[i], kTolerance)
          << one.at("type") << " after " << i;
      Schedule copy(plan_of(one));
      copy.set_state(Json::parse(schedule.state().dump()));
      schedule = copy;
      schedule.observe(metrics[i]);
    }
  }
}

}  // namespace
}  // namespace rlhf
