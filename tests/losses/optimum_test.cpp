// Where the losses lead. On a set of answers that can be listed, the policy that maximises
//
//   E_π[r(y)] − β KL(π ‖ π_ref)     is     π*(y) = π_ref(y) exp(r(y) / β) / Z
//
// (Rafailov et al., arXiv 2305.18290, eq. 4), for PPO as for DPO on preferences of Bradley and Terry
// with the same r (dpo_test.cpp). A policy of two tables in double descends the library's losses
// with exact expectations: no sample, no model, no noise.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "loss_checks.h"
#include "rlhf/losses/policy_loss.h"
#include "rlhf/math/gae.h"
#include "rlhf/math/token_rewards.h"

namespace rlhf {
namespace {

using testing::difference;
using testing::numbers;

constexpr int64_t kLetters = 3;
constexpr int64_t kAnswers = kLetters * kLetters;  // every word of two letters
constexpr double kBeta = 0.5;

/// Logits of the first letter (3), and of the second behind each first one (3, 3).
struct Tables {
  at::Tensor first;
  at::Tensor second;

  /// Of each answer's letters, (9, 2), differentiable.
  at::Tensor letters() const {
    const auto one = first.log_softmax(0).repeat_interleave(kLetters);
    return at::stack({one, second.log_softmax(1).flatten()}, 1);
  }
  at::Tensor answers() const { return letters().sum(1); }
  void learn() const {
    first.set_requires_grad(true);
    second.set_requires_grad(true);
  }
  void descend(const at::Tensor& loss, double rate) const {
    loss.backward();
    const at::NoGradGuard no_grad;
    for (auto table : {first, second}) {
      table -= rate * table.grad();
      table.mutable_grad().reset();
    }
  }
};

Tables reference() {
  return {numbers({0.3, -0.2, 0.1}),
          numbers({0.0, 0.5, -0.5, 0.4, 0.1, -0.1, -0.3, 0.2, 0.6}).view({kLetters, kLetters})};
}

Tables start() {
  const Tables ref = reference();
  const Tables made{ref.first.clone(), ref.second.clone()};
  made.learn();
  return made;
}

std::vector<double> scores() { return {0.9, -0.4, 0.2, -0.6, 0.8, 0.1, 0.3, -0.7, 0.5}; }

/// π*.
at::Tensor optimum() { return (reference().answers() + numbers(scores()) / kBeta).softmax(0); }

std::vector<double> plain(const at::Tensor& values) {
  const auto flat = values.detach().contiguous();
  return {flat.const_data_ptr<double>(), flat.const_data_ptr<double>() + flat.numel()};
}

TokenValues rows_of(const at::Tensor& values) {
  TokenValues rows;
  for (int64_t i = 0; i < values.size(0); ++i) rows.push_back(plain(values[i]));
  return rows;
}

/// One answer of `tokens` letters, alone.
PolicyInputs one_answer(const at::Tensor& logprobs, const at::Tensor& old, const at::Tensor& ref,
                        const std::vector<double>& advantages) {
  PolicyInputs inputs;
  inputs.logprobs = logprobs;
  inputs.old_logprobs = old;
  inputs.ref_logprobs = ref;
  inputs.advantages = numbers(advantages);
  inputs.mask = at::ones_like(logprobs, at::kBool);
  inputs.sequence = at::zeros_like(logprobs, at::kLong);
  inputs.sequences = 1;
  return inputs;
}

/// Σ_y π_old(y) · (the sum of y's token losses): the expectation, since a token mean over 1 / π_old
/// "tokens" is a sum with the weight π_old.
at::Tensor expected_loss(const PolicyLossOptions& options, const at::Tensor& letters,
                         const at::Tensor& old, const at::Tensor& ref,
                         const TokenValues& advantages) {
  at::Tensor sum;
  for (int64_t y = 0; y < letters.size(0); ++y) {
    const double weight = std::exp(old[y].sum().item<double>());
    const auto inputs = one_answer(letters[y], old[y], ref[y], advantages[static_cast<size_t>(y)]);
    const auto loss = policy_loss(options, inputs, {.tokens = 1 / weight}).loss;
    sum = sum.defined() ? sum + loss : loss;
  }
  return sum;
}

/// What a critic that knows everything says of each letter: the expectation of the rewards from
/// there on.
TokenValues exact_values(const TokenValues& rewards, const at::Tensor& old) {
  const auto probabilities = old.exp();
  TokenValues values(kAnswers, std::vector<double>(2));
  double whole = 0.0;
  for (int64_t first = 0; first < kLetters; ++first) {
    double behind = 0.0;
    for (int64_t y = first * kLetters; y < (first + 1) * kLetters; ++y)
      behind += probabilities[y][1].item<double>() * rewards[static_cast<size_t>(y)][1];
    const auto begin = static_cast<size_t>(first * kLetters);
    whole += probabilities[first * kLetters][0].item<double>() * (rewards[begin][0] + behind);
    for (size_t y = begin; y < begin + static_cast<size_t>(kLetters); ++y) values[y][1] = behind;
  }
  for (auto& row : values) row[0] = whole;
  return values;
}

TEST(Optimum, OfPpoIsTheTiltedReference) {
  const Tables policy = start();
  const auto ref = reference().letters();
  const OptionalRewards judged = [] {
    const auto values = scores();
    return OptionalRewards(values.begin(), values.end());
  }();
  const std::vector<int64_t> lengths(kAnswers, 2);
  PolicyLossOptions options;
  options.loss_type = PolicyLoss::bnpo;
  for (int rollout = 0; rollout < 300; ++rollout) {
    const auto old = policy.letters().detach();
    const auto kl = token_kl(KlEstimator::k1, rows_of(old), rows_of(ref));
    const auto rewards = token_rewards(judged, lengths, kl, kBeta);
    const auto found = gae(rewards, exact_values(rewards, old), judged, /*gamma=*/1.0,
                           /*lam=*/0.95);
    for (int epoch = 0; epoch < 2; ++epoch)
      policy.descend(expected_loss(options, policy.letters(), old, ref, found.advantages), 2.0);
  }
  // What 300 rollouts of plain gradient descent leave.
  EXPECT_LT(difference(policy.answers().exp().detach(), optimum()), 1e-6);
}

/// Logits of a policy over single letters, another one, and the expected gradient of its KL term
/// under one estimator where the advantages are 0.
struct LetterKl {
  at::Tensor logits = numbers({0.4, -0.3, 0.9, 0.0});
  at::Tensor ref = numbers({-0.2, 0.5, 0.1, 0.3}).log_softmax(0);

