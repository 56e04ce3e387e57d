// Policy-gradient objectives: the worked cases of their headers, gradients, cuts, extremes.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "loss_checks.h"
#include "rlhf/core/error.h"
#include "rlhf/losses/cispo.h"
#include "rlhf/losses/gmpo.h"
#include "rlhf/losses/grpo_clip.h"
#include "rlhf/losses/policy_loss.h"
#include "rlhf/losses/rloo.h"
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

at::Tensor flags(const std::vector<double>& values) { return numbers(values).to(at::kBool); }

at::Tensor places(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }

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
PolicyInputs inputs_of(const at::Tensor& logprobs, bool reference = true) {
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

at::Tensor some_logprobs(at::ScalarType type = at::kDouble) {
  return numbers({-0.9, -0.3, -2.0, -1.1, -1.2, -0.9}, type);
}

constexpr StepCounts kCounts{.tokens = 5, .sequences = 3, .constant = 7};

// What each loss divides by, at ratio 1 and without a KL term, where every surrogate's value is −A
// (cispo's and vespo's −A log π): sequence means −0.7, 1.1, −0.4.
TEST(PolicyLosses, DivideAsTheTableSays) {
  const auto value = [](PolicyLoss loss) {
    PolicyInputs inputs = inputs_of(some_logprobs(), /*reference=*/false);
    inputs.old_logprobs = at::Tensor();
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
      difference(ratio(ImportanceLevel::token), numbers({0.1, 0.0, 0.2, -0.2, 0.1, -0.2}).exp()),
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

// The fixture's log-ratios in q = log π_ref − log π: −0.3, 0.1, 0.3, −0.3, 0.3 where they count.
// k2 is q²/2, k1 is −q; at N = 5 the means are 0.045·4 + 0.005 = 0.185 over 5, and −0.1 over 5.
TEST(PolicyLosses, KlEstimatorsByHandAndByCentralDifferences) {
  const auto logprobs = some_logprobs().requires_grad_();
  const auto loss_of = [&](double beta, KlEstimator estimator) {
    const PolicyLossOptions options{.loss_type = PolicyLoss::bnpo,
                                    .beta = beta,
                                    .kl_estimator = estimator,
                                    .use_bias_correction_kl = false};
    return policy_loss(options, inputs_of(logprobs), kCounts);
  };
  const auto kl_of = [&](KlEstimator estimator) {
    const auto bare = loss_of(0.0, estimator).loss;
    return (loss_of(1.0, estimator).loss - bare).item<double>();
  };
  std::vector<double> ratios;
  const auto inputs = inputs_of(logprobs.detach());
  for (const int64_t t : {0, 2, 3, 4, 5})
    ratios.push_back((inputs.ref_logprobs[t] - inputs.logprobs[t]).item<double>());
  EXPECT_LT(difference(numbers(ratios), numbers({-0.3, 0.1, 0.3, -0.3, 0.3})), kTolerance);
  EXPECT_NEAR(kl_of(KlEstimator::k1), -0.1 / kCounts.tokens, kTolerance);
  EXPECT_NEAR(kl_of(KlEstimator::k2), 0.185 / kCounts.tokens, kTolerance);
  EXPECT_NEAR(loss_of(1.0, KlEstimator::k2).metrics.kl, 0.185, kTolerance);
  for (const auto estimator : {KlEstimator::k1, KlEstimator::k2, KlEstimator::k3}) {
    EXPECT_LT(gradient_error(logprobs, [&] { return loss_of(0.3, estimator).loss; }), 1e-8)
        << static_cast<int>(estimator);
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

/// The sequences [begin, end) of `all`, numbered anew.
PolicyInputs part_of(const PolicyInputs& all, int64_t begin, int64_t end) {
  const auto rows = all.sequence.ge(begin).logical_and(all.sequence.lt(end));
  PolicyInputs part;
  for (const auto member : {&PolicyInputs::logprobs, &PolicyInputs::old_logprobs,
                            &PolicyInputs::ref_logprobs, &PolicyInputs::advantages,
                            &PolicyInputs::mask, &PolicyInputs::keep, &PolicyInputs::sequence}) {
    if ((all.*member).defined()) part.*member = (all.*member).masked_select(rows);
  }
  part.sequence = part.sequence - begin;
  part.sequences = end - begin;
  return part;
}

// Calls of whole sequences add up to one call, in value, gradient and metrics. Eight sequences of
// one to five tokens, one of which does not count at all, in every way to cut them twice.
TEST(PolicyLosses, AnyCutGivesTheSame) {
  at::manual_seed(3);
  constexpr int64_t kSequences = 8;
  const auto sequence =
      at::arange(kSequences).repeat_interleave(at::tensor({3, 1, 5, 2, 2, 4, 1, 3}, at::kLong));
  const auto draw = [&](double scale) {
    return at::randn({sequence.numel()}, at::kDouble) * scale;
  };
  PolicyInputs all;
  const auto logprobs = draw(0.5) - 2;
  all.old_logprobs = logprobs + draw(0.2);
  all.ref_logprobs = logprobs + draw(0.2);
  all.advantages = draw(1.0).narrow(0, 0, kSequences).index_select(0, sequence);
  all.mask = draw(1.0).gt(-1.2).logical_and(sequence.ne(3));
  all.keep = draw(1.0).gt(-0.5);
  all.sequence = sequence;
  all.sequences = kSequences;
  const StepCounts counts{
      .tokens = all.mask.sum().item<double>(), .sequences = kSequences, .constant = 6};
  for (const auto loss : all_losses()) {
    for (const auto level : {ImportanceLevel::token, ImportanceLevel::sequence}) {
      const PolicyLossOptions options{.loss_type = loss,
                                      .importance_sampling_level = level,
                                      .epsilon = 0.05,
                                      .beta = 0.3,
                                      .off_policy_mask_threshold = 0.02};
      const auto run = [&](const std::vector<int64_t>& cuts, PolicyMetrics& metrics) {
        all.logprobs = logprobs.clone().requires_grad_();
        double sum = 0.0;
        for (size_t i = 0; i + 1 < cuts.size(); ++i) {
          const auto result = policy_loss(options, part_of(all, cuts[i], cuts[i + 1]), counts);
          result.loss.backward();
          sum += result.loss.item<double>();
          metrics.add(result.metrics);
        }
        return std::pair(sum, all.logprobs.grad());
      };
      PolicyMetrics whole;
      const auto [value, gradient] = run({0, kSequences}, whole);
      for (int64_t a = 1; a < kSequences; ++a) {
        for (int64_t b = a + 1; b < kSequences; ++b) {
          PolicyMetrics metrics;
          const auto [sum, other] = run({0, a, b, kSequences}, metrics);
          EXPECT_NEAR(sum, value, kTolerance) << enum_text(loss);
          EXPECT_LT(difference(other, gradient), kTolerance) << enum_text(loss);
          for (const auto member :
               {&PolicyMetrics::tokens, &PolicyMetrics::ratios, &PolicyMetrics::low,
                &PolicyMetrics::high, &PolicyMetrics::capped, &PolicyMetrics::sequences,
                &PolicyMetrics::low_min, &PolicyMetrics::high_max})
            EXPECT_EQ(metrics.*member, whole.*member) << enum_text(loss);
          EXPECT_NEAR(metrics.kl, whole.kl, kTolerance);
          EXPECT_NEAR(metrics.weight, whole.weight, kTolerance);
        }
      }
    }
  }
}

// Without old log-probabilities the policy sampled itself: every ratio is exactly 1.
TEST(PolicyLosses, OnPolicyNothingIsClipped) {
  for (const auto loss : all_losses()) {
    PolicyInputs inputs = inputs_of(some_logprobs(at::kFloat).requires_grad_());
    inputs.old_logprobs = at::Tensor();
    const auto ratio = importance_ratio(ImportanceLevel::token, inputs);
    EXPECT_TRUE(ratio.equal(at::ones_like(ratio)));
    const auto metrics = policy_loss({.loss_type = loss, .epsilon = 0.0}, inputs, kCounts).metrics;
    EXPECT_EQ(metrics.low, 0.0) << enum_text(loss);
    EXPECT_EQ(metrics.high, 0.0) << enum_text(loss);
  }
}

/// Sequences of 2, 1 and 2 tokens, the last of which does not count, all with this advantage.
PolicyInputs three_sequences(const std::vector<double>& log_ratios, double advantage) {
  PolicyInputs inputs;
  inputs.old_logprobs = numbers({-1, -1, -1, -1, -1});
  inputs.logprobs = inputs.old_logprobs + numbers(log_ratios);
  inputs.advantages = at::full({5}, advantage, at::kDouble);
  inputs.mask = flags({1, 1, 1, 0, 0});
  inputs.sequence = places({0, 0, 1, 2, 2});
  inputs.sequences = 3;
  return inputs;
}

// Two of three tokens are clipped: half of the first sequence, all of the second. The third has no
// share, but its own ratio where that is the sequence's: exactly 1.
TEST(PolicyLosses, SharesOfSequences) {
  for (const bool low : {true, false}) {
    const double far = low ? -1.0 : 1.0;
    const auto inputs = three_sequences({far, 0, far, far, far}, far);
    PolicyMetrics tokens;
    for (const auto& [begin, end] : {std::pair(0, 1), std::pair(1, 2), std::pair(2, 3)})
      tokens.add(policy_loss({}, part_of(inputs, begin, end), kCounts).metrics);
    EXPECT_EQ(low ? tokens.low : tokens.high, 2.0);
    EXPECT_EQ(tokens.ratios, 3.0);
    EXPECT_EQ(tokens.low_min, low ? 0.5 : 0.0);
    EXPECT_EQ(tokens.high_max, low ? 0.0 : 1.0);
    const auto whole =
        policy_loss({.importance_sampling_level = ImportanceLevel::sequence}, inputs, kCounts)
            .metrics;
    EXPECT_EQ(low ? whole.low : whole.high, 2.0);
    EXPECT_EQ(whole.ratios, 3.0);
    EXPECT_EQ(whole.low_min, 0.0);
  }
}

// Ratios e^0.5 twice and 1: two are above the cap of 1.5. With a cap below 1 the sequence without
// tokens that count is above it too.
TEST(PolicyLosses, CappedRatiosOfCispo) {
  const auto inputs = three_sequences({0.5, 0, 0.5, 0.5, 0.5}, 1.0);
  const auto capped = [&](ImportanceLevel level, double cap) {
    const PolicyLossOptions options{
        .loss_type = PolicyLoss::cispo, .importance_sampling_level = level, .epsilon_high = cap};
    return policy_loss(options, inputs, kCounts).metrics.capped;
  };
  EXPECT_EQ(capped(ImportanceLevel::token, 1.5), 2.0);
  EXPECT_EQ(capped(ImportanceLevel::sequence, 1.5), 1.0);  // e^0.25 is not
  EXPECT_EQ(capped(ImportanceLevel::sequence, 0.5), 3.0);
}

// A cap below 1 + ε leaves no ratio to be clipped above: shares are read off the capped ratio.
TEST(PolicyLosses, SharesAreOfTheCappedRatio) {
  const auto inputs = three_sequences({1, 1, 1, 1, 1}, 1.0);
  EXPECT_EQ(policy_loss({}, inputs, kCounts).metrics.high, 3.0);
  EXPECT_EQ(policy_loss({.delta = 1.1}, inputs, kCounts).metrics.high, 0.0);
}

// Log-ratios to the sampler and to the reference of 1e4, in all four pairs of directions.
TEST(PolicyLosses, FiniteAtExtremeLogRatios) {
  for (const auto loss : all_losses()) {
    for (size_t level = 0; level < EnumNames<ImportanceLevel>::names.size(); ++level) {
      for (const double old : {1e4, -1e4}) {
        for (const double reference : {1e4, -1e4}) {
          const auto logprobs = at::full({6}, -3.0, at::kFloat).requires_grad_();
          auto inputs = inputs_of(logprobs);
          inputs.old_logprobs = at::full({6}, old, at::kFloat);
          inputs.ref_logprobs = at::full({6}, reference, at::kFloat);
          const auto result =
              policy_loss({.loss_type = loss,
                           .importance_sampling_level = static_cast<ImportanceLevel>(level),
                           .beta = 0.1},
                          inputs, kCounts);
          result.loss.backward();
          EXPECT_TRUE(finite(result.loss) && finite(logprobs.grad()))
              << enum_text(loss) << " " << old << " " << reference;
        }
      }
    }
  }
}

// What the mask leaves out may hold anything: it moves nothing and gets gradient 0.
TEST(PolicyLosses, MaskedTokensMayHoldAnything) {
  for (const auto loss : all_losses()) {
    const PolicyLossOptions options{.loss_type = loss, .beta = 0.3};
    const double wanted =
        policy_loss(options, inputs_of(some_logprobs()), kCounts).loss.item<double>();
    for (const double anything : {double{NAN}, -double{INFINITY}}) {
      const auto logprobs = some_logprobs();
      logprobs[1] = anything;
      auto inputs = inputs_of(logprobs.requires_grad_());
      inputs.old_logprobs[1] = anything;
      inputs.ref_logprobs[1] = anything;
      const auto result = policy_loss(options, inputs, kCounts);
      result.loss.backward();
      EXPECT_EQ(result.loss.item<double>(), wanted) << enum_text(loss);
      EXPECT_TRUE(finite(logprobs.grad())) << enum_text(loss);
      EXPECT_EQ(logprobs.grad()[1].item<double>(), 0.0) << enum_text(loss);
    }
  }
}

// delta above 1 + ε is the dual clip: max(min(r A, clip(r) A), c A) for A < 0, PPO's clip otherwise.
TEST(PolicyLosses, TheUpperCapIsTheDualClip) {
  const double c = 3.0;
  for (const double r : {0.1, 0.8, 1.0, 1.2, 2.9, 3.1, 50.0}) {
    for (const double a : {-1.5, 0.0, 1.5}) {
      const double clip = std::min(r * a, std::clamp(r, 0.8, 1.2) * a);
      const double dual = a < 0 ? std::max(clip, c * a) : clip;
      const auto loss = grpo_clip_loss(numbers({r}), numbers({a}), 0.2, 0.2, /*delta=*/c);
      EXPECT_NEAR(loss[0].item<double>(), -dual, kTolerance) << r << " " << a;
    }
  }
}

// rloo.h's case: one sequence with log r = (0.1, 0.2).
TEST(PolicyLosses, RlooByHand) {
  for (const double advantage : {1.0, -1.0}) {
    PolicyInputs inputs;
    inputs.logprobs = numbers({-0.9, -1.8}).requires_grad_();
    inputs.old_logprobs = numbers({-1.0, -2.0});
    inputs.advantages = numbers({advantage, advantage});
    inputs.mask = flags({1, 1});
    inputs.sequence = places({0, 0});
    inputs.sequences = 1;
    const auto loss = policy_loss(rloo_options(0.2, std::nullopt), inputs, {.sequences = 1}).loss;
    loss.backward();
    const double ratio = std::exp(0.3);
    EXPECT_NEAR(loss.item<double>(), advantage > 0 ? -1.2 : ratio, kTolerance);
    const double slope = advantage > 0 ? 0.0 : ratio;
    EXPECT_LT(difference(inputs.logprobs.grad(), numbers({slope, slope})), kTolerance);
  }
}

TEST(PolicyLosses, WrongOptionsAndTensorsAreErrors) {
  const auto inputs = inputs_of(some_logprobs());
  const auto refused = [&](const PolicyLossOptions& options) {
    EXPECT_THROW(policy_loss(options, inputs, kCounts), Error);
  };
  refused({.epsilon = -0.1});
  refused({.epsilon_high = -0.1});
  refused({.delta = 0.0});
  refused({.beta = -1.0});
  refused({.loss_type = PolicyLoss::sapo, .sapo_temperature_pos = 0.0});
  refused({.loss_type = PolicyLoss::vespo, .vespo_k_neg = -1.0});
  refused({.loss_type = PolicyLoss::gmpo, .gmpo_clip = 0.0});
  EXPECT_THROW(policy_loss({.beta = 0.1}, inputs_of(some_logprobs(), /*reference=*/false), kCounts),
               Error);
  auto short_mask = inputs;
  short_mask.mask = flags({1, 1});
  EXPECT_THROW(policy_loss({}, short_mask, kCounts), Error);
  auto single = inputs;
  single.advantages = inputs.advantages.to(at::kFloat);
  EXPECT_THROW(policy_loss({}, single, kCounts), Error);
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
