#include "rlhf/losses/dpo.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss_checks.h"
#include "rlhf/core/error.h"
#include "rlhf/losses/bradley_terry.h"
#include "rlhf/losses/f_divergence.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::finite;
using testing::gradient_error;
using testing::numbers;
using testing::pair_losses;

constexpr double kTolerance = 1e-14;  // a handful of roundings in double of numbers near 1

const double kLn2 = std::log(2.0);
const double kLn3 = std::log(3.0);
const double kLn6 = std::log(6.0);

// D+ = ln 3 and D- = −ln 2, so that σ(D+) = 3/4, σ(D-) = 1/3, Δ = ln 6, σ(Δ) = 6/7. |y+| = 2, |y-|
// = 4.
PairLogps worked_pair() {
  return {numbers({-5 + kLn3}), numbers({-7 - kLn2}), numbers({-5.0}),
          numbers({-7.0}),      numbers({2.0}),       numbers({4.0})};
}

double worked(DpoLoss loss, DpoLossOptions options) {
  return dpo_loss(loss, worked_pair(), options).item<double>();
}

TEST(DpoLosses, SigmoidByHand) {
  EXPECT_NEAR(worked(DpoLoss::sigmoid, {.beta = 1}), std::log(7.0 / 6), kTolerance);
  EXPECT_NEAR(worked(DpoLoss::sigmoid, {.beta = 1, .label_smoothing = 0.1}),
              0.9 * std::log(7.0 / 6) + 0.1 * std::log(7.0), kTolerance);
}

TEST(DpoLosses, RobustByHand) {
  EXPECT_NEAR(worked(DpoLoss::robust, {.beta = 1, .label_smoothing = 0.1}),
              (0.9 * std::log(7.0 / 6) - 0.1 * std::log(7.0)) / 0.8, kTolerance);
}

TEST(DpoLosses, HingeByHand) {
  EXPECT_NEAR(worked(DpoLoss::hinge, {.beta = 0.5}), 1 - kLn6 / 2, kTolerance);
  EXPECT_EQ(worked(DpoLoss::hinge, {.beta = 1}), 0.0);
}

TEST(DpoLosses, LengthNormalisedByHand) {
  const double gap = kLn3 / 2 + kLn2 / 4;
  EXPECT_NEAR(worked(DpoLoss::ipo, {.beta = 1}), (gap - 0.5) * (gap - 0.5), kTolerance);
  EXPECT_NEAR(worked(DpoLoss::sigmoid_norm, {.beta = 1}),
              std::log(1 + 1 / (std::sqrt(3.0) * std::pow(2.0, 0.25))), kTolerance);
}

TEST(DpoLosses, ExoByHand) {
  EXPECT_NEAR(worked(DpoLoss::exo_pair, {.beta = 1, .label_smoothing = 0.1}),
              6.0 / 7 * std::log(60.0 / 63) + 1.0 / 7 * std::log(10.0 / 7), kTolerance);
  EXPECT_NEAR(worked(DpoLoss::exo_pair, {.beta = 1, .label_smoothing = 1.0 / 7}), 0.0, kTolerance);
}

TEST(DpoLosses, AbsoluteLikelihoodsByHand) {
  EXPECT_NEAR(worked(DpoLoss::nca_pair, {.beta = 1}),
              std::log(4.0 / 3) + std::log(4.0) / 2 + std::log(1.5) / 2, kTolerance);
  EXPECT_NEAR(worked(DpoLoss::bco_pair, {.beta = 1}), kLn2, kTolerance);
  EXPECT_NEAR(worked(DpoLoss::sppo_hard, {.beta = 1}),
              (kLn3 - 0.5) * (kLn3 - 0.5) + (0.5 - kLn2) * (0.5 - kLn2), kTolerance);
  EXPECT_NEAR(worked(DpoLoss::apo_zero, {.beta = 1}), 7.0 / 12, kTolerance);
  EXPECT_NEAR(worked(DpoLoss::apo_down, {.beta = 1}), 25.0 / 28, kTolerance);
}

