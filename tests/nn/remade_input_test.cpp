// Products whose input is made again, against the plain composition that autograd differentiates.
#include "rlhf/nn/remade_input.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "rlhf/kernels/norm.h"
#include "rlhf/kernels/weight_gradient.h"

namespace rlhf {
namespace {

using Tensors = std::vector<at::Tensor>;

/// Σ_i Σ out_i · c_i with fixed c_i; outputs listed in `unused` have no part in it.
at::Tensor weighted_sum(const Tensors& out, size_t unused = 99) {
  at::Tensor sum;
  for (size_t i = 0; i < out.size(); ++i) {
    if (i == unused) continue;
    const auto c = at::linspace(-1.0, 2.0, out[i].numel(), out[i].options()).view_as(out[i]).sin();
    sum = sum.defined() ? sum + (out[i] * c).sum() : (out[i] * c).sum();
  }
  return sum;
}

/// Its gradients, one for each of `inputs`.
Tensors gradients(const Tensors& out, const Tensors& inputs, size_t unused = 99) {
  return torch::autograd::grad({weighted_sum(out, unused)}, inputs);
}

/// The same in two parts, summed into each input's .grad.
template <class Outputs>
Tensors summed_gradients(const Outputs& out, const Tensors& inputs) {
  for (const double part : {0.25, 0.75}) backward(part * weighted_sum(out()));
  Tensors found;
  for (const auto& input : inputs) found.push_back(input.grad());
  return found;
}

void expect_close(const Tensors& got, const Tensors& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    // fp64 sums of some ten products.
    EXPECT_TRUE(at::allclose(got[i], expected[i], /*rtol=*/1e-12, /*atol=*/1e-12)) << "input " << i;
  }
}

struct NormCase {
  explicit NormCase(bool biased, double norm_offset, at::ScalarType type = at::kDouble)
      : offset(norm_offset) {
    at::manual_seed(7);
    const auto random = [&](at::IntArrayRef shape) {
      return at::randn(shape, type).requires_grad_(true);
    };
    x = random({5, 6});
    norm = random({6});
    for (const int64_t n : {4, 3, 3}) {
      weights.push_back(random({n, 6}));
      if (biased) biases.push_back(random({n}));
    }
  }

  Tensors remade() const { return norm_linears(x, {norm, 1e-3, offset}, weights, biases); }
  /// By autograd: the norm in plain operations, or by its own kernel.
  Tensors plain(bool kernel = false) const {
    const auto normed =
        kernel ? rms_norm(x, norm, 1e-3, offset) : reference::rms_norm(x, norm, 1e-3, offset);
    Tensors out;
    for (size_t i = 0; i < weights.size(); ++i)
      out.push_back(at::linear(normed, weights[i], biases.empty() ? at::Tensor() : biases[i]));
    return out;
  }
  Tensors inputs() const {
    Tensors all = {x, norm};
    all.insert(all.end(), weights.begin(), weights.end());
    all.insert(all.end(), biases.begin(), biases.end());
    return all;
  }

  double offset;
  at::Tensor x, norm;
  Tensors weights, biases;
};

TEST(NormLinears, GradientsAreAutogradsInDouble) {
  for (const bool biased : {false, true}) {
    for (const double offset : {0.0, 1.0}) {
      const NormCase c(biased, offset);
      expect_close(c.remade(), c.plain());
      expect_close(gradients(c.remade(), c.inputs()), gradients(c.plain(), c.inputs()));
    }
  }
}

TEST(NormLinears, OutputsAreTheBitsOfThePlainComposition) {
  const NormCase c(/*biased=*/true, /*norm_offset=*/0.0, at::kFloat);
  const auto got = c.remade();
  const auto expected = c.plain(/*kernel=*/true);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].equal(expected[i])) << i;
}

