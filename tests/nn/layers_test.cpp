// Small layers on numbers worked by hand, and the recomputing block against the plain one.
#include "rlhf/nn/layers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/nn/checkpoint.h"
#include "rlhf/nn/rope.h"

namespace rlhf {
namespace {

at::Tensor doubles(std::initializer_list<double> values) {
  return at::tensor(at::ArrayRef<double>(values.begin(), values.size()), at::kDouble);
}

void expect_values(const at::Tensor& got, std::initializer_list<double> expected,
                   double tolerance = 1e-12) {
  const auto flat = got.to(at::kDouble).flatten();
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  int64_t i = 0;
  for (const double value : expected) {
    EXPECT_NEAR(flat[i].item<double>(), value, tolerance) << "element " << i;
    ++i;
  }
}

TEST(Linear, UsesTheStoredMatrixEitherWay) {
  // W = [[1, 2, 3], [4, 5, 6]], x = (1, 0, -1): Wx = (-2, -2), plus the bias (10, 20).
  const auto weight = doubles({1, 2, 3, 4, 5, 6}).view({2, 3});
  const auto x = doubles({1, 0, -1}).view({1, 3});
  expect_values(Linear{weight, doubles({10, 20})}(x), {8, 18});
  expect_values(Linear{weight.t().contiguous(), doubles({10, 20}), /*transposed=*/true}(x),
                {8, 18});
  expect_values(Linear{weight, {}}(x), {-2, -2});
}

TEST(Norm, BothKinds) {
  // (3, 1): mean square 5, so (3, 1)/√5 times the weights (2, 10); with offset 1 times (3, 11).
  const auto x = doubles({3, 1}).view({1, 2});
  const auto weight = doubles({2, 10});
  const double root = std::sqrt(5.0);
  expect_values(Norm{NormKind::rms, weight, {}, 0.0, 0.0}(x), {6 / root, 10 / root});
  expect_values(Norm{NormKind::rms, weight, {}, 0.0, 1.0}(x), {9 / root, 11 / root});
  // Mean 2, variance 1: (1, -1) times the weights plus the bias; eps 3 makes the divisor 2.
  expect_values(Norm{NormKind::layer, weight, doubles({0.5, 0.25}), 0.0, 0.0}(x), {2.5, -9.75});
  expect_values(Norm{NormKind::layer, weight, doubles({0.5, 0.25}), 3.0, 0.0}(x), {1.5, -4.75});
}

TEST(Mlp, FusedEqualsApartAndPlainHasNoGate) {
  // C = F = 1: gate 2, up 3, down 5 at x = 1: 5·silu(2)·3; plain: 5·silu(3).
  const auto one = [](double w) { return Linear{doubles({w}).view({1, 1}), {}}; };
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const auto x = doubles({1}).view({1, 1});
  Mlp apart{.gate = one(2),
            .gate_up = {},
            .up = one(3),
            .down = one(5),
            .activation = GluActivation::silu};
  expect_values(apart({}, x), {15 * silu(2)});
  Mlp fused{.gate = {},
            .gate_up = {doubles({2, 3}).view({2, 1}), {}},
            .up = {},
            .down = one(5),
            .activation = GluActivation::silu};
  expect_values(fused({}, x), {15 * silu(2)});
  Mlp plain{
      .gate = {}, .gate_up = {}, .up = one(3), .down = one(5), .activation = GluActivation::silu};
  expect_values(plain({}, x), {5 * silu(3)});
  plain.activation = GluActivation::gelu;
  expect_values(plain({}, x), {5 * 1.5 * (1 + std::erf(3 / std::sqrt(2.0)))});
}

TEST(Rope, PlainAndLinearByHand) {
  // θ = 100, Dr = 4: f = 1, 1/10. At position 3 the angles are 3 and 0.3; with s = 2 half of that.
  RopeConfig config{.theta = 100.0, .width = 4};
  expect_values(rope_frequencies(config, 0), {1.0, 0.1}, 1e-7);
  const auto tables = rope_tables(config, at::arange(3, 4, at::kLong), at::kDouble);
  expect_values(tables.cos, {std::cos(3.0), std::cos(0.3)}, 1e-6);  // fp32 tables
  expect_values(tables.sin, {std::sin(3.0), std::sin(0.3)}, 1e-6);
  config.type = RopeType::linear;
  config.factor = 2.0;
  expect_values(rope_frequencies(config, 0), {0.5, 0.05}, 1e-7);
}

TEST(Rope, DynamicStretchesLongRowsAlone) {
  // s = 2, context 4, row of 8: θ' = 100·(2·8/4 − 1)^(4/2) = 900, f = 1, 1/30. A row of 4 or less
  // keeps 1/10.
  const RopeConfig config{
      .type = RopeType::dynamic, .theta = 100.0, .width = 4, .factor = 2.0, .context = 4};
  expect_values(rope_frequencies(config, 8), {1.0, 1.0 / 30}, 1e-7);
  expect_values(rope_frequencies(config, 4), {1.0, 0.1}, 1e-7);
  // One batch with a row of 8 and a row of 2: the second turns as if alone.
  const auto positions = at::tensor({0, 1, 2, 3, 4, 5, 6, 7, 0, 1}, at::kLong);
  const auto tables = rope_tables(config, positions, at::kFloat);
  expect_values(tables.sin[7], {std::sin(7.0), std::sin(7.0 / 30)}, 1e-6);
  expect_values(tables.sin[9], {std::sin(1.0), std::sin(0.1)}, 1e-6);
}

TEST(Rope, LongropeChoosesByTheRowsLength) {
  const RopeConfig config{.type = RopeType::longrope,
                          .theta = 100.0,
                          .width = 4,
                          .context = 8,
                          .original_context = 4,
                          .attention_factor = 1.5,
                          .short_factor = {1.0, 2.0},
                          .long_factor = {4.0, 5.0}};
  expect_values(rope_frequencies(config, 4), {1.0, 0.05}, 1e-7);
  expect_values(rope_frequencies(config, 5), {0.25, 0.02}, 1e-7);
  const auto tables = rope_tables(config, at::arange(2, at::kLong), at::kFloat);
  expect_values(tables.cos[1], {1.5 * std::cos(1.0), 1.5 * std::cos(0.05)}, 1e-6);
}

TEST(Checkpointed, GivesParametersTheirGradientsThoughTheInputHasNone) {
  const auto w = doubles({2, 3}).requires_grad_(true);
  const auto frozen = doubles({5, 7});
  int runs = 0;
  const Block block = [&](const at::Tensor& x) {
    ++runs;
    return x * w * frozen;
  };
  const auto x = doubles({1, 10});
  checkpointed(block, x, {w, frozen}).sum().backward();
  expect_values(w.grad(), {5, 70});
  EXPECT_EQ(runs, 2) << "once forward, once again for the backward";
}

TEST(Checkpointed, NeedsNoSecondRunWithoutGradients) {
  int runs = 0;
  const Block block = [&](const at::Tensor& x) {
    ++runs;
    return x * 2;
  };
  expect_values(checkpointed(block, doubles({1, 10}), {}), {2, 20});
  EXPECT_EQ(runs, 1);
}

TEST(Checkpointed, ChainsAndSharesParameters) {
  // y = w·(w·x): dy/dw = 2wx, dy/dx = w².
  const auto w = doubles({3}).requires_grad_(true);
  const auto x = doubles({4}).requires_grad_(true);
  const Block block = [&](const at::Tensor& in) { return in * w; };
  checkpointed(block, checkpointed(block, x, {w}), {w}).sum().backward();
  expect_values(w.grad(), {24});
  expect_values(x.grad(), {9});
}

// Two blocks that share their matrices, whose gradients both add to, in two parts.
TEST(Checkpointed, GivesTheGradientsOfPlainAutogradHoweverTheyAreSummed) {
  at::manual_seed(9);
  const auto leaf = [](at::IntArrayRef shape) {
    return at::randn(shape, at::kDouble).requires_grad_(true);
  };
  const auto x = leaf({5, 4});
  const auto up = leaf({6, 4});
  const auto down = leaf({4, 6});
  const std::vector<at::Tensor> leaves = {x, up, down};
  const auto plain = [&](const at::Tensor& in) {
    return in + at::linear(at::linear(in, up).tanh(), down);
  };
  const Block block = [&](const at::Tensor& in) {
    return in + linear_map(linear_map(in, up).tanh(), down);
  };
  const auto expected = torch::autograd::grad({plain(plain(x)).square().sum()}, leaves);
  for (const bool directly : {false, true}) {
    for (const auto& one : leaves) one.mutable_grad() = at::Tensor();
    for (const double part : {0.25, 0.75}) {
      const auto y = checkpointed(block, checkpointed(block, x, {up, down}), {up, down});
      const auto loss = part * y.square().sum();
      if (directly) {
        backward(loss);
      } else {
        loss.backward();
      }
    }
    for (size_t i = 0; i < leaves.size(); ++i) {
      // fp64 sums of some twenty products near 10.
      EXPECT_TRUE(at::allclose(leaves[i].grad(), expected[i], /*rtol=*/1e-12, /*atol=*/1e-12))
          << "input " << i << (directly ? ", directly" : "");
    }
  }
}

}  // namespace
}  // namespace rlhf
