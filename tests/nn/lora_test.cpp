// Adapters of one matrix: numbers worked by hand, and the written-out backward against autograd of
// the plain formulas.
#include "rlhf/nn/lora.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/nn/checkpoint.h"
#include "rlhf/nn/layers.h"

namespace rlhf {
namespace {

at::Tensor doubles(std::initializer_list<double> values, at::IntArrayRef shape) {
  return at::tensor(at::ArrayRef<double>(values.begin(), values.size()), at::kDouble).view(shape);
}

void expect_values(const at::Tensor& got, std::initializer_list<double> expected) {
  const auto flat = got.flatten();
  ASSERT_EQ(flat.numel(), static_cast<int64_t>(expected.size()));
  int64_t i = 0;
  for (const double value : expected) EXPECT_NEAR(flat[i++].item<double>(), value, 1e-12);
}

TEST(Lora, ScaleByHand) {
  EXPECT_DOUBLE_EQ(lora_scale(32, 16, /*rslora=*/false), 2.0);
  EXPECT_DOUBLE_EQ(lora_scale(32, 16, /*rslora=*/true), 8.0);
}

TEST(Lora, AddsTheLowRankProduct) {
  // x = (1, 0): Wx = (1, 3); Ax = 1, s·B·1 = 2·(1, 2) = (2, 4); with the bias (10, 20): (13, 27).
  const Linear frozen{doubles({1, 2, 3, 4}, {2, 2}), doubles({10, 20}, {2})};
  const Lora lora{
      .a = doubles({1, -1}, {1, 2}), .b = doubles({1, 2}, {2, 1}), .magnitude = {}, .scale = 2.0};
  expect_values(lora_linear(frozen, lora, doubles({1, 0}, {1, 2}), nullptr), {13, 27});
  // W + s·BA = [[1 + 2, 2 - 2], [3 + 4, 4 - 4]].
  expect_values(merged_weight(frozen, lora), {3, 0, 7, 0});
}

TEST(Lora, DoraRescalesEachOutput) {
  // W + BA = (3 + 3, 8) has the norm 10; m = 5 halves it: y = (6 + 8) / 2 + 1.
  const Linear frozen{doubles({3, 8}, {1, 2}), doubles({1}, {1})};
  const Lora lora{.a = doubles({1, 0}, {1, 2}),
                  .b = doubles({3}, {1, 1}),
                  .magnitude = doubles({5}, {1}),
                  .scale = 1.0};
  expect_values(lora_weight_norm(frozen, lora), {10});
  expect_values(lora_linear(frozen, lora, doubles({1, 1}, {1, 2}), nullptr), {8});
  expect_values(merged_weight(frozen, lora), {3, 4});
}

struct Form {
  bool dora, bias, transposed;
  double dropout;
};

/// A frozen layer of 5 inputs and 7 outputs with an adapter of rank 3.
struct Case {
  Linear frozen;
  Lora lora;
  at::Tensor x;

  explicit Case(const Form& form, at::ScalarType type = at::kDouble) {
    at::manual_seed(7);
    const auto options = at::TensorOptions().dtype(type);
    const auto weight = at::randn({7, 5}, options);
    frozen = {form.transposed ? weight.t().contiguous() : weight,
              form.bias ? at::randn({7}, options) : at::Tensor(), form.transposed};
    lora = {.a = at::randn({3, 5}, options),
            .b = at::randn({7, 3}, options),
            .magnitude = form.dora ? at::randn({7}, options).abs() : at::Tensor(),
            .scale = 0.7,
            .dropout = form.dropout,
            .stream = 11};
    x = at::randn({9, 5}, options);
  }

