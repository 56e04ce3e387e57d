// Policy-gradient objectives: the worked cases of their headers, gradients, cuts, extremes.
#include <gtest/gtest.h>

#include <cmath>

#include "loss_checks.h"
#include "rlhf/losses/cispo.h"
#include "rlhf/losses/gmpo.h"
#include "rlhf/losses/grpo_clip.h"
#include "rlhf/losses/policy_loss.h"
#include "rlhf/losses/sapo.h"
#include "rlhf/losses/vespo.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::finite;
using testing::gradient_error;
using testing::numbers;

constexpr double kTolerance = 1e-14;  // a handful of roundings in double of numbers near 1

std::vector<PolicyLoss> all_losses() {
  std::vector<PolicyLoss> losses;
  for (size_t i = 0; i < EnumNames<PolicyLoss>::names.size(); ++i)
    losses.push_back(static_cast<PolicyLoss>(i));
  return losses;
}

torch::Tensor flags(const std::vector<double>& values) { return numbers(values).to(torch::kBool); }

torch::Tensor places(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kInt64);
}

TEST(PolicyLosses, ByHand) {
  const auto clip = [](double ratio, double advantage, double delta = INFINITY) {
    return grpo_clip_loss(numbers({ratio}), numbers({advantage}), 0.2, 0.2, delta)[0]
        .item<double>();
  };
  EXPECT_NEAR(clip(1.5, 1), -1.2, kTolerance);
  EXPECT_NEAR(clip(1.5, -1), 1.5, kTolerance);
  EXPECT_NEAR(clip(0.5, -1), 0.8, kTolerance);
  EXPECT_NEAR(clip(1.5, -1, /*delta=*/1.4), 1.4, kTolerance);
  EXPECT_NEAR(cispo_loss(numbers({6}), numbers({2}), numbers({-1}), /*cap=*/5)[0].item<double>(),
              10.0, kTolerance);
  EXPECT_NEAR(sapo_loss(numbers({1 + std::log(3.0)}), numbers({2}), 1, 1.05)[0].item<double>(),
              -6.0, kTolerance);
  EXPECT_NEAR(vespo_weight(numbers({0}), numbers({1}), 2, 3, 3, 2)[0].item<double>(), 1.0,
              kTolerance);
  EXPECT_NEAR(vespo_weight(numbers({std::log(2.0)}), numbers({1}), 2, 3, 3, 2)[0].item<double>(),
              4 * std::exp(-3.0), kTolerance);
  EXPECT_LT(
      difference(gmpo_log_ratios(numbers({0.6, 0.2}), numbers({1, 1}), 0.4), numbers({0.4, 0.2})),
      kTolerance);
  EXPECT_LT(
      difference(gmpo_log_ratios(numbers({0.6, 0.2}), numbers({-1, -1}), 0.4), numbers({0.6, 0.2})),
      kTolerance);
}

/// Three sequences of 3, 1 and 2 tokens; the second token does not count.
PolicyInputs inputs_of(const torch::Tensor& logprobs, bool reference = true) {
  const auto type = logprobs.scalar_type();
  PolicyInputs inputs;
  inputs.logprobs = logprobs;
  inputs.old_logprobs = numbers({-1.0, -0.4, -2.2, -0.9, -1.3, -0.7}, type);
  if (reference) inputs.ref_logprobs = numbers({-1.2, -0.5, -1.9, -0.8, -1.5, -0.6}, type);
  inputs.advantages = numbers({0.7, 0.7, 0.7, -1.1, 0.4, 0.4}, type);
  inputs.mask = flags({1, 0, 1, 1, 1, 1});
  inputs.sequence = places({0, 0, 0, 1, 2, 2});
  inputs.sequences = 3;
  return inputs;
}

torch::Tensor some_logprobs(torch::ScalarType type = torch::kDouble) {
  return numbers({-0.9, -0.3, -2.0, -1.1, -1.2, -0.9}, type);
}

constexpr StepCounts kCounts{.tokens = 5, .sequences = 3, .constant = 7};

