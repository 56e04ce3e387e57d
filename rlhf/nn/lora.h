// A low-rank adapter of one frozen matrix: two thin matrices that are trained in its place.
//
//   LoRA    y = W x + b + s·B A drop(x)              Hu et al., arXiv 2106.09685
//           s = α / r; rsLoRA: s = α / √r            Kalajdzievski, arXiv 2312.03732
//   DoRA    y = c ∘ (W x + s·B A x) + b              Liu et al., arXiv 2402.09353
//           c = m / ‖W + s·B A‖, a norm for each output, taken as a constant in the backward (its
//           section 4.3). With dropout, as PEFT computes it:
//           y = W x + b + (c − 1) ∘ (W drop(x)) + c ∘ (s·B A drop(x))
//
// The forward adds s·B(A x) to the product of the frozen layer in place, and the backward is
// written by hand: it keeps x (which the layers that share it keep once) and A x (T, r), for DoRA
// also W x + s·B A x, and never a gradient of W. Where B is zero and m the norm of W, y equals the
// frozen layer's output bit for bit. The layer's matrix may be stored either way (Linear).
//
// Types: A, B and m may be wider than x and W (fp32 beside bfloat16); the adapter's part is then
// computed in the wider type and y rounded to the type of x.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace rlhf {

struct Linear;

/// Names the dropout of one forward pass in training: row t of it is token `first_token` + t of
/// step `step`, or + rows[t] where only some rows of a pass are computed. A mask depends on these, on
/// the module and on the element, and on nothing else: recomputation and any cut of a step into passes
/// give the same one. But where a cut takes a group of answers apart, each pass counts their prompt
/// once more, and the tokens behind it have other numbers.
struct DropoutKey {
  uint64_t seed = 0;
  uint64_t step = 0;
  int64_t first_token = 0;
  at::Tensor rows = {};  ///< int64, or undefined
};

/// The adapter of one Linear of `in` inputs and `out` outputs.
struct Lora {
  at::Tensor a;          ///< (r, in)
  at::Tensor b;          ///< (out, r)
  at::Tensor magnitude;  ///< (out); DoRA only, else undefined
  double scale = 1.0;    ///< s
  double dropout = 0.0;  ///< share of the adapter's inputs that is dropped, in [0, 1)
  uint64_t stream = 0;   ///< of its dropout: tells modules apart
};

/// α / r, or α / √r for rsLoRA.
double lora_scale(double alpha, int64_t r, bool rslora);

/// PEFT's initial values: A uniform in ±1/√in (Kaiming's rule with a = √5), B zero; for DoRA the
/// magnitudes are the norms of the frozen matrix. (r, in) float32; `seed` and `stream` name its
/// random numbers.
at::Tensor initial_lora_a(int64_t r, int64_t in, uint64_t seed, uint64_t stream);

/// x (T, in) to (T, out) through the frozen layer and its adapter. Differentiable in x, A, B and m.
/// `dropout` is null outside training. Error where the frozen matrix requires a gradient.
at::Tensor lora_linear(const Linear& frozen, const Lora& lora, const at::Tensor& x,
                       const DropoutKey* dropout);

/// ‖W + s·B A‖ of each output, (out), in the type of A. No gradient.
at::Tensor lora_weight_norm(const Linear& frozen, const Lora& lora);

/// W + s·B A, for DoRA c ∘ (W + s·B A): what the frozen layer would have to hold to do without the
/// adapter. Computed in fp32 (double in a double model), returned so, stored as W is.
at::Tensor merged_weight(const Linear& frozen, const Lora& lora);

/// What dropout multiplies an adapter's input (T, in) with: 0, or 1 / (1 − p) with p rounded to a
/// multiple of 2⁻¹⁶. `options`: fp32 or fp64, and the device.
at::Tensor dropout_mask(int64_t tokens, const Lora& lora, const DropoutKey& key,
                        const at::TensorOptions& options);

namespace reference {
/// The formulas above, differentiated by autograd.
at::Tensor lora_linear(const Linear& frozen, const Lora& lora, const at::Tensor& x,
                       const DropoutKey* dropout);
}  // namespace reference

}  // namespace rlhf
