// The critic's loss: its header's case, gradients, cuts, what does not count; and the two losses of
// PPO against tools/make_ppo_goldens.py.
#include "rlhf/losses/value_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "loss_checks.h"
#include "rlhf/core/error.h"
#include "rlhf/losses/policy_loss.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::gradient_error;
using testing::numbers;
using testing::recorded;

constexpr double kTolerance = 1e-14;        // a handful of roundings in double of numbers near 1
constexpr double kGoldenTolerance = 1e-12;  // sums of 24 numbers near 1, in another order

at::Tensor flags(const std::vector<double>& values) { return numbers(values).to(at::kBool); }

/// Values on either side of the clip and inside it, moved towards their returns and away.
ValueInputs mixed(at::ScalarType type = at::kDouble) {
  return {.values = numbers({0.5, -0.5, 0.1, 1.3, -0.9, 0.05}, type).requires_grad_(),
          .old_values = numbers({0.0, 0.0, 0.0, 0.8, -0.2, 0.4}, type),
          .returns = numbers({1.0, 1.0, 1.0, 0.3, -1.5, 0.35}, type),
          .mask = flags({1, 1, 1, 1, 0, 1})};
}

ValueInputs part_of(const ValueInputs& all, int64_t begin, int64_t end) {
  return {.values = all.values.slice(0, begin, end),
          .old_values = all.old_values.slice(0, begin, end),
          .returns = all.returns.slice(0, begin, end),
          .mask = all.mask.slice(0, begin, end)};
}

TEST(ValueLoss, ByHand) {
  const ValueInputs inputs{.values = numbers({0.5, -0.5}).requires_grad_(),
                           .old_values = numbers({0.0, 0.0}),
                           .returns = numbers({1.0, 1.0}),
                           .mask = flags({1, 1})};
  const auto made = value_loss(inputs, 0.2, /*tokens=*/2);
  EXPECT_NEAR(made.loss.item<double>(), 0.7225, kTolerance);
  made.loss.backward();
  EXPECT_LT(difference(inputs.values.grad(), numbers({0.0, -0.75})), kTolerance);
  EXPECT_EQ(made.metrics.tokens, 2.0);
  EXPECT_EQ(made.metrics.clipped, 1.0);
  EXPECT_EQ(made.metrics.values, 0.0);
  EXPECT_NEAR(made.metrics.squares, 2.5, kTolerance);
  EXPECT_FALSE(made.metrics.explained_variance().has_value());  // equal returns
}

// ½ (0.25 + 2.25) / 2, and no old values are asked for.
TEST(ValueLoss, WithoutAClip) {
  const ValueInputs inputs{
      .values = numbers({0.5, -0.5}), .returns = numbers({1.0, 1.0}), .mask = flags({1, 1})};
  for (const auto off : {std::optional<double>(), std::optional(0.0)}) {
    const auto made = value_loss(inputs, off, /*tokens=*/2);
    EXPECT_NEAR(made.loss.item<double>(), 0.625, kTolerance);
    EXPECT_EQ(made.metrics.clipped, 0.0);
  }
}

// Returns 0, 2, 4 (variance 8/3) and residuals 0, 0, 1 (2/9): 1 − 1/12. A constant explains 0.
TEST(ValueLoss, ExplainedVariance) {
  const auto explained = [](const std::vector<double>& values, const std::vector<double>& returns) {
    return value_loss({.values = numbers(values),
                       .returns = numbers(returns),
                       .mask = at::ones({static_cast<int64_t>(values.size())}, at::kBool)},
                      std::nullopt, 1.0)
        .metrics.explained_variance();
  };
  EXPECT_NEAR(explained({0, 2, 3}, {0, 2, 4}).value(), 11.0 / 12, kTolerance);
  EXPECT_NEAR(explained({7, 7, 7}, {0, 2, 4}).value(), 0.0, kTolerance);
  EXPECT_NEAR(explained({4, 2, 0}, {0, 2, 4}).value(), -3.0, kTolerance);
  // 1e6 is no spread of its own: 1e6 and 1e6 + 1, known exactly.
  EXPECT_NEAR(explained({1e6, 1e6 + 1}, {1e6, 1e6 + 1}).value(), 1.0, kTolerance);
  EXPECT_FALSE(explained(std::vector<double>(7, 0.0), std::vector<double>(7, 0.1)).has_value());
  EXPECT_FALSE(ValueMetrics().explained_variance().has_value());
}