// What each loss divides by, at ratio 1 and without a KL term, where every surrogate's value is −A
// (cispo's and vespo's −A log π): sequence means −0.7, 1.1, −0.4.
TEST(PolicyLosses, DivideAsTheTableSays) {
  const auto value = [](PolicyLoss loss) {
    PolicyInputs inputs = inputs_of(some_logprobs(), /*reference=*/false);
    inputs.old_logprobs = torch::Tensor();
    return policy_loss({.loss_type = loss}, inputs, kCounts).loss.item<double>();
  };
  const double tokens = -0.7 * 2 + 1.1 - 0.4 * 2;
  const double sequences = -0.7 + 1.1 - 0.4;
  EXPECT_NEAR(value(PolicyLoss::grpo), sequences / 3, kTolerance);
  EXPECT_NEAR(value(PolicyLoss::gmpo), sequences / 3, kTolerance);
  EXPECT_NEAR(value(PolicyLoss::bnpo), tokens / 5, kTolerance);
  EXPECT_NEAR(value(PolicyLoss::dapo), tokens / 5, kTolerance);
  EXPECT_NEAR(value(PolicyLoss::dr_grpo), tokens / (3 * 7), kTolerance);
  EXPECT_NEAR(value(PolicyLoss::luspo), tokens / 3, kTolerance);
  // 4/τ · σ(0) = 2/τ: −2A at τ 1, −2A / 1.05 for A < 0.
  EXPECT_NEAR(value(PolicyLoss::sapo), 2 * (-0.7 + 1.1 / 1.05 - 0.4) / 3, kTolerance);
  const double weighted = -0.7 * (-0.9 - 2.0) + 1.1 * -1.1 - 0.4 * (-1.2 - 0.9);
  EXPECT_NEAR(value(PolicyLoss::vespo), weighted / 5, kTolerance);
  // The cap is epsilon here.
  EXPECT_NEAR(value(PolicyLoss::cispo), 0.2 * weighted / 5, kTolerance);
}

TEST(PolicyLosses, RatiosByHand) {
  const auto inputs = inputs_of(some_logprobs());
  const auto ratio = [&](ImportanceLevel level) { return importance_ratio(level, inputs); };
  EXPECT_LT(
      difference(ratio(ImportanceLevel::token), numbers({0.1, 0.1, 0.2, -0.2, 0.1, -0.2}).exp()),
      kTolerance);
  // Means over the tokens that count: (0.1 + 0.2)/2, −0.2, (0.1 − 0.2)/2.
  EXPECT_LT(difference(ratio(ImportanceLevel::sequence),
                       numbers({0.15, 0.15, 0.15, -0.2, -0.05, -0.05}).exp()),
            kTolerance);
  EXPECT_LT(difference(ratio(ImportanceLevel::sequence_token),
                       numbers({0.15, 0.15, 0.15, -0.2, -0.05, -0.05}).exp()),
            kTolerance);
  EXPECT_LT(difference(ratio(ImportanceLevel::sequence_sum),
                       numbers({0.3, 0.3, 0.3, -0.2, -0.1, -0.1}).exp()),
            kTolerance);
}

TEST(PolicyLosses, GradientsAgreeWithCentralDifferences) {
  for (const auto loss : all_losses()) {
    // cispo's and vespo's weights carry no gradient by definition; a difference would see one.
    if (loss == PolicyLoss::cispo || loss == PolicyLoss::vespo) continue;
    for (const auto level :
         {ImportanceLevel::token, ImportanceLevel::sequence, ImportanceLevel::sequence_sum}) {
      const PolicyLossOptions options{
          .loss_type = loss, .importance_sampling_level = level, .epsilon = 0.15, .beta = 0.3};
      const auto logprobs = some_logprobs().requires_grad_();
      EXPECT_LT(
          gradient_error(logprobs,
                         [&] { return policy_loss(options, inputs_of(logprobs), kCounts).loss; }),
          1e-8)
          << enum_text(loss) << " " << enum_text(level);
    }
  }
}

// A weight without gradient leaves −w A / N as the gradient of a token that counts.
TEST(PolicyLosses, WeightsOfCispoAndVespoCarryNoGradient) {
  for (const auto loss : {PolicyLoss::cispo, PolicyLoss::vespo}) {
    const auto logprobs = some_logprobs().requires_grad_();
    const auto inputs = inputs_of(logprobs);
    policy_loss({.loss_type = loss, .epsilon_high = 5.0}, inputs, kCounts).loss.backward();
    const auto ratio = importance_ratio(ImportanceLevel::token, inputs).detach();
    const auto sums = numbers({0.3, 0.3, 0.3, -0.2, -0.1, -0.1});
    const auto weight =
        loss == PolicyLoss::cispo ? ratio : vespo_weight(sums, inputs.advantages, 2, 3, 3, 2);
    const auto wanted = -weight * inputs.advantages * inputs.mask / 5;
    EXPECT_LT(difference(logprobs.grad(), wanted), kTolerance) << enum_text(loss);
  }
}

