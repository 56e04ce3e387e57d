// The dynamic 8-bit numbers: 256 values in [−1, 1] that keep a relative precision over seven decades.
//
// A code is a sign bit, a dynamic exponent (zeros up to the first one) and a linear fraction of the
// bits that are left: each decade towards zero has one bit of fraction less. Without a sign its bit
// goes to the fraction.
//
//   signed    0, 1 and ±10^(i−6) · (0.1 + 0.9 (k + ½) / 2^i)        i = 0 … 6, k = 0 … 2^i − 1
//   unsigned  0, 1 and  10^(i−6) · (0.1 + 0.9 (k + ½) / 2^(i+1))    i = 0 … 6, k = 0 … 2^(i+1) − 1
//
// They are computed as they stand there, in fp32, the bracket as one fused operation.
//
// Sources: Dettmers, 8-bit Approximations for Parallelism in Deep Learning (arXiv 1511.04561);
// Dettmers et al., 8-bit Optimizers via Block-wise Quantization (arXiv 2110.02861), section 2.1 and
// appendix; the values are bitsandbytes' create_dynamic_map (0.50), where fp32 rounds on the way.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace rlhf {

/// Numbers that share a factor (quantise.h).
inline constexpr int64_t kQuantisedBlock = 256;

struct DynamicMap {
  /// 10^(i−6); behind them a zero.
  static constexpr std::array<float, 8> kDecades = {1e-6F, 1e-5F, 1e-4F, 1e-3F,
                                                    1e-2F, 1e-1F, 1.0F,  0.0F};
  /// What a cell of the search table leaves of a number's bits: the fewer, the more cells. With
  /// these no cell holds more than one bound.
  static constexpr int shift(bool is_signed) { return is_signed ? 17 : 16; }
  /// Numbers below 2^kLowestExponent are nearest to zero.
  static constexpr int kLowestExponent = -23;

  bool is_signed = true;
  std::array<float, 256> values{};  ///< ascending
  /// The largest number whose nearest value is values[i]: the middle between two values, itself
  /// nearer to neither, belongs to the lower one. The last is infinite.
  std::array<float, 256> bounds{};
  /// The code of u by its bits without the sign, a cell for each value of the bits above the shift:
  /// the code at the cell's start, and above its 8 bits the last of the bits below the shift that
  /// has it. Beyond, the code is the next one away from zero. Signed: negative numbers' cells follow
  /// the positive ones'.
  std::vector<int32_t> cells;

  /// The code of the value nearest to u, by search over the bounds.
  uint8_t nearest(float u) const;
};

const DynamicMap& signed_dynamic_map();
const DynamicMap& unsigned_dynamic_map();

/// First and last cell of the positive numbers, as bits above the shift.
constexpr int32_t first_cell(int shift) {
  return ((127 + DynamicMap::kLowestExponent) << 23) >> shift;
}
constexpr int32_t last_cell(int shift) { return (127 << 23) >> shift; }

}  // namespace rlhf
