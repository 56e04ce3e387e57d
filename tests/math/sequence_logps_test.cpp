#include "rlhf/math/sequence_logps.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

// Two answers of 4 and 2 tokens, their rows in turn: −1, −2, −3, −4 and −10, −20.
const auto kSequence = [] { return at::tensor({0, 1, 0, 0, 1, 0}, at::kLong); };
at::Tensor rows() { return at::tensor({-1.0, -10.0, -2.0, -3.0, -20.0, -4.0}, at::kFloat); }
at::Tensor pair(double first, double second) { return at::tensor({first, second}, at::kFloat); }

TEST(SequenceLogps, SumsAndCounts) {
  const auto got = sequence_logps(rows(), kSequence(), /*sequences=*/3);
  EXPECT_TRUE(at::equal(got.sums, at::tensor({-10.0, -30.0, 0.0}, at::kFloat)));
  EXPECT_TRUE(at::equal(got.tokens, at::tensor({4.0, 2.0, 0.0}, at::kFloat)));
}

// The first 2 tokens count in full, the others a quarter: −1 − 2 + (−3 − 4)/4 = −4.75; the shorter
// answer is whole.
TEST(SequenceLogps, TokensBeyondTheCommonLengthWeighLess) {
  const auto common = at::tensor({2, 2}, at::kLong);
  const auto logprobs = rows().requires_grad_();
  const auto got = sequence_logps(logprobs, kSequence(), common, /*ld_alpha=*/0.25);
  EXPECT_TRUE(at::equal(got.sums, pair(-4.75, -30.0)));
  EXPECT_TRUE(at::equal(got.tokens, pair(4.0, 2.0)));
  (got.sums * pair(1.0, 2.0)).sum().backward();
  EXPECT_TRUE(at::equal(logprobs.grad(), at::tensor({1.0, 2.0, 1.0, 0.25, 2.0, 0.25}, at::kFloat)));
}

TEST(SequenceLogps, AlphaOneIsThePlainSumAndZeroCutsTheTail) {
  const auto common = at::tensor({1, 1}, at::kLong);
  const auto sums = [&](double alpha) {
    return sequence_logps(rows(), kSequence(), common, alpha).sums;
  };
  EXPECT_TRUE(at::equal(sums(1.0), pair(-10.0, -30.0)));
  EXPECT_TRUE(at::equal(sums(0.0), pair(-1.0, -10.0)));
}

// 1e6 tokens of −0.1 in fp32: added up in fp32 they drift by hundreds.
TEST(SequenceLogps, LongAnswersDoNotDrift) {
  constexpr int64_t kTokens = 1000000;
  const auto got =
      sequence_logps(at::full({kTokens}, -0.1F), at::zeros({kTokens}, at::kLong), /*sequences=*/1);
  EXPECT_NEAR(got.sums.item<double>(), -1e5, 0.01);  // fp32 of 0.1 is off by 1.5e-8 relative
}

TEST(SequenceLogps, NoRows) {
  const auto got = sequence_logps(at::empty({0}), at::empty({0}, at::kLong),
                                  at::tensor({3, 3}, at::kLong), /*ld_alpha=*/0.5);
  EXPECT_TRUE(at::equal(got.sums, at::zeros({2})));
  EXPECT_TRUE(at::equal(got.tokens, at::zeros({2})));
}

TEST(SequenceLogps, RefusesWhatDoesNotFit) {
  EXPECT_THROW(sequence_logps(rows(), at::zeros({5}, at::kLong), 2), Error);
  EXPECT_THROW(sequence_logps(rows(), at::zeros({6}), 2), Error);
  EXPECT_THROW(sequence_logps(rows(), kSequence(), at::tensor({2, 2}, at::kLong), 1.5), Error);
}

}  // namespace
}  // namespace rlhf
