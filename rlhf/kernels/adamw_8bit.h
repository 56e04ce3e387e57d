// One AdamW step with both moments kept in 8 bits, in place: 2 + 8/256 bytes a number in place of 8.
//
// Each block of 256 numbers is taken to fp32, stepped as adamw.h says, and quantised anew:
//
//   m = S[code_m] · a_m,   v = U[code_v] · a_v        S: the signed map, U: the unsigned one
//   p, m, v ← AdamW(p, g, m, v)                       in fp32, with this step's own m and v
//   a_m ← max |m|,  code_m ← S⁻¹(m / a_m),            as quantise.h does it
//   a_v ← max v,    code_v ← U⁻¹(v / a_v)
//
// Where v is below 1.6·10^−7 of its block's largest it is lost, and the next step divides by that
// step's gradient alone. Rows of an embedding whose tokens did not come up are such: their gradient
// is 0, and their m would be divided by ε. They want moments in 32 bits.
//
// Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861); as
// bitsandbytes, of which the order of operations within fp32 is not kept.
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/kernels/adamw.h"

namespace rlhf {

/// The moments of one tensor; all zeros at first.
struct Moments8bit {
  at::Tensor exp_avg;            // the parameter's shape, uint8
  at::Tensor exp_avg_absmax;     // (blocks), fp32
  at::Tensor exp_avg_sq;         // the parameter's shape, uint8
  at::Tensor exp_avg_sq_absmax;  // (blocks), fp32
};

/// Changes parameter and moments in place; the gradient stays, of whatever type. The parameter, or
/// where it is kept below fp32 its `master`, which is then rounded into it, is in fp32. Beside them it
/// takes 5 KiB a thread (a gradient that is not contiguous is copied), and the result is the same for
/// every thread count. No gradient is recorded. Error on shapes or types that do not fit.
void adamw_8bit_step(const at::Tensor& parameter, const at::Tensor& gradient,
                     const Moments8bit& moments, const AdamWStep& step,
                     const at::Tensor& master = {});

namespace reference {
void adamw_8bit_step(const at::Tensor& parameter, const at::Tensor& gradient,
                     const Moments8bit& moments, const AdamWStep& step,
                     const at::Tensor& master = {});
}  // namespace reference

}  // namespace rlhf
