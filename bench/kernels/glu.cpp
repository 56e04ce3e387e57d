// Gated linear units of a pack's rows.
#include "rlhf/kernels/glu.h"

#include <ATen/ATen.h>

#include "bench/kernels/bench.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kTokens = 8192;  // T
constexpr int64_t kInner = 1536;   // F

// A few roundings and one exp of a vector unit, some 1e-7 each, of numbers near 1.
constexpr double kTolerance = 2e-6;

void add_activation(const char* name, GluActivation activation) {
  const double size = kTokens * kInner;
  add(Differentiable{
      .name = name,
      .forward = floats_moved(3 * size),   // gate, up, y
      .backward = floats_moved(5 * size),  // gate, up, dy, d gate, d up
      .both = {},
      .tolerance = kTolerance,
      .leaves = 2,
      .inputs =
          [] {
            return Tensors{at::randn({kTokens, kInner}), at::randn({kTokens, kInner})};
          },
      .kernel = [=](const Tensors& in) { return glu(in[0], in[1], activation); },
      .torch = [=](const Tensors& in) { return reference::glu(in[0], in[1], activation); }});
}

}  // namespace

void add_gated_units() {
  add_activation("glu/silu", GluActivation::silu);
  add_activation("glu/gelu_tanh", GluActivation::gelu_tanh);
}

}  // namespace rlhf::bench
