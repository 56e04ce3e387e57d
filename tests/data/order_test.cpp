#include "rlhf/data/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"

namespace rlhf {
namespace {

using Rows = std::vector<int64_t>;

Rows sorted(Rows rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

Rows all(int64_t count) {
  Rows rows(static_cast<size_t>(count));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  return rows;
}

TEST(Order, SequentialEndsAnEpochWithAShorterStep) {
  RowOrder order(10, {.strategy = OrderStrategy::sequential, .rows_per_step = 4});
  EXPECT_EQ(order.steps_per_epoch(), 3);
  EXPECT_EQ(order.batch(0), (Rows{0, 1, 2, 3}));
  EXPECT_EQ(order.batch(2), (Rows{8, 9}));
  EXPECT_EQ(order.batch(3), (Rows{0, 1, 2, 3}));
  EXPECT_EQ(order.epoch_of(3), 1);
}

// transformers: ceil(batches / accumulation) steps, batches = ceil(rows / micro) or, with
// drop_last, floor.
TEST(Order, CountsStepsAsTransformers) {
  for (int64_t rows = 1; rows < 40; ++rows) {
    for (const int64_t micro : {1, 2, 3}) {
      for (const int64_t accumulation : {1, 2, 4}) {
        OrderOptions options{.strategy = OrderStrategy::sequential,
                             .rows_per_step = micro * accumulation,
                             .micro_batch_rows = micro};
        const auto ceil = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
        EXPECT_EQ(RowOrder(rows, options).steps_per_epoch(), ceil(ceil(rows, micro), accumulation));
        if (rows < micro) continue;
        options.drop_last = true;
        EXPECT_EQ(RowOrder(rows, options).steps_per_epoch(), ceil(rows / micro, accumulation));
      }
    }
  }
}

TEST(Order, DropLastLeavesOutIncompleteMicroBatches) {
  // 11 rows in micro-batches of 2, two a step: batches 01 23 45 67 89, steps of 4, 4 and 2 rows.
  RowOrder order(11, {.strategy = OrderStrategy::sequential,
                      .rows_per_step = 4,
                      .micro_batch_rows = 2,
                      .drop_last = true});
  EXPECT_EQ(order.batch(2), (Rows{8, 9}));
  EXPECT_EQ(order.batch(3).front(), 0);
  EXPECT_THROW(RowOrder(1, {.rows_per_step = 2, .drop_last = true}), UserError);
}

TEST(Order, AnyStepAloneIsTheStepOfTheWholeRun) {
  const Rows lengths = [] {
    Random random(5, {1});
    Rows out(53);
    for (auto& length : out) length = static_cast<int64_t>(random.below(100));
    return out;
  }();
  for (const auto strategy :
       {OrderStrategy::sequential, OrderStrategy::random, OrderStrategy::group_by_length}) {
    const OrderOptions options{.strategy = strategy, .rows_per_step = 6};
    RowOrder run(53, options, lengths);
    std::vector<Rows> steps;
    for (int64_t step = 0; step < 4 * run.steps_per_epoch(); ++step)
      steps.push_back(run.batch(step));
    for (int64_t step = static_cast<int64_t>(steps.size()) - 1; step >= 0; step -= 5) {
      EXPECT_EQ(RowOrder(53, options, lengths).batch(step), steps[static_cast<size_t>(step)]);
    }
    for (int64_t epoch = 0; epoch < 4; ++epoch) {
      Rows rows;
      for (int64_t step = 0; step < run.steps_per_epoch(); ++step) {
        const Rows& batch = steps[static_cast<size_t>(epoch * run.steps_per_epoch() + step)];
        rows.insert(rows.end(), batch.begin(), batch.end());
      }
      EXPECT_EQ(sorted(rows), all(53));
    }
  }
}

TEST(Order, EpochsAndSeedsDiffer) {
  RowOrder order(100, {.rows_per_step = 100, .seed = 1});
  RowOrder other(100, {.rows_per_step = 100, .seed = 2});
  EXPECT_NE(order.batch(0), order.batch(1));
  EXPECT_NE(order.batch(0), other.batch(0));
  EXPECT_NE(order.batch(0), all(100));
}

// Every row comes first about equally often: 6 rows over 6000 epochs, 1000 each, standard
// deviation 29.
TEST(Order, RandomIsUniform) {
  RowOrder order(6, {.rows_per_step = 6});
  std::vector<int> first(6);
  for (int64_t epoch = 0; epoch < 6000; ++epoch)
    ++first[static_cast<size_t>(order.batch(epoch).front())];
  for (const int count : first) EXPECT_NEAR(count, 1000, 5 * 29);
}

TEST(Order, GroupsLikeLengthsWithTheLongestFirst) {
  Rows lengths = all(400);
  std::reverse(lengths.begin(), lengths.end());
  RowOrder order(400, {.strategy = OrderStrategy::group_by_length, .rows_per_step = 10}, lengths);
  EXPECT_EQ(order.batch(0).front(), 0);  // the longest row
  // Runs of 10 steps (400 / (4 · 10)), each sorted: behind the first rows of two runs, which may
  // have changed places, a batch of neighbours spans about a tenth of the lengths; a random batch
  // spans nearly all.
  for (int64_t step = 1; step < 10; ++step) {
    const Rows batch = order.batch(step);
    EXPECT_LT(
        lengths[static_cast<size_t>(batch.front())] - lengths[static_cast<size_t>(batch.back())],
        120);
  }
  EXPECT_THROW(RowOrder(4, {.strategy = OrderStrategy::group_by_length}, {1, 2}), Error);
}

}  // namespace
}  // namespace rlhf
