// The layers a decoder is made of, as plain structs that hold tensors. Which of them a family has,
// and under which name they are stored, is the architecture table's affair (rlhf/models/arch.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <memory>
#include <vector>

#include "rlhf/kernels/glu.h"
#include "rlhf/nn/lora.h"

namespace rlhf {

/// y = x Wᵀ + b, or with an adapter what rlhf/nn/lora.h says.
struct Linear {
  at::Tensor weight;                           ///< (out, in); (in, out) where `transposed`
  at::Tensor bias;                             ///< (out) or undefined
  bool transposed = false;                     ///< the stored matrix is Wᵀ (gpt2's Conv1D)
  std::shared_ptr<const Lora> lora = nullptr;  ///< its adapter, or null

  bool defined() const { return weight.defined(); }
  /// (out, in), whichever way it is stored.
  at::Tensor matrix() const;
  /// x (T, in) to (T, out). `dropout` (null outside training) is the adapter's.
  at::Tensor operator()(const at::Tensor& x, const DropoutKey* dropout = nullptr) const;
};

/// The layer without its adapter, and without its bias where that is asked for.
at::Tensor linear(const Linear& layer, const at::Tensor& x, bool with_bias = true);

enum class NormKind {
  rms,    ///< no mean, no bias
  layer,  ///< mean and variance over the width, with a bias
};

struct Norm {
  NormKind kind = NormKind::rms;
  at::Tensor weight;  ///< (C)
  at::Tensor bias;    ///< (C), layer norm only
  double eps = 1e-6;
  double offset = 0.0;  ///< added to the weight (gemma stores w − 1); rms only

  bool defined() const { return weight.defined(); }
  /// Over the last dimension of x (..., C).
  at::Tensor operator()(const at::Tensor& x) const;
};

/// What several layers make of norm(x), or of x where `norm` has no weight; each the bits of its own
/// call. Together where sampling has few rows (kernels/thin_product.h), and with norm(x) made again
/// in the backward where it can be (nn/remade_input.h).
std::vector<at::Tensor> apply_together(const Norm& norm,
                                       std::initializer_list<const Linear*> layers,
                                       const at::Tensor& x, const DropoutKey* dropout);

/// Gated: down(act(gate x) · up x), with gate and up apart or one above the other in one matrix.
/// Else down(act(up x)).
struct Mlp {
  Linear gate;     ///< undefined where not gated or fused
  Linear gate_up;  ///< (2F, C), gate first; undefined where apart
  Linear up;       ///< undefined where fused
  Linear down;
  GluActivation activation = GluActivation::silu;

  /// x (T, C), through `norm` where it has a weight, to (T, C).
  at::Tensor operator()(const Norm& norm, const at::Tensor& x,
                        const DropoutKey* dropout = nullptr) const;
};

}  // namespace rlhf
