#include "rlhf/losses/unpaired.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss_checks.h"
#include "rlhf/core/error.h"
#include "rlhf/losses/bco.h"
#include "rlhf/losses/kto.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::finite;
using testing::gradient_error;
using testing::numbers;

constexpr double kTolerance = 1e-14;  // a handful of roundings in double of numbers near 1

const double kLn2 = std::log(2.0);
constexpr UnpairedLoss kAll[] = {UnpairedLoss::kto, UnpairedLoss::apo_zero_unpaired,
                                 UnpairedLoss::bco};

at::Tensor flags(std::vector<double> values) { return numbers(values).to(at::kBool); }

// Desirable with D = ln 6, undesirable with D = 0; z and δ are ln 2.
at::Tensor worked(UnpairedLoss loss, const UnpairedLossOptions& options) {
  return unpaired_loss(loss, numbers({std::log(6.0), 0.0}), flags({1, 0}), kLn2, options);
}

TEST(UnpairedLosses, ByHand) {
  EXPECT_LT(difference(worked(UnpairedLoss::kto, {.beta = 1}), numbers({1.0 / 4, 1.0 / 3})),
            kTolerance);
  EXPECT_LT(difference(worked(UnpairedLoss::kto,
                              {.beta = 1, .desirable_weight = 2, .undesirable_weight = 0.5}),
                       numbers({1.0 / 2, 1.0 / 6})),
            kTolerance);
  EXPECT_LT(
      difference(worked(UnpairedLoss::apo_zero_unpaired, {.beta = 1}), numbers({1.0 / 7, 1.0 / 2})),
      kTolerance);
  EXPECT_LT(difference(worked(UnpairedLoss::bco, {.beta = 1}),
                       numbers({std::log(4.0 / 3), std::log(1.5)})),
            kTolerance);
}

TEST(UnpairedLosses, GradientsAgreeWithCentralDifferences) {
  for (const auto loss : kAll) {
    const auto ratios = numbers({-2.0, 0.4, 1.1, -0.3}).requires_grad_();
    const auto value = [&] {
      return unpaired_loss(loss, ratios, flags({1, 0, 1, 0}), 0.6,
                           {.beta = 0.7, .desirable_weight = 1.3, .undesirable_weight = 0.8});
    };
    EXPECT_LT(gradient_error(ratios, value), 1e-8) << enum_text(loss);
  }
}

TEST(UnpairedLosses, FiniteAtExtremeLogRatios) {
  for (const auto loss : kAll) {
    const auto ratios = numbers({1e4, -1e4, 1e4, -1e4}, at::kFloat).requires_grad_();
    const auto losses = unpaired_loss(loss, ratios, flags({1, 1, 0, 0}), 3.0, {.beta = 0.5});
    losses.sum().backward();
    EXPECT_TRUE(finite(losses) && finite(ratios.grad())) << enum_text(loss);
    EXPECT_EQ(losses[0].item<double>(), 0.0) << enum_text(loss);
    EXPECT_EQ(losses[3].item<double>(), 0.0) << enum_text(loss);
  }
}

// Swapping the labels and the sign of every reward around the anchor changes nothing.
TEST(UnpairedLosses, ClassesMirrorEachOther) {
  const auto ratios = numbers({-2.0, 0.4, 1.1});
  const auto desirable = flags({1, 0, 1});
  for (const auto loss : kAll) {
    const UnpairedLossOptions options{.beta = 0.5};
    EXPECT_LT(difference(unpaired_loss(loss, ratios, desirable, 0.3, options),
                         unpaired_loss(loss, -ratios, desirable.logical_not(), -0.3, options)),
              kTolerance)
        << enum_text(loss);
  }
}

TEST(UnpairedLosses, ReferencePointIsAMeanHeldAtZero) {
  EXPECT_EQ(kto_reference_point(numbers({1.0, 2.0, -0.75})), 0.75);
  EXPECT_EQ(kto_reference_point(numbers({1.0, -2.0})), 0.0);
  EXPECT_EQ(kto_reference_point(at::empty({0})), 0.0);
}

// {1, 3} then {5}: means 2 and 3; variances 1 and 8/3.
TEST(RunningMoments, ByHand) {
  RunningMoments moments;
  moments.update(numbers({1.0, 3.0}));
  EXPECT_EQ(moments.mean, 2.0);
  EXPECT_EQ(moments.variance, 1.0);
  moments.update(at::empty({0}));
  moments.update(at::full({1, 1}, 5.0F).requires_grad_());
  EXPECT_NEAR(moments.mean, 3.0, kTolerance);
  EXPECT_NEAR(moments.variance, 8.0 / 3, kTolerance);
  EXPECT_EQ(moments.count, 3.0);
}

// The same numbers in two parts that never met, and nothing.
TEST(RunningMoments, Merged) {
  RunningMoments moments;
  moments.merge({});
  EXPECT_EQ(moments.count, 0.0);
  moments.merge({.mean = 2.0, .variance = 1.0, .count = 2.0});
  moments.merge({.mean = 5.0, .variance = 0.0, .count = 1.0});
  EXPECT_NEAR(moments.mean, 3.0, kTolerance);
  EXPECT_NEAR(moments.variance, 8.0 / 3, kTolerance);
  EXPECT_EQ(moments.count, 3.0);
}

TEST(RunningMoments, StateTravelsThroughJson) {
  RunningMoments moments;
  moments.update(numbers({0.1, 1.0 / 3, -7.0}));
  const auto read = RunningMoments::from_json(Json::parse(moments.to_json().dump()));
  EXPECT_EQ(read.mean, moments.mean);
  EXPECT_EQ(read.variance, moments.variance);
  EXPECT_EQ(read.count, moments.count);
  EXPECT_THROW(RunningMoments::from_json(Json{{"mean", 1.0}}), Error);
  EXPECT_THROW(RunningMoments::from_json(Json::array()), Error);
}

TEST(UnpairedLosses, RefusesWhatIsOutOfRangeOrDoesNotFit) {
  const auto ratios = numbers({0.0, 1.0});
  EXPECT_THROW(unpaired_loss(UnpairedLoss::kto, ratios, flags({1}), 0, {}), Error);
  EXPECT_THROW(unpaired_loss(UnpairedLoss::kto, ratios, numbers({1, 0}), 0, {}), Error);
  EXPECT_THROW(unpaired_loss(UnpairedLoss::kto, ratios, flags({1, 0}), 0, {.beta = 0}), Error);
  EXPECT_THROW(unpaired_loss(UnpairedLoss::kto, ratios, flags({1, 0}), 0, {.desirable_weight = -1}),
               Error);
}

}  // namespace
}  // namespace rlhf