TEST(DpoLosses, DiscopopByHand) {
  EXPECT_NEAR(worked(DpoLoss::discopop, {.beta = 1, .discopop_tau = 1}),
              std::log(7.0 / 6) / 7 + 1.0 / 7, kTolerance);
}

// Margins ln 6 and 0 under the policy, 0 and ln 2 under the reference: sorted, d = (0, ln 3).
TEST(DpoLosses, AotByHand) {
  const PairLogps pairs{numbers({kLn6 - 9, -9.0}), numbers({-9.0, -9.0}), numbers({-9.0, kLn2 - 9}),
                        numbers({-9.0, -9.0})};
  EXPECT_LT(
      difference(dpo_loss(DpoLoss::aot, pairs, {.beta = 1}), numbers({kLn2, std::log(4.0 / 3)})),
      kTolerance);
}

// D+ = (ln 3, 0), D- = (0, −ln 2): sorted (0, ln 3) and (−ln 2, 0), so d = (ln 2, ln 3).
TEST(DpoLosses, AotUnpairedByHand) {
  const PairLogps pairs{numbers({kLn3 - 9, -9.0}), numbers({-9.0, -kLn2 - 9}),
                        numbers({-9.0, -9.0}), numbers({-9.0, -9.0})};
  EXPECT_LT(difference(dpo_loss(DpoLoss::aot_unpaired, pairs, {.beta = 1}),
                       numbers({std::log(1.5), std::log(4.0 / 3)})),
            kTolerance);
}

TEST(DpoLosses, WithoutReferenceByHand) {
  // π+ = 1/2, π- = 1/12.
  const PairLogps cpo{numbers({-kLn2}), numbers({-std::log(12.0)})};
  EXPECT_NEAR(dpo_loss(DpoLoss::cpo, cpo, {.beta = 1}).item<double>(), std::log(7.0 / 6),
              kTolerance);
  // p̄+ = −1, p̄- = −1.25: β·0.25 − γ = 0.
  const PairLogps simpo{numbers({-3.0}), numbers({-5.0}), {}, {}, numbers({3.0}), numbers({4.0})};
  EXPECT_NEAR(dpo_loss(DpoLoss::simpo, simpo, {.beta = 2, .simpo_gamma = 0.5}).item<double>(), kLn2,
              kTolerance);
  // e^p̄ = 3/4 and 1/3: odds 3 and 1/2.
  const PairLogps orpo{
      numbers({2 * std::log(0.75)}), numbers({-4 * kLn3}), {}, {}, numbers({2.0}), numbers({4.0})};
  EXPECT_NEAR(dpo_loss(DpoLoss::orpo, orpo, {.beta = 1}).item<double>(), std::log(7.0 / 6),
              kTolerance);
}

TEST(DpoLosses, FDivergencesByHand) {
  const auto at = [](FDivergence kind, double log_ratio, double alpha = 0.5) {
    return f_divergence_score(kind, numbers({log_ratio}), alpha).item<double>();
  };
  EXPECT_EQ(at(FDivergence::reverse_kl, kLn3), kLn3);
  EXPECT_NEAR(at(FDivergence::forward_kl, kLn3), 2.0 / 3, kTolerance);
  EXPECT_NEAR(at(FDivergence::js_divergence, kLn3), std::log(1.5), kTolerance);
  EXPECT_NEAR(at(FDivergence::alpha_divergence, kLn3), 2 - 2 / std::sqrt(3.0), kTolerance);
  EXPECT_NEAR(at(FDivergence::alpha_divergence, kLn3, /*alpha=*/2.0), 2.0, kTolerance);
  EXPECT_EQ(at(FDivergence::alpha_divergence, kLn3, /*alpha=*/1.0), kLn3);
  for (const auto kind : {FDivergence::reverse_kl, FDivergence::forward_kl,
                          FDivergence::js_divergence, FDivergence::alpha_divergence}) {
    EXPECT_NEAR(at(kind, 0.0), 0.0, kTolerance) << enum_text(kind);
    // The slope at 0 is 1 for all, so that β means the same; ½ for Jensen-Shannon.
    const double slope = (at(kind, 1e-6) - at(kind, -1e-6)) / 2e-6;
    EXPECT_NEAR(slope, kind == FDivergence::js_divergence ? 0.5 : 1.0, 1e-9) << enum_text(kind);
  }
}