TEST(NormLinears, WeightsSummedDirectlyHaveTheSameGradients) {
  const NormCase c(/*biased=*/true, /*norm_offset=*/0.0);
  const auto expected = gradients(c.plain(), c.inputs());
  expect_close(summed_gradients([&] { return c.remade(); }, c.inputs()), expected);
}

TEST(NormLinears, AnOutputThatNobodyReadsGivesItsMatrixNothing) {
  const NormCase c(/*biased=*/true, /*norm_offset=*/0.0);
  const Tensors others = {c.x, c.norm, c.weights[0], c.weights[2], c.biases[0], c.biases[2]};
  expect_close(gradients(c.remade(), others, /*unused=*/1), gradients(c.plain(), others, 1));
}

TEST(NormLinears, FrozenPartsGetNoGradient) {
  NormCase c(/*biased=*/false, /*norm_offset=*/0.0);
  for (auto& weight : c.weights) weight.requires_grad_(false);
  c.norm.requires_grad_(false);
  expect_close(gradients(c.remade(), {c.x}), gradients(c.plain(), {c.x}));
  c.x.requires_grad_(false);
  c.weights[1].requires_grad_(true);
  expect_close(gradients(c.remade(), {c.weights[1]}), gradients(c.plain(), {c.weights[1]}));
}

struct GluCase {
  explicit GluCase(bool biased, at::ScalarType type = at::kDouble) {
    at::manual_seed(8);
    // The halves of one product, as a fused projection has them.
    both = at::randn({5, 14}, type).requires_grad_(true);
    weight = at::randn({3, 7}, type).requires_grad_(true);
    if (biased) bias = at::randn({3}, type).requires_grad_(true);
  }

  Tensors remade(GluActivation activation) const {
    const auto halves = both.chunk(2, -1);
    return {glu_linear(halves[0], halves[1], activation, weight, bias)};
  }
  Tensors plain(GluActivation activation, bool kernel = false) const {
    const auto halves = both.chunk(2, -1);
    return {at::linear(kernel ? glu(halves[0], halves[1], activation)
                              : reference::glu(halves[0], halves[1], activation),
                       weight, bias)};
  }
  Tensors inputs() const {
    return bias.defined() ? Tensors{both, weight, bias} : Tensors{both, weight};
  }

  at::Tensor both, weight, bias;
};

TEST(GluLinear, GradientsAreAutogradsInDouble) {
  for (const bool biased : {false, true}) {
    for (const auto activation : {GluActivation::silu, GluActivation::gelu_tanh}) {
      const GluCase c(biased);
      expect_close(c.remade(activation), c.plain(activation));
      expect_close(gradients(c.remade(activation), c.inputs()),
                   gradients(c.plain(activation), c.inputs()));
    }
  }
}

TEST(GluLinear, WeightsSummedDirectlyHaveTheSameGradients) {
  const GluCase c(/*biased=*/true);
  const auto expected = gradients(c.plain(GluActivation::silu), c.inputs());
  expect_close(summed_gradients([&] { return c.remade(GluActivation::silu); }, c.inputs()),
               expected);
}

TEST(GluLinear, FrozenPartsGetNoGradient) {
  GluCase c(/*biased=*/true);
  c.weight.requires_grad_(false);
  c.bias.requires_grad_(false);
  expect_close(gradients(c.remade(GluActivation::silu), {c.both}),
               gradients(c.plain(GluActivation::silu), {c.both}));
  c.both.requires_grad_(false);
  c.weight.requires_grad_(true);
  expect_close(gradients(c.remade(GluActivation::silu), {c.weight}),
               gradients(c.plain(GluActivation::silu), {c.weight}));
}

TEST(GluLinear, OutputsAreTheBitsOfThePlainComposition) {
  const GluCase c(/*biased=*/true, at::kFloat);
  for (const auto activation : {GluActivation::silu, GluActivation::gelu_tanh}) {
    EXPECT_TRUE(c.remade(activation)[0].equal(c.plain(activation, /*kernel=*/true)[0]));
  }
}

}  // namespace
}  // namespace rlhf
