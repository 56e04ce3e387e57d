// One update, with and without clipping, and Σ x² alone. (linalg_vector_norm is no form to compare
// with: it adds up in fp32 as it comes, and its square is 0.3% off for 28 million numbers.)
#include "rlhf/kernels/adamw.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "bench/kernels/bench.h"
#include "rlhf/kernels/adamw_8bit.h"
#include "rlhf/kernels/quantise.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kWeights = int64_t{1} << 23;
constexpr double kSize = kWeights;

// Some ten roundings of numbers near 1, 6e-8 each, and in torch a sum in fp32.
constexpr double kTolerance = 1e-5;

// t = 10
AdamWStep update() {
  return {.lr = 1e-4,
          .weight_decay = 0.1,
          .bias_correction1 = 1.0 - std::pow(0.9, 10),
          .bias_correction2 = 1.0 - std::pow(0.999, 10)};
}

struct State {
  at::Tensor parameter, gradient, exp_avg, exp_avg_sq;

  static State make() {
    const auto draw = [] { return at::randn({kWeights}); };
    return {draw(), draw(), draw(), draw().square_()};
  }
  State copy() const { return {parameter.clone(), gradient, exp_avg.clone(), exp_avg_sq.clone()}; }
  Tensors changed() const { return {parameter, exp_avg, exp_avg_sq}; }
};

// Both forms begin from the same state and are compared after their first update.
Pair update_pair() {
  const State a = State::make(), b = a.copy();
  return {[a] {
            adamw_step(a.parameter, a.gradient, a.exp_avg, a.exp_avg_sq, update());
            return a.changed();
          },
          [b] {
            reference::adamw_step(b.parameter, b.gradient, b.exp_avg, b.exp_avg_sq, update());
            return b.changed();
          }};
}

struct State8bit {
  at::Tensor parameter, gradient;
  Moments8bit moments;

  static State8bit make() {
    const State wide = State::make();
    const auto zeros = [] { return at::zeros({kWeights}, at::kByte); };
    const auto factors = [] { return at::zeros({quantised_blocks(kWeights)}); };
    const Moments8bit moments{zeros(), factors(), zeros(), factors()};
    quantise_blockwise(signed_dynamic_map(), wide.exp_avg, moments.exp_avg, moments.exp_avg_absmax);
    quantise_blockwise(unsigned_dynamic_map(), wide.exp_avg_sq, moments.exp_avg_sq,
                       moments.exp_avg_sq_absmax);
    return {wide.parameter, wide.gradient, moments};
  }
  State8bit copy() const {
    return {parameter.clone(),
            gradient,
            {moments.exp_avg.clone(), moments.exp_avg_absmax.clone(), moments.exp_avg_sq.clone(),
             moments.exp_avg_sq_absmax.clone()}};
  }
};

// Codes may differ where the forms' roundings lie on two sides of a bound; the first update is made
// before them.
Pair pair_8bit() {
  const State8bit a = State8bit::make(), b = a.copy();
  return {[a] {
            adamw_8bit_step(a.parameter, a.gradient, a.moments, update());
            return Tensors{a.parameter};
          },
          [b] {
            reference::adamw_8bit_step(b.parameter, b.gradient, b.moments, update());
            return Tensors{b.parameter};
          }};
}

AdamWStep clipped(double norm) {
  AdamWStep step = update();
  step.grad_scale = std::min(1.0, 1.0 / (norm + 1e-6));
  return step;
}

Pair clipped_pair() {
  const State a = State::make(), b = a.copy();
  return {[a] {
            const auto step = clipped(std::sqrt(sum_of_squares(a.gradient)));
            adamw_step(a.parameter, a.gradient, a.exp_avg, a.exp_avg_sq, step);
            return a.changed();
          },
          [b] {
            const auto step = clipped(std::sqrt(b.gradient.square().sum().item<double>()));
            reference::adamw_step(b.parameter, b.gradient, b.exp_avg, b.exp_avg_sq, step);
            return b.changed();
          }};
}

Pair squares_pair() {
  const auto x = at::randn({kWeights});
  return {[x] { return Tensors{at::scalar_tensor(sum_of_squares(x), at::kDouble)}; },
          [x] { return Tensors{x.square().sum()}; }};
}

}  // namespace

void add_adamw() {
  // Parameter, m and v read and written, the gradient read; with clipping read twice.
  add({"adamw/update", floats_moved(7 * kSize), kTolerance, update_pair});
  // In 8 bits m and v are four bytes, read and written.
  add({"adamw/8bit", floats_moved(4 * kSize), kTolerance, pair_8bit});
  add({"adamw/clipped", floats_moved(8 * kSize), kTolerance, clipped_pair});
  add({"adamw/sum_of_squares", floats_moved(kSize), kTolerance, squares_pair});
}

}  // namespace rlhf::bench
