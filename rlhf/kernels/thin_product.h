// Products of few rows with a large matrix: what decoding is made of.
//
//   out (M, N) = factor · x (M, K) · Wᵀ,   W (N, K), its rows contiguous
//
// With M of a few dozen the matrix is read once and its bytes are the bound; general products read
// it at a fraction of the memory's speed there (docs/negative-results.md has the measurements).
// Every element is one chain of fused multiply-adds in an order that depends on K alone: a row gives
// the same bits whatever rows stand beside it, on any number of threads.
#pragma once

#include <torch/types.h>

namespace rlhf {

/// Most rows for which thin_product is the faster way.
inline constexpr int64_t kThinRows = 48;

/// Whether thin_product takes these: fp32 on the CPU, contiguous rows, at most kThinRows of x, and
/// no gradient is asked for.
bool is_thin_product(const torch::Tensor& x, const torch::Tensor& weight);

/// x (…, K), weight (N, K): (…, N), or into `out` (M, N), whose rows may be a part of wider ones.
/// Not differentiable. Error unless is_thin_product().
torch::Tensor thin_product(const torch::Tensor& x, const torch::Tensor& weight);
void thin_product_out(torch::Tensor& out, const torch::Tensor& x, const torch::Tensor& weight,
                      double factor = 1.0);

}  // namespace rlhf
