#include "rlhf/train/run_state.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

std::vector<int64_t> steps_where(const std::function<bool(int64_t)>& happens, int64_t total) {
  std::vector<int64_t> steps;
  for (int64_t step = 1; step <= total; ++step) {
    if (happens(step)) steps.push_back(step);
  }
  return steps;
}

// transformers' DefaultFlowCallback: steps count from 1, the last step evaluates and saves too
// (and is logged, which is ours).
TEST(Cadence, StepsAndTheLastOne) {
  TrainingOptions options;
  options.logging_steps = 4;
  options.logging_first_step = true;
  options.eval_strategy = Interval::steps;
  options.eval_steps = 3;
  options.eval_delay = 4;
  options.save_strategy = SaveInterval::steps;
  options.save_steps = 0.5;
  const Cadence cadence(options, /*steps_per_epoch=*/5, /*total_steps=*/10);
  using Steps = std::vector<int64_t>;
  EXPECT_EQ(steps_where([&](int64_t s) { return cadence.logs(s); }, 10), (Steps{1, 4, 8, 10}));
  EXPECT_EQ(steps_where([&](int64_t s) { return cadence.evaluates(s); }, 10), (Steps{6, 9, 10}));
  EXPECT_EQ(steps_where([&](int64_t s) { return cadence.saves(s); }, 10), (Steps{5, 10}));
  EXPECT_DOUBLE_EQ(cadence.epoch_of(7), 1.4);
}

TEST(Cadence, EpochsEndWithTheirLastStepAndWithTheRun) {
  TrainingOptions options;
  options.logging_strategy = Interval::epoch;
  options.eval_strategy = Interval::epoch;
  options.save_strategy = SaveInterval::epoch;
  const Cadence cadence(options, /*steps_per_epoch=*/4, /*total_steps=*/10);
  using Steps = std::vector<int64_t>;
  EXPECT_EQ(steps_where([&](int64_t s) { return cadence.logs(s); }, 10), (Steps{4, 8, 10}));
  EXPECT_EQ(steps_where([&](int64_t s) { return cadence.saves(s); }, 10), (Steps{4, 8, 10}));
}

TEST(BestMetric, CountsEvaluationsWithoutEnoughGain) {
  TrainingOptions options;
  options.metric_for_best_model = "loss";
  options.greater_is_better = false;
  options.early_stopping_patience = 2;
  options.early_stopping_threshold = 0.1;
  RunState state;
  const auto evaluate = [&](int64_t step, double loss) {
    state.step = step;
    return note_evaluation_of(options, {{"eval_loss", loss}}, state);
  };
  EXPECT_TRUE(evaluate(1, 2.0));
  EXPECT_TRUE(evaluate(2, 1.95));  // better, not by more than the threshold
  EXPECT_FALSE(state.stop_early);
  EXPECT_FALSE(evaluate(3, 1.96));
  EXPECT_TRUE(state.stop_early);
  EXPECT_EQ(state.best_step, 2);
  EXPECT_DOUBLE_EQ(*state.best_metric, 1.95);
  const RunState again = RunState::from_json(Json::parse(state.to_json().dump()));
  EXPECT_EQ(again.evaluations_without_gain, 2);
  EXPECT_DOUBLE_EQ(*again.best_metric, 1.95);
}

TEST(BestMetric, OneThatIsNotFiniteSurvivesACheckpoint) {
  RunState state;
  state.best_metric = std::numeric_limits<double>::quiet_NaN();
  const RunState again = RunState::from_json(Json::parse(state.to_json().dump()));
  EXPECT_TRUE(std::isnan(again.best_metric.value_or(0.0)));
}

TEST(BestMetric, AnUnknownMetricListsTheKnown) {
  TrainingOptions options;
  options.metric_for_best_model = "accuracy";
  RunState state;
  try {
    note_evaluation_of(options, {{"eval_loss", 1.0}}, state);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("eval_loss"), std::string::npos);
  }
}

}  // namespace
}  // namespace rlhf