DpoLossOptions options_for(DpoLoss loss) {
  return {.beta = 0.3, .label_smoothing = takes_label_smoothing(loss) ? 0.1 : 0.0};
}

std::vector<DpoLossOptions> every_divergence(DpoLoss loss) {
  std::vector<DpoLossOptions> all{options_for(loss)};
  if (takes_f_divergence(loss)) {
    for (const auto kind :
         {FDivergence::forward_kl, FDivergence::js_divergence, FDivergence::alpha_divergence}) {
      for (const double alpha : {0.5, 2.0}) {
        all.push_back(options_for(loss));
        all.back().f_divergence = kind;
        all.back().f_alpha = alpha;
      }
    }
  }
  return all;
}

// Log-ratios within ±2, away from the kink of hinge and from ties of aot.
PairLogps random_pairs(int64_t pairs, at::ScalarType type = at::kDouble) {
  at::manual_seed(11);
  const auto draw = [&] { return (at::rand({pairs}, at::kDouble) * 2 - 12).to(type); };
  const auto tokens = [&] { return at::randint(2, 9, {pairs}).to(type); };
  return {draw().requires_grad_(), draw().requires_grad_(), draw(), draw(), tokens(), tokens()};
}

// Central differences: error step² times the third derivative (below 100 here), and rounding over
// step.
TEST(DpoLosses, GradientsAgreeWithCentralDifferences) {
  for (const auto loss : pair_losses()) {
    for (const auto& options : every_divergence(loss)) {
      const auto pairs = random_pairs(5);
      const auto value = [&] { return dpo_loss(loss, pairs, options); };
      for (const auto& leaf : {pairs.chosen, pairs.rejected}) {
        EXPECT_LT(gradient_error(leaf, value), 1e-8)
            << enum_text(loss) << " " << enum_text(options.f_divergence);
      }
    }
  }
}

// Log-ratios of ±1e4 in every combination, in fp32 as training has them. Never NaN or infinite, and
// the gradient never pulls the wrong way for losses that only ever want D+ up and D- down.
TEST(DpoLosses, FiniteAtExtremeLogRatios) {
  const auto chosen = numbers({1e4, 1e4, -1e4, -1e4, 0, 150, -150, -2e4}, at::kFloat);
  const auto rejected = numbers({1e4, -1e4, 1e4, -1e4, 0, -150, 150, -1e4}, at::kFloat);
  const auto tokens = at::full({8}, 7.0F);
  const auto reference = at::full({8}, -2e4F);
  for (const auto loss : pair_losses()) {
    for (const auto& options : every_divergence(loss)) {
      const PairLogps pairs{(reference + chosen).requires_grad_(),
                            (reference + rejected).requires_grad_(),
                            reference,
                            reference,
                            tokens,
                            tokens};
      const auto losses = dpo_loss(loss, pairs, options);
      losses.sum().backward();
      EXPECT_TRUE(finite(losses)) << enum_text(loss) << enum_text(options.f_divergence) << losses;
      EXPECT_TRUE(finite(pairs.chosen.grad()) && finite(pairs.rejected.grad()))
          << enum_text(loss) << enum_text(options.f_divergence);
    }
  }
}

