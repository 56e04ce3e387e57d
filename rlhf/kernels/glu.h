// Gated linear units, the element-wise middle of an MLP: y = act(gate) · up.
//
//   silu       x · σ(x)                                          SwiGLU: llama, qwen, mistral
//   gelu_tanh  ½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))          GeGLU as gemma computes it
//   gelu       ½ x (1 + erf(x / √2))
//
// Source: Shazeer, GLU Variants Improve Transformer (arXiv 2002.05202).
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

enum class GluActivation { silu, gelu_tanh, gelu };

/// gate and up of one shape (..., F), as a rule two outputs or the two halves of one product.
/// Differentiable in both. Returns a contiguous tensor of that shape. Error when the shapes or
/// types differ. `gelu` has no fused form.
at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, GluActivation activation);

/// glu with silu.
inline at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return glu(gate, up, GluActivation::silu);
}

/// The two halves of glu's graph, for functions that make the product again in place of keeping it
/// (nn/remade_input.h). Without a graph; where has_glu_kernel() says so.
at::Tensor glu_forward(const at::Tensor& gate, const at::Tensor& up, GluActivation activation);
struct GluGradients {
  at::Tensor gate, up;
};
GluGradients glu_backward(const at::Tensor& gradient, const at::Tensor& gate, const at::Tensor& up,
                          GluActivation activation);

/// Whether glu() of such tensors runs in a kernel: fp32 or fp64 on the CPU, and no `gelu`.
bool has_glu_kernel(const at::Tensor& gate, GluActivation activation);

namespace reference {
/// The same in plain torch operations, differentiated by autograd. Any device and floating type.
at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, GluActivation activation);
}  // namespace reference

}  // namespace rlhf
