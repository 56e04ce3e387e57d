// Rotary positions of a pack's queries.
#include "rlhf/kernels/rotary.h"

#include <ATen/ATen.h>

#include "bench/kernels/bench.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kTokens = 8192;  // T

// Two products and a sum of numbers near 1, 6e-8 each.
constexpr double kTolerance = 1e-6;

void add_pairs(const char* name, RotaryPairs pairs) {
  const Work work = floats_moved(kTokens * kHeadDim * (2.0 * kHeads + 1));  // x, y; cos, sin
  add(Differentiable{
      .name = name,
      .forward = work,
      .backward = work,
      .both = {},
      .tolerance = kTolerance,
      .leaves = 1,
      .inputs =
          [] {
            const auto angle = at::rand({kTokens, kHeadDim / 2}) * 6.28;
            return Tensors{at::randn({kTokens, kHeads, kHeadDim}), angle.cos(), angle.sin()};
          },
      .kernel = [=](const Tensors& in) { return rotary(in[0], in[1], in[2], pairs); },
      .torch = [=](const Tensors& in) { return reference::rotary(in[0], in[1], in[2], pairs); }});
}

}  // namespace

void add_rotary() {
  add_pairs("rotary/half_split", RotaryPairs::half_split);
  add_pairs("rotary/interleaved", RotaryPairs::interleaved);
}

}  // namespace rlhf::bench