// βΔ = −1e4: e^1e4 is no number, and σ(−2e5) is 0. With τ > 1 the second term is what grows.
TEST(DpoLosses, DiscopopStaysFiniteForAnyTau) {
  for (const double tau : {0.05, 1.0, 3.0}) {
    const PairLogps pairs{numbers({-1e4, 1e4}, at::kFloat).requires_grad_(),
                          at::zeros({2}).requires_grad_()};
    const auto losses = dpo_loss(DpoLoss::discopop, pairs, {.beta = 1, .discopop_tau = tau});
    losses.sum().backward();
    EXPECT_TRUE(finite(losses) && finite(pairs.chosen.grad())) << tau;
    EXPECT_GE(losses[0].item<double>(), 1e4 * (1 - 1e-6)) << tau;
  }
}

TEST(DpoLosses, ForwardKlKeepsItsPullWhereTheExponentialOverflows) {
  const PairLogps pairs{numbers({-500.0}, at::kFloat).requires_grad_(), at::zeros({1}),
                        at::zeros({1}), at::zeros({1})};
  dpo_loss(DpoLoss::sigmoid, pairs, {.f_divergence = FDivergence::forward_kl}).sum().backward();
  EXPECT_LT(pairs.chosen.grad().item<double>(), -1e6);  // −β e^20
}

// Answers of probability 1 and of probability e^-1e4 a token.
TEST(DpoLosses, OrpoOfCertainAnswersIsFinite) {
  const auto tokens = at::ones({3});
  const PairLogps pairs{numbers({0, 0, -1e4}, at::kFloat).requires_grad_(),
                        numbers({0, -1e4, 0}, at::kFloat).requires_grad_(),
                        {},
                        {},
                        tokens,
                        tokens};
  const auto losses = dpo_loss(DpoLoss::orpo, pairs, {.beta = 1});
  losses.sum().backward();
  EXPECT_TRUE(finite(losses) && finite(pairs.chosen.grad()) && finite(pairs.rejected.grad()));
  EXPECT_NEAR(losses[0].item<double>(), kLn2, 1e-6);
}

TEST(DpoLosses, EqualPoliciesGiveLnTwo) {
  auto pairs = random_pairs(4);
  pairs.ref_chosen = pairs.chosen.detach();
  pairs.ref_rejected = pairs.rejected.detach();
  for (const auto loss : {DpoLoss::sigmoid, DpoLoss::robust, DpoLoss::aot, DpoLoss::aot_unpaired,
                          DpoLoss::sigmoid_norm}) {
    EXPECT_LT(difference(dpo_loss(loss, pairs, {}), at::full({4}, kLn2, at::kDouble)), kTolerance)
        << enum_text(loss);
  }
}

TEST(DpoLosses, ReferenceFreeIsAReferenceOfZero) {
  const auto given = random_pairs(5);
  auto zero = given;
  zero.ref_chosen = at::zeros_like(given.chosen);
  zero.ref_rejected = at::zeros_like(given.chosen);
  auto none = given;
  none.ref_chosen = at::Tensor();
  none.ref_rejected = at::Tensor();
  for (const auto loss : pair_losses()) {
    EXPECT_TRUE(
        at::equal(dpo_loss(loss, none, options_for(loss)), dpo_loss(loss, zero, options_for(loss))))
        << enum_text(loss);
    if (!needs_reference(loss)) {
      EXPECT_TRUE(at::equal(dpo_loss(loss, none, options_for(loss)),
                            dpo_loss(loss, given, options_for(loss))))
          << enum_text(loss);
    }
  }
}

PairLogps reordered(const PairLogps& pairs, const at::Tensor& order) {
  const auto pick = [&](const at::Tensor& t) { return t.index_select(0, order); };
  return {pick(pairs.chosen),       pick(pairs.rejected),      pick(pairs.ref_chosen),
          pick(pairs.ref_rejected), pick(pairs.chosen_tokens), pick(pairs.rejected_tokens)};
}

