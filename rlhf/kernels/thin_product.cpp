#include "rlhf/kernels/thin_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/thin_product_simd.h"

namespace rlhf {
namespace {

/// Multiply-adds that are worth a thread.
constexpr int64_t kGrain = 1 << 16;

thread_local bool allowed = false;

bool wants_gradient(const at::Tensor& x, const at::Tensor& weight) {
  return at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
}

}  // namespace

bool is_thin_product(const at::Tensor& x, const at::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         weight.dim() == 2 && x.dim() >= 1 && x.size(-1) == weight.size(1) && weight.size(1) > 0 &&
         weight.stride(1) == 1 && x.is_contiguous() && x.numel() / weight.size(1) <= kThinRows &&
         !wants_gradient(x, weight);
}

at::Tensor thin_product(const at::Tensor& x, const at::Tensor& weight) {
  check(is_thin_product(x, weight), "thin_product", "few contiguous rows of fp32 were expected.");
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  auto out = at::empty(sizes, x.options());
  const int64_t depth = weight.size(1);
  const int64_t columns = weight.size(0);
  const simd::ThinProduct product{.x = x.const_data_ptr<float>(),
                                  .weight = weight.const_data_ptr<float>(),
                                  .weight_stride = weight.stride(0),
                                  .out = out.data_ptr<float>(),
                                  .rows = x.numel() / depth,
                                  .columns = columns,
                                  .depth = depth};
  const auto packed = at::empty({simd::thin_packed_floats(product)}, out.options());
  auto* const rows = packed.data_ptr<float>();
  simd::thin_pack(product, rows);
  constexpr int64_t kTile = simd::kThinColumns;
  const int64_t tiles = (columns + kTile - 1) / kTile;
  const int64_t work = std::max<int64_t>(1, product.rows * depth * kTile);
  at::parallel_for(0, tiles, std::max<int64_t>(1, kGrain / work), [&](int64_t begin, int64_t end) {
    simd::thin_product(product, rows, begin * kTile, std::min(end * kTile, columns));
  });
  return out;
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!allowed || !is_thin_product(x, weight))
    return at::linear(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
  auto y = thin_product(x, weight);
  return bias.defined() ? y.add_(bias) : y;
}

ThinProductScope::ThinProductScope() : before_(allowed) { allowed = true; }
ThinProductScope::~ThinProductScope() { allowed = before_; }

}  // namespace rlhf
