// Rotary position embedding: pairs of channels turned by an angle that grows with the position.
//
//   half-split pairs (c, c + Dr/2), as Hugging Face models:   interleaved pairs (2c, 2c + 1), as
//   GPT-J: y_c        = x_c · cos_c − x_{c+Dr/2} · sin_c             y_2c   = x_2c · cos_c − x_2c+1
//   · sin_c y_{c+Dr/2} = x_{c+Dr/2} · cos_c + x_c · sin_c             y_2c+1 = x_2c+1 · cos_c +
//   x_2c · sin_c
//
// Channels from Dr on pass through (partial rotary). The backward is the same turn by −sin.
// Source: Su et al., RoFormer (arXiv 2104.09864).
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

enum class RotaryPairs { half_split, interleaved };

/// x (T, H, D), cos and sin (T, Dr / 2) with Dr <= D; any scaling of the angles is the caller's.
/// Differentiable in x alone. Returns (T, H, D), contiguous, in x's type. Error on shapes that do
/// not fit.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  RotaryPairs pairs = RotaryPairs::half_split);

namespace reference {
/// The same in plain torch operations, differentiated by autograd. Any device and floating type.
at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  RotaryPairs pairs = RotaryPairs::half_split);
}  // namespace reference

}  // namespace rlhf