// The order of pairs moves no sum and no pair's gradient; where ranks are compared it does not even
// move the losses.
TEST(DpoLosses, OrderOfPairsDoesNotShow) {
  const auto order = at::tensor({3, 0, 4, 1, 2}, at::kLong);
  for (const auto loss : pair_losses()) {
    const auto pairs = random_pairs(5);
    const auto straight = dpo_loss(loss, pairs, options_for(loss));
    straight.sum().backward();
    const auto gradient = pairs.chosen.grad().clone();
    pairs.chosen.mutable_grad().reset();
    const auto turned = dpo_loss(loss, reordered(pairs, order), options_for(loss));
    turned.sum().backward();
    EXPECT_LT(difference(pairs.chosen.grad(), gradient), kTolerance) << enum_text(loss);
    const auto wanted = needs_whole_step(loss) ? straight : straight.index_select(0, order);
    EXPECT_TRUE(at::equal(turned, wanted)) << enum_text(loss);
  }
}

// Pairs apart: every other loss of a pair depends on that pair alone.
TEST(DpoLosses, OnlyAotNeedsTheWholeStep) {
  const auto pairs = random_pairs(5);
  for (const auto loss : pair_losses()) {
    const auto whole = dpo_loss(loss, pairs, options_for(loss)).sum();
    auto parts = at::zeros({}, at::kDouble);
    for (int64_t i = 0; i < 5; ++i) {
      const auto one = at::full({1}, i, at::kLong);
      parts = parts + dpo_loss(loss, reordered(pairs, one), options_for(loss)).sum();
    }
    EXPECT_EQ(difference(whole, parts) > 1e-6, needs_whole_step(loss)) << enum_text(loss);
  }
}

// What the predicates say is what the losses do.
TEST(DpoLosses, PredicatesTellWhatALossReads) {
  for (const auto loss : pair_losses()) {
    const auto pairs = random_pairs(5);
    const auto base = dpo_loss(loss, pairs, options_for(loss));
    auto longer = pairs;
    longer.chosen_tokens = pairs.chosen_tokens + 3;
    EXPECT_EQ(!at::equal(dpo_loss(loss, longer, options_for(loss)), base), length_normalised(loss))
        << enum_text(loss);
    auto other = pairs;
    other.ref_chosen = pairs.ref_chosen + 0.25;
    EXPECT_EQ(!at::equal(dpo_loss(loss, other, options_for(loss)), base), needs_reference(loss))
        << enum_text(loss);
    auto smoothed = options_for(loss);
    smoothed.label_smoothing = 0.2;
    EXPECT_EQ(!at::equal(dpo_loss(loss, pairs, smoothed), base), takes_label_smoothing(loss))
        << enum_text(loss);
    auto bent = options_for(loss);
    bent.f_divergence = FDivergence::js_divergence;
    if (takes_f_divergence(loss)) {
      EXPECT_FALSE(at::equal(dpo_loss(loss, pairs, bent), base)) << enum_text(loss);
    } else {
      EXPECT_THROW(dpo_loss(loss, pairs, bent), Error) << enum_text(loss);
    }
  }
}

TEST(DpoLosses, RefusesWhatIsOutOfRangeOrDoesNotFit) {
  const auto pairs = random_pairs(3);
  EXPECT_THROW(dpo_loss(DpoLoss::sigmoid, pairs, {.beta = 0}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::robust, pairs, {.label_smoothing = 0.5}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::sigmoid, pairs, {.label_smoothing = -0.1}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::exo_pair, pairs, {.label_smoothing = 0}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::discopop, pairs, {.discopop_tau = 0}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::simpo, pairs, {.simpo_gamma = -1}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::sft, pairs, {}), Error);
  auto half = pairs;
  half.ref_rejected = at::Tensor();
  EXPECT_THROW(dpo_loss(DpoLoss::sigmoid, half, {}), Error);
  auto uncounted = pairs;
  uncounted.chosen_tokens = at::Tensor();
  EXPECT_THROW(dpo_loss(DpoLoss::ipo, uncounted, {}), Error);
  EXPECT_NO_THROW(dpo_loss(DpoLoss::sigmoid, uncounted, {}));
  auto wide = pairs;
  wide.rejected = at::zeros({4}, at::kDouble);
  EXPECT_THROW(dpo_loss(DpoLoss::cpo, wide, {}), Error);
  EXPECT_THROW(dpo_loss(DpoLoss::cpo, {}, {}), Error);
}