  std::vector<at::Tensor> leaves() {
    std::vector<at::Tensor> all{x, lora.a, lora.b};
    if (lora.magnitude.defined()) all.push_back(lora.magnitude);
    for (auto& leaf : all) leaf.requires_grad_();
    return all;
  }
};

const std::vector<Form>& forms() {
  static const std::vector<Form> all = [] {
    std::vector<Form> made;
    for (const bool dora : {false, true})
      for (const bool bias : {false, true})
        for (const bool transposed : {false, true})
          for (const double dropout : {0.0, 0.4}) made.push_back({dora, bias, transposed, dropout});
    return made;
  }();
  return all;
}

TEST(Lora, GradientsEqualAutogradOfThePlainForm) {
  const DropoutKey key{.seed = 3, .step = 5, .first_token = 40};
  for (const auto& form : forms()) {
    Case one(form);
    const auto leaves = one.leaves();
    const auto y = lora_linear(one.frozen, one.lora, one.x, &key);
    const auto plain = reference::lora_linear(one.frozen, one.lora, one.x, &key);
    const auto direction = at::randn_like(y.detach());
    const auto got = torch::autograd::grad({y}, leaves, {direction});
    const auto expected = torch::autograd::grad({plain}, leaves, {direction});
    // Double precision: two orders of summing a handful of numbers near 1.
    EXPECT_TRUE(at::allclose(y, plain, 1e-12, 1e-12));
    for (size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_TRUE(at::allclose(got[i], expected[i], 1e-12, 1e-12))
          << "leaf " << i << (form.dora ? " dora" : "") << (form.dropout > 0 ? " dropout" : "");
    }
  }
}

TEST(Lora, UntouchedAdapterIsTheFrozenLayerBitForBit) {
  for (const auto& form : forms()) {
    Case one(form, at::kFloat);
    one.lora.b.zero_();
    if (form.dora) one.lora.magnitude = lora_weight_norm(one.frozen, one.lora);
    EXPECT_TRUE(at::equal(lora_linear(one.frozen, one.lora, one.x, nullptr), one.frozen(one.x)));
  }
}

TEST(Lora, MergedMatrixDoesTheAdaptersWork) {
  for (const auto& form : forms()) {
    Case one(form);
    auto merged = one.frozen;
    merged.weight = merged_weight(one.frozen, one.lora);
    EXPECT_TRUE(at::allclose(merged(one.x), lora_linear(one.frozen, one.lora, one.x, nullptr),
                             1e-12, 1e-12));
  }
}

TEST(Lora, InputWithoutGradientStillTrainsTheAdapter) {
  Case one({.dora = false, .bias = true, .transposed = false, .dropout = 0.0});
  one.lora.b.requires_grad_();
  lora_linear(one.frozen, one.lora, one.x, nullptr).sum().backward();
  EXPECT_TRUE(one.lora.b.grad().defined());
  EXPECT_FALSE(one.x.grad().defined());
  EXPECT_FALSE(one.frozen.weight.grad().defined());
}

TEST(Lora, RecomputedBlockGivesTheSameGradients) {
  const DropoutKey key{.seed = 3, .step = 5, .first_token = 0};
  for (const auto& form : forms()) {
    Case one(form, at::kFloat);
    for (auto& leaf : one.leaves()) leaf.set_requires_grad(!leaf.is_same(one.x));
    std::vector<at::Tensor> trained{one.lora.a, one.lora.b};
    if (form.dora) trained.push_back(one.lora.magnitude);
    const auto block = [&](const at::Tensor& x) {
      return lora_linear(one.frozen, one.lora, x, &key);
    };
    const auto plain = torch::autograd::grad({block(one.x).square().sum()}, trained);
    const auto again =
        torch::autograd::grad({checkpointed(block, one.x, trained).square().sum()}, trained);
    for (size_t i = 0; i < trained.size(); ++i) EXPECT_TRUE(at::equal(plain[i], again[i]));
  }
}

TEST(Lora, AdapterWiderThanTheModel) {
  Case one({.dora = true, .bias = true, .transposed = false, .dropout = 0.0}, at::kFloat);
  Case narrow = one;
  narrow.frozen.weight = one.frozen.weight.to(at::kBFloat16);
  narrow.frozen.bias = one.frozen.bias.to(at::kBFloat16);
  narrow.x = one.x.to(at::kBFloat16);
  const auto leaves = narrow.leaves();
  const auto y = lora_linear(narrow.frozen, narrow.lora, narrow.x, nullptr);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const auto grads = torch::autograd::grad({y.to(at::kFloat).sum()}, leaves);
  EXPECT_EQ(grads[0].scalar_type(), at::kBFloat16);
  EXPECT_EQ(grads[1].scalar_type(), at::kFloat);
  // bfloat16 keeps 8 bits, values are near 10: 2⁻⁸ · 10, and some rounding before.
  EXPECT_TRUE(
      at::allclose(y.to(at::kFloat), lora_linear(one.frozen, one.lora, one.x, nullptr), 0.02, 0.1));
}

/// An adapter of 50 inputs.
Lora dropping(double share) {
  return {
      .a = at::zeros({1, 50}, at::kFloat), .b = {}, .magnitude = {}, .dropout = share, .stream = 9};
}

at::Tensor mask_of(int64_t tokens, const Lora& lora, const DropoutKey& key) {
  return dropout_mask(tokens, lora, key, at::kFloat);
}

TEST(Dropout, SameMaskWhateverTheCut) {
  const auto lora = dropping(0.25);
  const auto whole = mask_of(64, lora, {.seed = 1, .step = 2, .first_token = 100});
  const auto part = mask_of(44, lora, {.seed = 1, .step = 2, .first_token = 120});
  EXPECT_TRUE(at::equal(part, whole.slice(0, 20, 64)));
  const auto rows = at::tensor({63, 4, 20}, at::kLong);
  EXPECT_TRUE(at::equal(mask_of(3, lora, {.seed = 1, .step = 2, .first_token = 100, .rows = rows}),
                        whole.index_select(0, rows)));
  // Kept elements are 1 / 0.75; of 3200 a quarter falls, give or take 5 deviations of √(3200·3/16).
  EXPECT_TRUE(((whole == 0).logical_or((whole - 4.0 / 3.0).abs() < 1e-6)).all().item<bool>());
  EXPECT_NEAR((whole == 0).sum().item<double>(), 800, 5 * 24.5);
}

TEST(Dropout, StepModuleAndSeedEachChangeIt) {
  auto lora = dropping(0.5);
  const auto first = mask_of(8, lora, {.seed = 1, .step = 2, .first_token = 0});
  EXPECT_FALSE(at::equal(first, mask_of(8, lora, {.seed = 2, .step = 2, .first_token = 0})));
  EXPECT_FALSE(at::equal(first, mask_of(8, lora, {.seed = 1, .step = 3, .first_token = 0})));
  lora.stream = 10;
  EXPECT_FALSE(at::equal(first, mask_of(8, lora, {.seed = 1, .step = 2, .first_token = 0})));
}

TEST(Lora, InitialValuesFillTheirBound) {
  // Kaiming's bound with a = √5 is √(6 / ((1 + 5)·in)) = 1/√in; 400 of 100 inputs: 1/10.
  const auto a = initial_lora_a(4, 100, /*seed=*/5, /*stream=*/6);
  EXPECT_LE(a.abs().max().item<float>(), 0.1f);
  EXPECT_GT(a.abs().max().item<float>(), 0.095f);
  EXPECT_NEAR(a.mean().item<double>(), 0.0, 5 * 0.1 / std::sqrt(3.0 * 400));
  EXPECT_TRUE(at::equal(a, initial_lora_a(4, 100, 5, 6)));
  EXPECT_FALSE(at::equal(a, initial_lora_a(4, 100, 5, 7)));
}

TEST(Lora, FrozenMeansFrozen) {
  Case one({.dora = false, .bias = false, .transposed = false, .dropout = 0.0});
  one.frozen.weight.requires_grad_();
  EXPECT_THROW(lora_linear(one.frozen, one.lora, one.x, nullptr), Error);
}

}  // namespace
}  // namespace rlhf
