// The example of docs/mathematics.md, section 9, from a score to both losses of PPO. The numbers
// are those of the page, worked there by hand.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/losses/policy_loss.h"
#include "rlhf/losses/value_loss.h"
#include "rlhf/math/gae.h"
#include "rlhf/math/token_rewards.h"
#include "rlhf/math/whiten.h"

namespace rlhf {
namespace {

constexpr double kRounding = 1e-14;  // a handful of roundings of numbers near 1
constexpr double kPrinted = 5e-7;    // the page has six digits, and leaves out 1e-8 in the root

at::Tensor numbers(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

void expect_near(const std::vector<double>& got, const std::vector<double>& wanted,
                 double tolerance) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t t = 0; t < got.size(); ++t) EXPECT_NEAR(got[t], wanted[t], tolerance) << t;
}

std::vector<double> gradient_of(const at::Tensor& tensor) {
  const auto gradient = tensor.grad().contiguous();
  return {gradient.data_ptr<double>(), gradient.data_ptr<double>() + gradient.numel()};
}

TEST(WorkedExample, FromScoreToLosses) {
  const OptionalRewards scores = shaped_scores(OptionalRewards{5.0}, {false},
                                               {.moments = ScoreMoments{1.0, 2.0},
                                                .range = symmetric_range(1.5),
                                                .missing_eos_penalty = 1.0});
  EXPECT_EQ(scores, OptionalRewards{0.5});
  const auto rewards = token_rewards(scores, std::vector<int64_t>{2}, {{1.0, 2.0}}, /*beta=*/0.1);
  expect_near(rewards[0], {-0.1, 0.3}, kRounding);
  const TokenValues old_values = {{0.25, 0.5}};
  const Gae found = gae(rewards, old_values, scores, /*gamma=*/1.0, /*lam=*/0.5);
  expect_near(found.advantages[0], {0.05, -0.2}, kRounding);
  expect_near(found.returns[0], {0.3, 0.3}, kRounding);
  const auto advantages = whitened(found.advantages, scores)[0];
  expect_near(advantages, {0.707107, -0.707107}, kPrinted);

  const auto logprobs = numbers({-1.0, -2.0}).requires_grad_();
  const auto mask = at::ones({2}, at::kBool);
  const auto policy = policy_loss({.loss_type = PolicyLoss::bnpo, .epsilon = 0.2},
                                  {.logprobs = logprobs,
                                   .old_logprobs = logprobs.detach() - std::log(1.5),
                                   .advantages = numbers(advantages),
                                   .mask = mask,
                                   .sequence = at::zeros({2}, at::kLong),
                                   .sequences = 1},
                                  {.tokens = 2.0});
  policy.loss.backward();
  EXPECT_NEAR(policy.loss.item<double>(), 0.106066, kPrinted);
  expect_near(gradient_of(logprobs), {0.0, 0.530330}, kPrinted);

  const auto values = numbers({0.2, 0.35}).requires_grad_();
  const auto critic = value_loss({.values = values,
                                  .old_values = numbers(old_values[0]),
                                  .returns = numbers(found.returns[0]),
                                  .mask = mask},
                                 /*cliprange_value=*/0.1, /*tokens=*/2.0);
  critic.loss.backward();
  EXPECT_NEAR(critic.loss.item<double>(), 0.005, kRounding);
  expect_near(gradient_of(values), {-0.05, 0.0}, kRounding);
}

}  // namespace
}  // namespace rlhf
