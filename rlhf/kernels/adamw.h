// One AdamW step on one tensor, in place, exactly as torch.optim.AdamW (neither amsgrad nor
// maximize):
//
//   g ← c·g                                  c: the clip coefficient of the whole step's gradient
//   p ← p·(1 − lr·λ)
//   m ← m + (1 − β1)(g − m),   v ← β2·v + (1 − β2)·g²
//   p ← p − lr/(1 − β1ᵗ) · m / (√v / √(1 − β2ᵗ) + ε)
//
// Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (arXiv 1711.05101),
// algorithm 2.
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

struct AdamWStep {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0.0;      ///< λ
  double bias_correction1 = 1.0;  ///< 1 − β1ᵗ, t from 1
  double bias_correction2 = 1.0;  ///< 1 − β2ᵗ
  double grad_scale = 1.0;        ///< c
};

/// Changes parameter, exp_avg (m) and exp_avg_sq (v) in place; the gradient stays. Where the
/// parameter is kept below fp32, `master` is its fp32 original: the step is taken there and rounded
/// into the parameter; m and v have the master's type. No gradient is recorded. Error on shapes or
/// types that do not fit.
void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& exp_avg,
                const at::Tensor& exp_avg_sq, const AdamWStep& step, const at::Tensor& master = {});

/// Σ x² in double over blocks of a fixed size, in order: the same number for every thread count. 0
/// if undefined.
double sum_of_squares(const at::Tensor& x);

namespace reference {
void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& exp_avg,
                const at::Tensor& exp_avg_sq, const AdamWStep& step, const at::Tensor& master = {});
double sum_of_squares(const at::Tensor& x);
}  // namespace reference

}  // namespace rlhf