// Central differences of a step of 1e-5 round to 1e-10 near 1.
TEST(ValueLoss, GradientsInDouble) {
  for (const auto clip : {std::optional(0.2), std::optional<double>()}) {
    const auto inputs = mixed();
    EXPECT_LT(gradient_error(inputs.values, [&] { return value_loss(inputs, clip, 5).loss; }),
              1e-9);
  }
}

// Only the values are trained.
TEST(ValueLoss, NoGradientElsewhere) {
  auto inputs = mixed();
  inputs.old_values.requires_grad_();
  inputs.returns.requires_grad_();
  value_loss(inputs, 0.2, 5).loss.backward();
  EXPECT_FALSE(inputs.old_values.grad().defined());
  EXPECT_FALSE(inputs.returns.grad().defined());
}

TEST(ValueLoss, AnyCutGivesTheSame) {
  const auto whole = mixed();
  const auto wanted = value_loss(whole, 0.2, 5);
  wanted.loss.backward();
  for (const auto& cut : {std::vector<int64_t>{0, 1, 6}, {0, 3, 4, 5, 6}, {0, 2, 2, 6}}) {
    const auto parts = mixed();
    double loss = 0.0;
    ValueMetrics metrics;
    for (size_t i = 0; i + 1 < cut.size(); ++i) {
      const auto made = value_loss(part_of(parts, cut[i], cut[i + 1]), 0.2, 5);
      made.loss.backward();
      loss += made.loss.item<double>();
      metrics.add(made.metrics);
    }
    EXPECT_NEAR(loss, wanted.loss.item<double>(), kTolerance);
    EXPECT_LT(difference(parts.values.grad(), whole.values.grad()), kTolerance);
    EXPECT_EQ(metrics.tokens, wanted.metrics.tokens);
    EXPECT_EQ(metrics.clipped, wanted.metrics.clipped);
    EXPECT_NEAR(metrics.values, wanted.metrics.values, kTolerance);
    EXPECT_NEAR(metrics.squares, wanted.metrics.squares, kTolerance);
    EXPECT_NEAR(metrics.explained_variance().value(), wanted.metrics.explained_variance().value(),
                kTolerance);
  }
}

// What the mask leaves out may be anything; a step of nothing is 0 with a gradient of 0.
TEST(ValueLoss, MaskedTokensAreNotRead) {
  const auto clean = mixed();
  auto dirty = mixed();
  {
    const at::NoGradGuard no_grad;
    dirty.values[4] = NAN;
    dirty.old_values[4] = INFINITY;
    dirty.returns[4] = -INFINITY;
  }
  const auto wanted = value_loss(clean, 0.2, 5);
  const auto made = value_loss(dirty, 0.2, 5);
  wanted.loss.backward();
  made.loss.backward();
  EXPECT_EQ(made.loss.item<double>(), wanted.loss.item<double>());
  EXPECT_EQ(made.metrics.squares, wanted.metrics.squares);
  EXPECT_EQ(difference(dirty.values.grad(), clean.values.grad()), 0.0);
  EXPECT_EQ(dirty.values.grad()[4].item<double>(), 0.0);

  auto none = mixed();
  none.mask = at::zeros({6}, at::kBool);
  const auto nothing = value_loss(none, 0.2, /*tokens=*/0);
  nothing.loss.backward();
  EXPECT_EQ(nothing.loss.item<double>(), 0.0);
  EXPECT_EQ(none.values.grad().abs().max().item<double>(), 0.0);
  EXPECT_EQ(nothing.metrics.tokens, 0.0);
}

// fp32 rounds to 6e-8 of numbers below 4.
TEST(ValueLoss, InSinglePrecision) {
  const auto made = value_loss(mixed(at::kFloat), 0.2, 5).loss;
  EXPECT_EQ(made.scalar_type(), at::kFloat);
  EXPECT_NEAR(made.item<double>(), value_loss(mixed(), 0.2, 5).loss.item<double>(), 1e-6);
}

