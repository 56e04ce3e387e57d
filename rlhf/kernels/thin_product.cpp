#include "rlhf/kernels/thin_product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/thin_product_simd.h"
#include "rlhf/kernels/weight_gradient.h"

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

std::vector<at::Tensor> thin_products(const at::Tensor& x, at::ArrayRef<at::Tensor> weights) {
  constexpr int64_t kTile = simd::kThinColumns;
  const int64_t depth = x.size(-1);
  std::vector<at::Tensor> out;
  std::vector<simd::ThinProduct> products;
  std::vector<int64_t> first_tile = {0};
  for (const auto& weight : weights) {
    check(is_thin_product(x, weight), "thin_product", "few contiguous rows of fp32 were expected.");
    auto sizes = x.sizes().vec();
    sizes.back() = weight.size(0);
    out.push_back(at::empty(sizes, x.options()));
    products.push_back({.x = x.const_data_ptr<float>(),
                        .weight = weight.const_data_ptr<float>(),
                        .weight_stride = weight.stride(0),
                        .out = out.back().data_ptr<float>(),
                        .rows = x.numel() / depth,
                        .columns = weight.size(0),
                        .depth = depth});
    first_tile.push_back(first_tile.back() + (weight.size(0) + kTile - 1) / kTile);
  }
  const auto packed = at::empty({simd::thin_packed_floats(products.front())}, x.options());
  auto* const rows = packed.data_ptr<float>();
  simd::thin_pack(products.front(), rows);
  const int64_t work = std::max<int64_t>(1, products.front().rows * depth * kTile);
  at::parallel_for(0, first_tile.back(), std::max<int64_t>(1, kGrain / work),
                   [&](int64_t begin, int64_t end) {
                     for (size_t i = 0; i < products.size(); ++i) {
                       const int64_t from = std::max(begin, first_tile[i]) - first_tile[i];
                       const int64_t to = std::min(end, first_tile[i + 1]) - first_tile[i];
                       if (from >= to) continue;
                       simd::thin_product(products[i], rows, from * kTile,
                                          std::min(to * kTile, products[i].columns));
                     }
                   });
  return out;
}

at::Tensor thin_product(const at::Tensor& x, const at::Tensor& weight) {
  return thin_products(x, weight).front();
}

std::vector<at::Tensor> linear_products(const at::Tensor& x, at::ArrayRef<LinearPart> parts) {
  const bool thin = allowed && std::all_of(parts.begin(), parts.end(), [&](const LinearPart& part) {
                      return is_thin_product(x, part.weight);
                    });
  std::vector<at::Tensor> out;
  if (!thin) {
    for (const auto& [weight, bias] : parts) out.push_back(linear_map(x, weight, bias));
    return out;
  }
  std::vector<at::Tensor> weights;
  for (const auto& part : parts) weights.push_back(part.weight);
  out = thin_products(x, weights);
  for (size_t i = 0; i < out.size(); ++i) {
    if (parts[i].bias.defined()) out[i].add_(parts[i].bias);
  }
  return out;
}

at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return linear_products(x, LinearPart{weight, bias}).front();
}

ThinProductScope::ThinProductScope() : before_(allowed) { allowed = true; }
ThinProductScope::~ThinProductScope() { allowed = before_; }

}  // namespace rlhf
