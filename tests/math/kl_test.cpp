#include "rlhf/math/kl.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

// q = log 2 (the reference finds the token twice as likely): k1 = −log 2, k2 = log²2 / 2, k3 = 2 −
// log 2 − 1.
TEST(Kl, EstimatesByHand) {
  const double log2 = std::log(2.0);
  const auto policy = at::tensor({-3.0}, at::kDouble);
  const auto reference = policy + log2;
  const auto value = [&](KlEstimator kind) {
    return kl_estimate(kind, policy, reference).item<double>();
  };
  EXPECT_NEAR(value(KlEstimator::k1), -log2, 1e-15);
  EXPECT_NEAR(value(KlEstimator::k2), log2 * log2 / 2, 1e-15);
  EXPECT_NEAR(value(KlEstimator::k3), 1 - log2, 1e-15);
}

TEST(Kl, EqualPoliciesGiveExactlyZero) {
  const auto logprobs = at::tensor({-0.1, -7.0, -1e-9}, at::kFloat);
  for (const auto kind : {KlEstimator::k1, KlEstimator::k2, KlEstimator::k3}) {
    EXPECT_EQ(kl_estimate(kind, logprobs, logprobs).abs().sum().item<double>(), 0.0);
  }
}

// d k1 / d log π = 1, d k2 = −q, d k3 = 1 − e^q.
TEST(Kl, GradientsByHand) {
  const auto q = at::tensor({-2.0, 0.0, 1.5}, at::kDouble);
  const at::Tensor wanted[] = {at::ones_like(q), -q, 1 - q.exp()};
  const KlEstimator kinds[] = {KlEstimator::k1, KlEstimator::k2, KlEstimator::k3};
  for (int i = 0; i < 3; ++i) {
    const auto policy = at::full_like(q, -4.0).requires_grad_();
    kl_estimate(kinds[i], policy, q - 4.0).sum().backward();
    EXPECT_TRUE(at::allclose(policy.grad(), wanted[i], 1e-14, 1e-14)) << i;
  }
}

// The mean of k1 and of k3 under the policy is the KL itself, worked out over three tokens.
TEST(Kl, UnbiasedUnderThePolicy) {
  const auto p = at::tensor({0.5, 0.3, 0.2}, at::kDouble);
  const auto r = at::tensor({0.2, 0.5, 0.3}, at::kDouble);
  const double kl = 0.5 * std::log(2.5) + 0.3 * std::log(0.6) + 0.2 * std::log(2.0 / 3.0);
  for (const auto kind : {KlEstimator::k1, KlEstimator::k3}) {
    EXPECT_NEAR((p * kl_estimate(kind, p.log(), r.log())).sum().item<double>(), kl, 1e-15);
  }
}

TEST(Kl, HugeRatiosStayFiniteAndPullTheRightWay) {
  const auto policy = at::tensor({-500.0F}).requires_grad_();
  const auto value = kl_estimate(KlEstimator::k3, policy, at::zeros({1}));
  value.backward();
  EXPECT_TRUE(value.isfinite().item<bool>());
  EXPECT_TRUE(policy.grad().isfinite().item<bool>());
  EXPECT_LT(policy.grad().item<double>(), -1e8);
  // The tangent meets the curve: value and slope at the bound.
  const auto edge = at::tensor({kLogRatioBound, kLogRatioBound + 1}, at::kDouble);
  const auto values = bounded_exp(edge);
  EXPECT_DOUBLE_EQ(values[0].item<double>(), std::exp(kLogRatioBound));
  EXPECT_DOUBLE_EQ(values[1].item<double>(), 2 * std::exp(kLogRatioBound));
}

TEST(Kl, RefusesDifferentShapes) {
  EXPECT_THROW(kl_estimate(KlEstimator::k1, at::zeros({2}), at::zeros({3})), Error);
}

}  // namespace
}  // namespace rlhf
