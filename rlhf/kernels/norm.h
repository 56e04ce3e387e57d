// Root-mean-square normalisation of rows.
//
//   y_c = (w_c + offset) · x_c · r,   r = 1 / sqrt(mean_c(x_c²) + eps)
//
// Source: Zhang and Sennrich (arXiv 1910.07467); offset 1 is Gemma's form (arXiv 2403.08295).
// Backward, with u_c = g_c · (w_c + offset):
//   dx_c = r · (u_c − x_c · r² · mean_c(u_c x_c)),   dw_c = Σ_rows g_c x_c r
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

/// x (..., C), weight (C). Differentiable in both. Sums over a row are in double for double, else
/// in fp32; lower precision is widened first, and the result has x's type. The weight's gradient is
/// summed over blocks of rows of a fixed size, so it does not depend on the thread count. Error
/// unless weight is as wide as x's rows.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    double weight_offset = 0.0);

/// The two halves of rms_norm's graph, for functions that make y again in place of keeping it
/// (nn/remade_input.h). Without a graph; where has_norm_kernel() says so.
struct Normed {
  at::Tensor y;        ///< (..., C)
  at::Tensor inverse;  ///< (...): r
};
Normed rms_norm_forward(const at::Tensor& x, const at::Tensor& weight, double eps,
                        double weight_offset);
struct NormGradients {
  at::Tensor x, weight;  ///< the latter undefined where it is not wanted
};
NormGradients rms_norm_backward(const at::Tensor& gradient, const at::Tensor& x,
                                const at::Tensor& weight, const at::Tensor& inverse,
                                double weight_offset, bool want_weight);

/// Whether rms_norm() of such tensors runs in a kernel: both fp32 or both fp64, on the CPU.
bool has_norm_kernel(const at::Tensor& x, const at::Tensor& weight);

namespace reference {
/// The same in plain torch operations, differentiated by autograd. Any device and floating type.
/// For types below fp32 it rounds where transformers does: before the weight with offset 0, after
/// it otherwise.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    double weight_offset = 0.0);
}  // namespace reference

}  // namespace rlhf
