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

/// x (…, K), weight (N, K): (…, N). Not differentiable. Error unless is_thin_product().
at::Tensor thin_product(const at::Tensor& x, const at::Tensor& weight);

/// x · weightᵀ + bias (N), where there is one; differentiable: thin within a ThinProductScope where
/// it can be, else at::linear.
at::Tensor linear_product(const at::Tensor& x, const at::Tensor& weight,
                          const at::Tensor& bias = {});

}  // namespace rlhf
