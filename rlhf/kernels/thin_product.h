// Products of few rows with a large matrix: what decoding is made of.
//
//   out (M, N) = x (M, K) · Wᵀ,   W (N, K), its rows contiguous
//
// With M of a few dozen the matrix is read once and its bytes are the bound; general products read
// it at a fraction of the memory's speed there (docs/negative-results.md has the measurements).
// Every element is one chain of fused multiply-adds in an order that depends on K alone: a row gives
// the same bits whatever rows stand beside it, on any number of threads.
//
// It is for sampling alone: a pass that is compared with another, or with its own gradient, must take
// the same products whether gradients are on or off.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace rlhf {

/// Most rows for which this is the faster way.
inline constexpr int64_t kThinRows = 48;

/// Lets linear_product() go this way on this thread, for as long as it lives.
class ThinProductScope {
 public:
  ThinProductScope();
  ~ThinProductScope();
  ThinProductScope(const ThinProductScope&) = delete;
  ThinProductScope& operator=(const ThinProductScope&) = delete;

 private:
  bool before_;
};

/// Whether thin_product takes these: fp32 on the CPU, contiguous rows, at most kThinRows of x, and
/// no gradient is asked for.
bool is_thin_product(const at::Tensor& x, const at::Tensor& weight);

/// x (…, K), weights (N, K): (…, N) each. At once, so that threads meet once and x is laid out once;
/// a product is the same bits alone. Not differentiable. Error unless is_thin_product() of each.
std::vector<at::Tensor> thin_products(const at::Tensor& x, at::ArrayRef<at::Tensor> weights);
at::Tensor thin_product(const at::Tensor& x, const at::Tensor& weight);

/// A product of linear_products(): a matrix (N, K), and a bias (N) where there is one.
struct LinearPart {
  at::Tensor weight;
  at::Tensor bias = {};
};

/// x · weightᵀ + bias of each part; differentiable: thin within a ThinProductScope where all can be,
/// else linear_map() (kernels/weight_gradient.h).
std::vector<at::Tensor> linear_products(const at::Tensor& x, at::ArrayRef<LinearPart> parts);
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight,
                          const at::Tensor& bias = {});

}  // namespace rlhf
