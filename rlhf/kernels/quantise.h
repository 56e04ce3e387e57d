// Block-wise quantisation to 8 bits: 256 numbers, in the order of memory, share one factor.
//
//   a = max |x|  over the block,    code = nearest value of the map to x / a,    x̂ = map[code] · a
//
// x / a is fp32's division; the nearest value is exact, and a number in the middle of two goes to the
// lower one. With e = |x| / a in the decade (10^(i−7), 10^(i−6)] the error is at most
// a · 0.45 · 10^(i−6) / 2^i, half of that in the unsigned map, and below 10^−7 at most a · 10^−7: at
// most 0.7% of a, 0.35% unsigned. A block of zeros has a = 0 and comes back as zeros.
//
// Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861),
// section 2; the maps: dynamic_map.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/kernels/dynamic_map.h"

namespace rlhf {

/// Blocks of kQuantisedBlock numbers; the last may be shorter.
constexpr int64_t quantised_blocks(int64_t numbers) {
  return (numbers + kQuantisedBlock - 1) / kQuantisedBlock;
}

/// Writes codes (uint8, x's shape) and absmax (fp32, (quantised_blocks(numel))) for x (fp32). The
/// unsigned map takes numbers from 0 on. What is not finite makes its block's codes meaningless.
/// Error on shapes or types that do not fit.
void quantise_blockwise(const DynamicMap& map, const at::Tensor& x, const at::Tensor& codes,
                        const at::Tensor& absmax);

/// fp32, of the codes' shape. Error on shapes or types that do not fit.
at::Tensor dequantise_blockwise(const DynamicMap& map, const at::Tensor& codes,
                                const at::Tensor& absmax);

/// Error unless codes and absmax are a quantised tensor of `shape`.
void check_quantised(const at::Tensor& codes, const at::Tensor& absmax, at::IntArrayRef shape);

namespace reference {
void quantise_blockwise(const DynamicMap& map, const at::Tensor& x, const at::Tensor& codes,
                        const at::Tensor& absmax);
at::Tensor dequantise_blockwise(const DynamicMap& map, const at::Tensor& codes,
                                const at::Tensor& absmax);
}  // namespace reference

}  // namespace rlhf