// Calls of whole sequences add up to one call, in value, gradient and metrics.
TEST(PolicyLosses, AnyCutGivesTheSame) {
  for (const auto loss : all_losses()) {
    const PolicyLossOptions options{.loss_type = loss, .epsilon = 0.05, .beta = 0.3};
    const auto whole = some_logprobs().requires_grad_();
    const auto at_once = policy_loss(options, inputs_of(whole), kCounts);
    at_once.loss.backward();
    const auto cut = some_logprobs().requires_grad_();
    const auto all = inputs_of(cut);
    double sum = 0.0;
    PolicyMetrics metrics;
    for (const auto& [begin, count, sequences] : {std::tuple(0, 3, 1), std::tuple(3, 3, 2)}) {
      PolicyInputs part;
      for (const auto member :
           {&PolicyInputs::logprobs, &PolicyInputs::old_logprobs, &PolicyInputs::ref_logprobs,
            &PolicyInputs::advantages, &PolicyInputs::mask, &PolicyInputs::sequence})
        part.*member = (all.*member).narrow(0, begin, count);
      part.sequence = part.sequence - part.sequence[0];
      part.sequences = sequences;
      const auto result = policy_loss(options, part, kCounts);
      result.loss.backward();
      sum += result.loss.item<double>();
      metrics.add(result.metrics);
    }
    EXPECT_NEAR(sum, at_once.loss.item<double>(), kTolerance) << enum_text(loss);
    EXPECT_LT(difference(cut.grad(), whole.grad()), kTolerance) << enum_text(loss);
    EXPECT_NEAR(metrics.kl, at_once.metrics.kl, kTolerance);
    EXPECT_EQ(metrics.low, at_once.metrics.low);
    EXPECT_EQ(metrics.high, at_once.metrics.high);
    EXPECT_EQ(metrics.high_max, at_once.metrics.high_max);
  }
}

// Without old log-probabilities the policy sampled itself: every ratio is exactly 1.
TEST(PolicyLosses, OnPolicyNothingIsClipped) {
  for (const auto loss : all_losses()) {
    PolicyInputs inputs = inputs_of(some_logprobs(torch::kFloat).requires_grad_());
    inputs.old_logprobs = torch::Tensor();
    const auto ratio = importance_ratio(ImportanceLevel::token, inputs);
    EXPECT_TRUE(ratio.equal(torch::ones_like(ratio)));
    const auto metrics = policy_loss({.loss_type = loss, .epsilon = 0.0}, inputs, kCounts).metrics;
    EXPECT_EQ(metrics.low, 0.0) << enum_text(loss);
    EXPECT_EQ(metrics.high, 0.0) << enum_text(loss);
  }
}

TEST(PolicyLosses, FiniteAtExtremeLogRatios) {
  for (const auto loss : all_losses()) {
    for (const double size : {1e4, -1e4}) {
      const auto logprobs = torch::full({6}, size, torch::kFloat).requires_grad_();
      const auto inputs = inputs_of(logprobs);
      const auto result = policy_loss({.loss_type = loss, .beta = 0.1}, inputs, kCounts);
      result.loss.backward();
      EXPECT_TRUE(finite(result.loss) && finite(logprobs.grad())) << enum_text(loss) << " " << size;
    }
  }
}

// keep takes a token out of the policy term, not out of the KL term or the divisor.
TEST(PolicyLosses, KeepActsOnThePolicyTermAlone) {
  PolicyInputs inputs = inputs_of(some_logprobs());
  const auto full = policy_loss({.beta = 0.5}, inputs, kCounts).loss.item<double>();
  inputs.keep = flags({0, 0, 0, 0, 0, 0});
  const auto kl_only = policy_loss({.beta = 0.5}, inputs, kCounts);
  EXPECT_NEAR(kl_only.loss.item<double>(), 0.5 * kl_only.metrics.kl / 5, kTolerance);
  inputs.keep = flags({1, 1, 1, 1, 1, 1});
  EXPECT_NEAR(policy_loss({.beta = 0.5}, inputs, kCounts).loss.item<double>(), full, kTolerance);
}

// Drift old − new: −0.15, 0.2, 0.05. Only sequences with A < 0 are dropped, above the threshold.
TEST(PolicyLosses, TheOffPolicyMaskDropsWhatWasLeft) {
  const auto logprobs = some_logprobs().requires_grad_();
  const auto gradient = [&](double threshold) {
    logprobs.mutable_grad().reset();
    policy_loss({.off_policy_mask_threshold = threshold}, inputs_of(logprobs, false), kCounts)
        .loss.backward();
    return logprobs.grad()[3].item<double>();
  };
  EXPECT_EQ(gradient(0.1), 0.0);
  EXPECT_NE(gradient(0.3), 0.0);
  EXPECT_NE(logprobs.grad()[4].item<double>(), 0.0);
}

}  // namespace
}  // namespace rlhf