TEST(ValueLoss, WhatDoesNotFitIsAnError) {
  const auto broken = [](auto change) {
    auto inputs = mixed();
    change(inputs);
    EXPECT_THROW(value_loss(inputs, 0.2, 5), Error);
  };
  broken([](ValueInputs& in) { in.values = at::Tensor(); });
  broken([](ValueInputs& in) { in.values = in.values.view({2, 3}); });
  broken([](ValueInputs& in) { in.old_values = at::Tensor(); });
  broken([](ValueInputs& in) { in.returns = in.returns.slice(0, 0, 5); });
  broken([](ValueInputs& in) { in.returns = in.returns.to(at::kFloat); });
  broken([](ValueInputs& in) { in.mask = in.mask.to(at::kDouble); });
  EXPECT_THROW(value_loss(mixed(), -0.1, 5), Error);
  EXPECT_THROW(value_loss(mixed(), 0.2, 0), Error);
}

const Json& goldens() {
  static const Json json = Json::parse(std::ifstream(RLHF_FIXTURES "/math/ppo.json"));
  return json;
}

TEST(PpoGoldens, ValueLosses) {
  for (const auto& c : goldens()["value_losses"]) {
    std::optional<double> clip;
    if (!c["cliprange_value"].is_null()) clip = c["cliprange_value"].get<double>();
    const ValueInputs inputs{.values = recorded(c["values"]).requires_grad_(),
                             .old_values = recorded(c["old_values"]),
                             .returns = recorded(c["returns"]),
                             .mask = recorded(c["mask"]).to(at::kBool)};
    const double tokens = recorded(c["mask"]).sum().item<double>();
    const auto [loss, metrics] = value_loss(inputs, clip, tokens);
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), c["loss"].get<double>(), kGoldenTolerance);
    EXPECT_LT(difference(inputs.values.grad(), recorded(c["grad"])), kGoldenTolerance);
    EXPECT_NEAR(metrics.clipped / metrics.tokens, c["clip_fraction"].get<double>(), kTolerance);
    EXPECT_NEAR(metrics.values / metrics.tokens, c["mean_value"].get<double>(), kGoldenTolerance);
    EXPECT_NEAR(metrics.squares / metrics.tokens, c["mean_squared_error"].get<double>(),
                kGoldenTolerance);
    const auto explained = metrics.explained_variance();
    ASSERT_EQ(explained.has_value(), !c["explained_variance"].is_null());
    if (!explained) continue;
    EXPECT_NEAR(*explained, c["explained_variance"].get<double>(), kGoldenTolerance);
  }
}

// PPO's policy term is policy_loss() of type bnpo.
TEST(PpoGoldens, PolicyLosses) {
  for (const auto& c : goldens()["policy_losses"]) {
    const auto mask = recorded(c["mask"]);
    const PolicyInputs inputs{.logprobs = recorded(c["logprobs"]).requires_grad_(),
                              .old_logprobs = recorded(c["old"]),
                              .advantages = recorded(c["advantages"]),
                              .mask = mask.to(at::kBool),
                              .sequence = at::zeros({mask.numel()}, at::kLong),
                              .sequences = 1};
    const auto [loss, metrics] =
        policy_loss({.loss_type = PolicyLoss::bnpo, .epsilon = c["cliprange"]}, inputs,
                    {.tokens = mask.sum().item<double>()});
    loss.backward();
    EXPECT_NEAR(loss.item<double>(), c["loss"].get<double>(), kGoldenTolerance);
    EXPECT_LT(difference(inputs.logprobs.grad(), recorded(c["grad"])), kGoldenTolerance);
    EXPECT_NEAR((metrics.low + metrics.high) / metrics.ratios, c["clip_fraction"].get<double>(),
                kTolerance);
  }
  EXPECT_EQ(goldens()["policy_losses"].size(), 9U);
  EXPECT_EQ(goldens()["value_losses"].size(), 9U);
}

}  // namespace
}  // namespace rlhf
