// Matrices whose input is cheap to make: the backward makes it again in place of keeping it.
//
//   norm_linears   y_i = rms_norm(x) W_iᵀ + b_i     keeps x, not its norm
//   glu_linear     y = glu(gate, up) Wᵀ + b         keeps gate and up, not their product
//
// Outputs are the bits of the plain composition, and so is what the backward makes again. A layer of
// a Llama keeps a third less by it (train/memory_model.h), for a pass over numbers that the backward
// reads anyhow. After Chen et al. (arXiv 1604.06174), who choose what is recomputed by its price.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "rlhf/kernels/glu.h"

namespace rlhf {

/// What RMS norm is taken with (kernels/norm.h).
struct NormStep {
  at::Tensor weight;  ///< (C)
  double eps = 1e-6;
  double offset = 0.0;
};

/// x (T, C), weights (N_i, C), biases (N_i) of all or of none: (T, N_i) each. Differentiable in x,
/// the norm's weight, weights and biases. For tensors of has_norm_kernel().
std::vector<at::Tensor> norm_linears(const at::Tensor& x, const NormStep& norm,
                                     at::TensorList weights, at::TensorList biases);

/// gate and up (T, F), weight (N, F), bias (N) or undefined: (T, N). Differentiable in all. For
/// tensors of has_glu_kernel().
at::Tensor glu_linear(const at::Tensor& gate, const at::Tensor& up, GluActivation activation,
                      const at::Tensor& weight, const at::Tensor& bias = {});

}  // namespace rlhf
