// Against the product in double; and the promise that a row depends on nothing beside it.
#include "rlhf/kernels/thin_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

namespace rlhf {
namespace {

struct Case {
  at::Tensor x;
  at::Tensor weight;
};

Case random_case(int64_t rows, int64_t columns, int64_t depth) {
  at::manual_seed(rows * 1000 + columns * 10 + depth);
  return {at::randn({rows, depth}), at::randn({columns, depth})};
}

/// Largest error against double, in units of Σ |x w| · 2^-24: each term and each addition rounds once.
double error_of(const at::Tensor& found, const Case& one) {
  const auto x = one.x.to(at::kDouble);
  const auto w = one.weight.to(at::kDouble);
  const auto expected = x.matmul(w.t());
  const auto scale = x.abs().matmul(w.abs().t()) * 6e-8;
  return ((found.to(at::kDouble) - expected).abs() / scale.clamp_min(1e-30)).max().item<double>();
}

TEST(ThinProduct, IsTheProductForEveryShape) {
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 12, 13, 16, 31, 48}) {
    for (const int64_t depth : {1, 3, 15, 16, 17, 64, 100, 576}) {
      for (const int64_t columns : {1, 2, 3, 4, 5, 63, 130}) {
        const Case one = random_case(rows, columns, depth);
        // One chain of up to 576 multiply-adds: errors add up like a walk, √576 of them.
        EXPECT_LT(error_of(thin_product(one.x, one.weight), one), 24.0)
            << rows << " " << columns << " " << depth;
      }
    }
  }
}

TEST(ThinProduct, ReadsAPartOfAWiderMatrix) {
  const Case one = random_case(7, 50, 33);
  const auto rows = at::randn({60, 40}).narrow(1, 3, 33).narrow(0, 5, 50);
  EXPECT_LT(error_of(thin_product(one.x, rows), {one.x, rows}), 24.0);
}

TEST(ThinProduct, ARowIsTheSameBitsAloneAndOnAnyThreads) {
  const Case one = random_case(48, 301, 577);
  const int before = at::get_num_threads();
  const auto all = thin_product(one.x, one.weight);
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    EXPECT_TRUE(thin_product(one.x, one.weight).equal(all));
    for (int64_t row = 0; row < 48; row += 5)
      EXPECT_TRUE(thin_product(one.x.narrow(0, row, 1), one.weight).equal(all.narrow(0, row, 1)));
  }
  at::set_num_threads(before);
}

TEST(ThinProduct, SeveralAtOnceAreEachItsOwn) {
  const Case one = random_case(13, 130, 37);
  const auto more = at::randn({5, 37});
  const auto last = at::randn({77, 37});
  const int before = at::get_num_threads();
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    const auto found = thin_products(one.x, {one.weight, more, last});
    ASSERT_EQ(found.size(), 3U);
    EXPECT_TRUE(found[0].equal(thin_product(one.x, one.weight)));
    EXPECT_TRUE(found[1].equal(thin_product(one.x, more)));
    EXPECT_TRUE(found[2].equal(thin_product(one.x, last)));
  }
  at::set_num_threads(before);
}

TEST(ThinProduct, LeavesOtherProductsAlone) {
  const auto weight = at::randn({8, 16});
  EXPECT_TRUE(is_thin_product(at::randn({kThinRows, 16}), weight));
  EXPECT_FALSE(is_thin_product(at::randn({kThinRows + 1, 16}), weight));
  EXPECT_FALSE(is_thin_product(at::randn({4, 16}, at::kDouble), weight.to(at::kDouble)));
  EXPECT_FALSE(is_thin_product(at::randn({4, 32}).narrow(1, 0, 16), weight));
  EXPECT_FALSE(is_thin_product(at::randn({4, 8}), at::randn({16, 8}).t()));
  const auto trained = at::randn({8, 16}).requires_grad_();
  EXPECT_FALSE(is_thin_product(at::randn({4, 16}), trained));
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(is_thin_product(at::randn({4, 16}), trained));
  EXPECT_THROW(thin_product(at::randn({4, 7}), weight), std::exception);
}

// Outside a scope a product is the same bits with gradients and without.
TEST(ThinProduct, IsTakenWithinAScopeAlone) {
  const at::NoGradGuard no_grad;
  const Case one = random_case(16, 130, 576);
  const auto general = at::linear(one.x, one.weight);
  const auto thin = thin_product(one.x, one.weight);
  ASSERT_FALSE(general.equal(thin));
  EXPECT_TRUE(linear_product(one.x, one.weight).equal(general));
  {
    const ThinProductScope scope;
    EXPECT_TRUE(linear_product(one.x, one.weight).equal(thin));
  }
  EXPECT_TRUE(linear_product(one.x, one.weight).equal(general));
}

}  // namespace
}  // namespace rlhf