// On answers that can be counted: the policy that DPO's loss is least for, over all preferences
// that rewards r draw, is π_ref·e^(r/β) / Z, the optimum of E[r] − β KL(π ‖ π_ref).
TEST(DpoLosses, OptimumIsTheTiltedReference) {
  constexpr double kBeta = 0.5;
  const auto reference = numbers({0.5, 0.3, 0.15, 0.05}).log();
  const auto reward = numbers({0.2, -0.4, 1.0, 0.6});
  const auto tilted = (reference + reward / kBeta).log_softmax(0);
  const auto policy = tilted.clone().requires_grad_();
  auto loss = at::zeros({}, at::kDouble);
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      const auto at = [&](const at::Tensor& t, int64_t k) { return t.narrow(0, k, 1); };
      const auto wins = at::sigmoid(at(reward, i) - at(reward, j));
      loss = loss +
             (wins * dpo_loss(DpoLoss::sigmoid,
                              {at(policy, i), at(policy, j), at(reference, i), at(reference, j)},
                              {.beta = kBeta}))
                 .sum();
    }
  }
  loss.backward();
  EXPECT_LT(policy.grad().abs().max().item<double>(), kTolerance);
}

TEST(BradleyTerry, ByHand) {
  const auto chosen = numbers({kLn6});
  const auto rejected = numbers({0.0});
  EXPECT_NEAR(bradley_terry_loss(chosen, rejected).item<double>(), std::log(7.0 / 6), kTolerance);
  const auto margin = numbers({kLn2});
  EXPECT_NEAR(bradley_terry_loss(chosen, rejected, margin).item<double>(), std::log(4.0 / 3),
              kTolerance);
  EXPECT_NEAR(bradley_terry_loss(chosen, rejected, margin, 0.01).item<double>(),
              std::log(4.0 / 3) + 0.01 * kLn6 * kLn6, kTolerance);
}

TEST(BradleyTerry, GradientsAndExtremes) {
  const auto chosen = numbers({0.3, -1.2, 2.0}).requires_grad_();
  const auto rejected = numbers({0.9, -0.2, -1.0}).requires_grad_();
  const auto margin = numbers({0.5, 0.0, 1.0});
  const auto value = [&] { return bradley_terry_loss(chosen, rejected, margin, 0.05); };
  EXPECT_LT(gradient_error(chosen, value), 1e-8);
  EXPECT_LT(gradient_error(rejected, value), 1e-8);
  const auto high = numbers({1e4, -1e4}, at::kFloat).requires_grad_();
  const auto low = numbers({-1e4, 1e4}, at::kFloat);
  const auto losses = bradley_terry_loss(high, low, {}, 0.01);
  losses.sum().backward();
  EXPECT_TRUE(finite(losses) && finite(high.grad()));
  EXPECT_TRUE(at::equal(losses, numbers({0, 2e4}, at::kFloat)));
  EXPECT_TRUE(at::equal(high.grad(), numbers({0, -1}, at::kFloat)));
}

// Without centring the level of the rewards is free; with it, it is not.
TEST(BradleyTerry, OnlyCentringSeesTheLevel) {
  const auto chosen = numbers({0.5});
  const auto rejected = numbers({-0.25});
  EXPECT_TRUE(at::equal(bradley_terry_loss(chosen + 8, rejected + 8),
                        bradley_terry_loss(chosen, rejected)));
  EXPECT_FALSE(at::equal(bradley_terry_loss(chosen + 8, rejected + 8, {}, 0.01),
                         bradley_terry_loss(chosen, rejected, {}, 0.01)));
}

}  // namespace
}  // namespace rlhf
