// Norms of a pack's rows. The layer norm is torch's own; beside it stands its formula.
#include "rlhf/kernels/norm.h"

#include <ATen/ATen.h>

#include "bench/kernels/bench.h"
#include "rlhf/nn/layers.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kTokens = 8192;  // T
constexpr int64_t kWidth = 576;    // C
constexpr double kEps = 1e-5;

// Roundings of numbers near 1, 6e-8 each; the weight's gradient sums 8,192 rows in two orders.
constexpr double kTolerance = 1e-5;

Differentiable norm_case(const char* name, size_t leaves) {
  const double size = kTokens * kWidth;
  return {
      .name = name,
      .forward = floats_moved(2 * size),   // x, y
      .backward = floats_moved(3 * size),  // x, dy, dx
      .both = {},
      .tolerance = kTolerance,
      .leaves = leaves,
      .inputs =
          [] {
            return Tensors{at::randn({kTokens, kWidth}), at::randn({kWidth}), at::randn({kWidth})};
          },
      .kernel = {},
      .torch = {}};
}

at::Tensor layer_norm_formula(const Tensors& in) {
  const auto centred = in[0] - in[0].mean(-1, /*keepdim=*/true);
  const auto variance = centred.square().mean(-1, /*keepdim=*/true);
  return centred * at::rsqrt(variance + kEps) * in[1] + in[2];
}

}  // namespace

void add_norms() {
  Differentiable rms = norm_case("norm/rms", /*leaves=*/2);
  rms.kernel = [](const Tensors& in) { return rms_norm(in[0], in[1], kEps); };
  rms.torch = [](const Tensors& in) { return reference::rms_norm(in[0], in[1], kEps); };
  add(rms);
  Differentiable layer = norm_case("norm/layer", /*leaves=*/3);
  layer.kernel = [](const Tensors& in) {
    return Norm{NormKind::layer, in[1], in[2], kEps, /*offset=*/0.0}(in[0]);
  };
  layer.torch = layer_norm_formula;
  add(layer);
}

}  // namespace rlhf::bench
