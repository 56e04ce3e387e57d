#include "rlhf/kernels/thin_product.h"

#include <ATen/Parallel.h>

#include "rlhf/core/error.h"
#include "rlhf/kernels/thin_product_simd.h"

namespace rlhf {
namespace {

/// Multiply-adds that are worth a thread.
constexpr int64_t kGrain = 1 << 16;

bool wants_gradient(const torch::Tensor& x, const torch::Tensor& weight) {
  return torch::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad());
}

}  // namespace

bool is_thin_product(const torch::Tensor& x, const torch::Tensor& weight) {
  return x.is_cpu() && x.scalar_type() == torch::kFloat32 &&
         weight.scalar_type() == torch::kFloat32 && weight.dim() == 2 && x.dim() >= 1 &&
         x.size(-1) == weight.size(1) && weight.size(1) > 0 && weight.stride(1) == 1 &&
         x.is_contiguous() && x.numel() / weight.size(1) <= kThinRows && !wants_gradient(x, weight);
}

void thin_product_out(torch::Tensor& out, const torch::Tensor& x, const torch::Tensor& weight,
                      double factor) {
  check(is_thin_product(x, weight), "thin_product", "few contiguous rows of fp32 were expected.");
  const int64_t depth = weight.size(1);
  const int64_t rows = x.numel() / depth;
  const int64_t columns = weight.size(0);
  check(out.dim() == 2 && out.size(0) == rows && out.size(1) == columns && out.stride(1) == 1 &&
            out.scalar_type() == torch::kFloat32,
        "thin_product", "a result of {} x {} in fp32 was expected.", rows, columns);
  const simd::ThinProduct product{.x = x.const_data_ptr<float>(),
                                  .x_stride = depth,
                                  .weight = weight.const_data_ptr<float>(),
                                  .weight_stride = weight.stride(0),
                                  .out = out.data_ptr<float>(),
                                  .out_stride = out.stride(0),
                                  .rows = rows,
                                  .depth = depth,
                                  .factor = static_cast<float>(factor)};
  constexpr int64_t kTile = 4;
  const int64_t tiles = (columns + kTile - 1) / kTile;
  const int64_t grain = std::max<int64_t>(1, kGrain / std::max<int64_t>(1, rows * depth * kTile));
  at::parallel_for(0, tiles, grain, [&](int64_t begin, int64_t end) {
    simd::thin_product(product, begin * kTile, std::min(end * kTile, columns));
  });
}

torch::Tensor thin_product(const torch::Tensor& x, const torch::Tensor& weight) {
  auto sizes = x.sizes().vec();
  sizes.back() = weight.size(0);
  auto out = torch::empty(sizes, x.options());
  auto flat = out.view({-1, weight.size(0)});
  thin_product_out(flat, x, weight);
  return out;
}

}  // namespace rlhf