  at::Tensor expected_gradient(KlEstimator estimator) const {
    const auto leaf = logits.clone().set_requires_grad(true);
    PolicyLossOptions options;
    options.loss_type = PolicyLoss::bnpo;
    options.beta = 1.0;
    options.kl_estimator = estimator;
    options.use_bias_correction_kl = false;
    const auto now = leaf.log_softmax(0).unsqueeze(1);
    expected_loss(options, now, now.detach(), ref.unsqueeze(1), TokenValues(4, {0.0})).backward();
    return leaf.grad();
  }
};

// ∂KL(π‖π_ref)/∂z_k = π_k (log π_k/π_ref,k − KL); ∂KL(π_ref‖π)/∂z_k = π_k − π_ref,k; of k1 nothing.
TEST(Optimum, GradientsOfTheKlTermAreThoseOfTheTable) {
  const LetterKl one;
  const auto log_p = one.logits.log_softmax(0);
  const auto p = log_p.exp();
  const auto kl = (p * (log_p - one.ref)).sum();
  EXPECT_LT(difference(one.expected_gradient(KlEstimator::k1), at::zeros_like(p)), 1e-15);
  EXPECT_LT(difference(one.expected_gradient(KlEstimator::k2), p * (log_p - one.ref - kl)), 1e-15);
  EXPECT_LT(difference(one.expected_gradient(KlEstimator::k3), p - one.ref.exp()), 1e-15);
}

// In the loss k2 leads to the tilted reference where answers are one letter; k3, whose gradient is
// that of the other direction, elsewhere: its π satisfies β (1 − π_ref/π) = r − E r.
TEST(Optimum, OfTheKlInTheLoss) {
  const std::vector<double> judged = {0.6, -0.5, 0.2, 0.9};
  const auto ref = numbers({-0.2, 0.5, 0.1, 0.3}).log_softmax(0);
  for (const auto estimator : {KlEstimator::k2, KlEstimator::k3}) {
    auto logits = numbers({0.0, 0.0, 0.0, 0.0}).set_requires_grad(true);
    PolicyLossOptions options;
    options.loss_type = PolicyLoss::bnpo;
    options.beta = 2.0;
    options.kl_estimator = estimator;
    options.use_bias_correction_kl = false;
    at::Tensor p;
    double mean = 0.0;
    for (int rollout = 0; rollout < 300; ++rollout) {
      const auto now = logits.log_softmax(0).unsqueeze(1);
      p = now.detach().exp().squeeze(1);
      mean = (p * numbers(judged)).sum().item<double>();
      TokenValues advantages;
      for (const double score : judged) advantages.push_back({score - mean});
      expected_loss(options, now, now.detach(), ref.unsqueeze(1), advantages).backward();
      const at::NoGradGuard no_grad;
      logits -= logits.grad();
      logits.mutable_grad().reset();
    }
    const auto tilted = (ref + numbers(judged) / options.beta).softmax(0);
    if (estimator == KlEstimator::k2) {
      EXPECT_LT(difference(p, tilted), 1e-9);
    } else {
      EXPECT_LT(difference(options.beta * (1 - ref.exp() / p), numbers(judged) - mean), 1e-9);
      EXPECT_GT(difference(p, tilted), 1e-3);
    }
  }
}

}  // namespace
}  // namespace rlhf
