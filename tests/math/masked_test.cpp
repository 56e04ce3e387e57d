#include "rlhf/math/masked.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Two sequences: values 1 2 6 and 5 7; the 2 and the 7 are masked and hold NaN.
struct Rows {
  at::Tensor values = at::tensor({1.0, kNaN, 6.0, 5.0, kNaN}, at::kDouble).requires_grad_();
  at::Tensor mask = at::tensor({1, 0, 1, 1, 0}).to(at::kBool);
  at::Tensor sequence = at::tensor({0, 0, 0, 1, 1}, at::kLong);
};

TEST(Masked, SumsMeansAndVariance) {
  const Rows rows;
  EXPECT_EQ(masked_sum(rows.values, rows.mask).item<double>(), 12.0);
  EXPECT_EQ(masked_mean(rows.values, rows.mask).item<double>(), 4.0);
  // (9 + 4 + 1) / 2
  EXPECT_EQ(masked_variance(rows.values, rows.mask).item<double>(), 7.0);
  EXPECT_TRUE(at::equal(sequence_sums(rows.values, rows.mask, rows.sequence, 3),
                        at::tensor({7.0, 5.0, 0.0}, at::kDouble)));
  const auto none = at::zeros({5}, at::kBool);
  EXPECT_EQ(masked_mean(rows.values, none).item<double>(), 0.0);
  EXPECT_EQ(masked_variance(rows.values, none).item<double>(), 0.0);
}

TEST(Masked, MaskedValuesGetNoGradient) {
  for (const auto fn : {&masked_sum, &masked_mean}) {
    const Rows rows;
    fn(rows.values, rows.mask).backward();
    const double share = fn == &masked_sum ? 1.0 : 1.0 / 3.0;
    EXPECT_TRUE(
        at::equal(rows.values.grad(), at::tensor({share, 0.0, share, share, 0.0}, at::kDouble)));
  }
}

TEST(Masked, AggregationsByHand) {
  const Rows rows;
  const StepCounts counts{.tokens = 3, .sequences = 2, .constant = 10};
  const auto value = [&](Aggregation kind) {
    return aggregate(kind, rows.values, rows.mask, rows.sequence, counts).item<double>();
  };
  EXPECT_DOUBLE_EQ(value(Aggregation::token_mean), 4.0);                 // 12 / 3
  EXPECT_DOUBLE_EQ(value(Aggregation::sequence_mean), (3.5 + 5.0) / 2);  // means 7/2 and 5/1
  EXPECT_DOUBLE_EQ(value(Aggregation::sequence_constant), 12.0 / 20.0);
}

// Each sequence alone, divided by the step's counts, adds up to the step.
TEST(Masked, MicroBatchesAddUp) {
  const Rows rows;
  const StepCounts counts{.tokens = 3, .sequences = 2, .constant = 10};
  for (const auto kind :
       {Aggregation::token_mean, Aggregation::sequence_mean, Aggregation::sequence_constant}) {
    const double whole =
        aggregate(kind, rows.values, rows.mask, rows.sequence, counts).item<double>();
    double parts = 0.0;
    for (const auto& [begin, count] : {std::pair<int64_t, int64_t>{0, 3}, {3, 2}}) {
      parts +=
          aggregate(kind, rows.values.narrow(0, begin, count), rows.mask.narrow(0, begin, count),
                    rows.sequence.narrow(0, begin, count), counts)
              .item<double>();
    }
    EXPECT_DOUBLE_EQ(parts, whole);
  }
}

TEST(Masked, RefusesACountThatIsMissing) {
  const Rows rows;
  EXPECT_THROW(aggregate(Aggregation::token_mean, rows.values, rows.mask, rows.sequence, {}),
               Error);
  EXPECT_THROW(aggregate(Aggregation::sequence_constant, rows.values, rows.mask, rows.sequence,
                         {.sequences = 2}),
               Error);
  const auto none = at::zeros({5}, at::kBool);
  EXPECT_EQ(aggregate(Aggregation::token_mean, rows.values, none, rows.sequence, {}).item<double>(),
            0.0);
  EXPECT_THROW(masked_sum(rows.values, at::ones({5})), Error);
}

}  // namespace
}  // namespace rlhf
