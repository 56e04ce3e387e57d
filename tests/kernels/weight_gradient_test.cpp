// Gradients that are summed in place, against those that autograd makes and adds.
#include "rlhf/kernels/weight_gradient.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <functional>

namespace rlhf {
namespace {

at::Tensor leaf(at::IntArrayRef shape, at::ScalarType type = at::kDouble) {
  return at::randn(shape, type).requires_grad_(true);
}

/// Σ out · c with fixed c.
at::Tensor weighted(const at::Tensor& out) {
  return (out * at::linspace(-1.0, 2.0, out.numel(), out.options()).view_as(out).sin()).sum();
}

/// What `times` backwards of loss() leave in the .grad of `weight`, directly or by autograd.
at::Tensor summed(at::Tensor weight, int times, bool directly,
                  const std::function<at::Tensor()>& loss) {
  weight.mutable_grad() = at::Tensor();
  for (int i = 0; i < times; ++i) {
    if (directly) {
      backward(loss());
    } else {
      loss().backward();
    }
  }
  return weight.grad();
}

TEST(LinearMap, IsAtLinearWithItsGradients) {
  at::manual_seed(1);
  for (const bool biased : {false, true}) {
    const auto x = leaf({5, 4});
    const auto weight = leaf({3, 4});
    const auto bias = biased ? leaf({3}) : at::Tensor();
    const auto plain = [&] { return weighted(at::linear(x, weight, bias)); };
    const auto ours = [&] { return weighted(linear_map(x, weight, bias)); };
    EXPECT_TRUE(at::equal(linear_map(x, weight, bias), at::linear(x, weight, bias)));
    for (const auto& input : {x, weight, bias}) {
      if (!input.defined()) continue;
      const auto expected = summed(input, 1, /*directly=*/false, plain);
      // fp64 sums of five products.
      EXPECT_TRUE(at::allclose(summed(input, 1, /*directly=*/false, ours), expected, 1e-13, 1e-13));
      EXPECT_TRUE(at::allclose(summed(input, 1, /*directly=*/true, ours), expected, 1e-13, 1e-13));
      EXPECT_TRUE(
          at::allclose(summed(input, 3, /*directly=*/true, ours), 3 * expected, 1e-13, 1e-13));
    }
  }
}

TEST(LinearMap, SumsIntoTheSameMemory) {
  at::manual_seed(2);
  const auto x = leaf({5, 4}, at::kFloat);
  const auto weight = leaf({3, 4}, at::kFloat);
  backward(weighted(linear_map(x, weight)));
  const void* place = weight.grad().data_ptr();
  const auto once = weight.grad().clone();
  backward(weighted(linear_map(x, weight)));
  EXPECT_EQ(weight.grad().data_ptr(), place);
  EXPECT_TRUE(at::allclose(weight.grad(), 2 * once));
}

TEST(EmbeddingRows, GradientsAreAutograds) {
  at::manual_seed(3);
  const auto ids = at::tensor({2, 0, 2, 5, 1, 2}, at::kLong);
  for (const int64_t padding : {-1, 5, 2}) {
    const auto weight = leaf({6, 4});
    const auto plain = [&] { return weighted(at::embedding(weight, ids, padding)); };
    const auto ours = [&] { return weighted(embedding_rows(weight, ids, padding)); };
    const auto expected = summed(weight, 1, /*directly=*/false, plain);
    EXPECT_TRUE(at::equal(summed(weight, 1, /*directly=*/false, ours), expected));
    EXPECT_TRUE(at::equal(summed(weight, 1, /*directly=*/true, ours), expected));
    // fp64 sums of at most nine numbers, in another order.
    EXPECT_TRUE(
        at::allclose(summed(weight, 3, /*directly=*/true, ours), 3 * expected, 1e-13, 1e-13));
  }
}

TEST(WeightGradient, OfATiedWeightIsTheSumOfBothUses) {
  at::manual_seed(4);
  const auto ids = at::tensor({1, 3, 1}, at::kLong);
  const auto weight = leaf({5, 4});
  const auto loss = [&](bool ours) {
    const auto hidden =
        (ours ? embedding_rows(weight, ids, /*padding=*/-1) : at::embedding(weight, ids)).tanh();
    return weighted(ours ? linear_map(hidden, weight) : at::linear(hidden, weight));
  };
  const auto expected = summed(weight, 2, /*directly=*/false, [&] { return loss(false); });
  EXPECT_TRUE(at::allclose(summed(weight, 2, /*directly=*/true, [&] { return loss(true); }),
                           expected, 1e-13, 1e-13));
}

TEST(WeightGradient, OfWhatIsNoLeafGoesOnThroughAutograd) {
  at::manual_seed(5);
  const auto x = leaf({5, 4});
  const auto stored = leaf({4, 3});
  const auto expected =
      summed(stored, 2, /*directly=*/false, [&] { return weighted(at::matmul(x, stored)); });
  EXPECT_TRUE(at::allclose(
      summed(stored, 2, /*directly=*/true, [&] { return weighted(linear_map(x, stored.t())); }),
      expected, 1e-13, 1e-13));
}

TEST(WeightGradient, OutsideAScopeIsHandedBack) {
  const auto weight = leaf({2, 2});
  const auto gradient = at::ones({2, 2}, at::kDouble);
  EXPECT_FALSE(sums_directly(weight));
  EXPECT_TRUE(weight_gradient(weight, gradient).is_same(gradient));
  EXPECT_FALSE(weight.grad().defined());
  const DirectGradients here;
  EXPECT_TRUE(sums_directly(weight));
  EXPECT_FALSE(sums_directly(weight.detach()));
  EXPECT_FALSE(weight_gradient(weight, gradient).defined());
  EXPECT_TRUE(weight.grad().is_same(gradient));
  // Once more is twice, also of the tensor that has become the sum.
  EXPECT_FALSE(weight_gradient(weight, gradient).defined());
  EXPECT_TRUE(at::equal(weight.grad(), at::full({2, 2}, 2.0, at::kDouble)));
}

TEST(WeightGradient, OfAGraphThatIsWalkedTwiceIsTwiceTheGradient) {
  at::manual_seed(6);
  const auto ids = at::tensor({1, 3, 1}, at::kLong);
  const auto x = at::randn({5, 4}, at::kDouble);
  const auto weight = leaf({5, 4});
  const auto expected = summed(weight, 1, /*directly=*/false, [&] {
    return weighted(at::linear(x, weight)) + weighted(at::embedding(weight, ids));
  });
  weight.mutable_grad() = at::Tensor();
  const auto loss = weighted(linear_map(x, weight)) + weighted(embedding_rows(weight, ids, -1));
  const DirectGradients here;
  loss.backward({}, /*retain_graph=*/true);
  loss.backward();
  // fp64 sums of at most seven numbers, twice.
  EXPECT_TRUE(at::allclose(weight.grad(), 2 * expected, 1e-13, 1e-13));
}

// All numbers are positive, so that a sum's last value is its largest and errors are relative to it.
TEST(WeightGradient, InBfloat16IsTheSumToItsRounding) {
  at::manual_seed(7);
  const auto narrow = [](at::IntArrayRef shape) { return at::rand(shape).to(at::kBFloat16); };
  const auto ids = at::tensor({2, 0, 2, 5, 1, 2}, at::kLong);
  const auto x = narrow({6, 4});
  const auto of_product = narrow({6, 6});
  const auto of_rows = narrow({6, 4});
  const auto start = narrow({6, 4});
  const auto weight = start.clone().requires_grad_(true);
  const auto wide = start.to(at::kDouble).requires_grad_(true);
  for (int i = 0; i < 3; ++i) {
    backward((linear_map(x, weight) * of_product).sum() +
             (embedding_rows(weight, ids, /*padding=*/-1) * of_rows).sum());
    ((at::linear(x.to(at::kDouble), wide) * of_product.to(at::kDouble)).sum() +
     (at::embedding(wide, ids) * of_rows.to(at::kDouble)).sum())
        .backward();
  }
  ASSERT_EQ(weight.grad().scalar_type(), at::kBFloat16);
  // A backward rounds a product of six terms and at most three rows to eight bits, 2^-9, each perhaps
  // before it is added and after: ten times, in all thirty, where a sum left out would be a third.
  EXPECT_TRUE(at::allclose(weight.grad().to(at::kDouble), wide.grad(), /*rtol=*/30 * 0x1p-9,
                           /*atol=*/0.0));
}

TEST(DirectGradients, EndWhereTheOutermostEnds) {
  const auto weight = leaf({2, 2});
  {
    const DirectGradients outer;
    {
      const DirectGradients inner;
      EXPECT_TRUE(sums_directly(weight));
    }
    EXPECT_TRUE(sums_directly(weight));
  }
  EXPECT_FALSE(sums_directly(weight));
}

// Of what is no scalar there is no backward().
TEST(DirectGradients, AreAsBeforeAfterABackwardThatThrows) {
  const auto weight = leaf({2, 2});
  EXPECT_THROW(backward(2 * weight), c10::Error);
  EXPECT_FALSE(sums_directly(weight));
  const DirectGradients outer;
  EXPECT_THROW(backward(2 * weight), c10::Error);
  EXPECT_TRUE(sums_directly(weight));
}

}  // namespace
}  // namespace rlhf
