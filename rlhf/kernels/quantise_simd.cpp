#include "rlhf/kernels/quantise_simd.h"

#include <algorithm>

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/kernels/quantise_simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "rlhf/kernels/lanes-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {

// The formula of dynamic_map.h. A code's distance from the one of zero (unsigned: from the one
// before it) is 2^i + k (2^(i+1) + k): as a float, its exponent is the decade and its mantissa the
// fraction.
template <bool kSigned, class D, class V>
HWY_INLINE hn::Vec<D> values_of(D d, hn::Vec<D> decades, V code) {
  const hn::RebindToSigned<D> whole;
  const auto from_zero = hn::Add(code, hn::Set(whole, kSigned ? -127 : 1));
  const auto bits = hn::BitCast(whole, hn::ConvertTo(d, hn::Abs(from_zero)));
  const auto exponent = hn::ShiftRight<23>(bits);
  const auto mantissa = hn::Or(hn::And(bits, hn::Set(whole, 0x7FFFFF)), hn::Set(whole, 127 << 23));
  const auto start = hn::Sub(hn::BitCast(d, mantissa), hn::Set(d, 1.0F));
  // ½ / 2^i
  const auto half = hn::BitCast(d, hn::ShiftLeft<23>(hn::Sub(hn::Set(whole, 253), exponent)));
  const auto decade =
      hn::And(hn::Sub(exponent, hn::Set(whole, kSigned ? 127 : 128)), hn::Set(whole, 7));
  const auto scale = hn::TableLookupLanes(decades, hn::IndicesFromVec(d, decade));
  const auto bracket = hn::MulAdd(hn::Add(start, half), hn::Set(d, 0.9F), hn::Set(d, 0.1F));
  auto value = hn::Mul(scale, bracket);
  if constexpr (kSigned) {
    const auto sign = hn::And(from_zero, hn::Set(whole, hwy::LimitsMin<int32_t>()));
    value = hn::Or(value, hn::BitCast(d, sign));
    value = hn::IfThenZeroElse(hn::RebindMask(d, hn::Eq(from_zero, hn::Zero(whole))), value);
  }
  return hn::IfThenElse(hn::RebindMask(d, hn::Eq(code, hn::Set(whole, 255))), hn::Set(d, 1.0F),
                        value);
}

template <bool kSigned>
HWY_INLINE void dequantise_block(const float* HWY_RESTRICT values,
                                 const uint8_t* HWY_RESTRICT codes, float absmax,
                                 float* HWY_RESTRICT out, int64_t n) {
  const hn::ScalableTag<float> d;
  int64_t i = 0;
  if constexpr (hn::MaxLanes(d) >= 8 && hn::MaxLanes(d) <= 16) {
    alignas(64) float padded[16] = {};
    std::copy(DynamicMap::kDecades.begin(), DynamicMap::kDecades.end(), padded);
    const auto decades = hn::Load(d, padded);
    const hn::RebindToSigned<decltype(d)> whole;
    const hn::Rebind<uint8_t, decltype(d)> narrow;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    for (; i + lanes <= n; i += lanes) {
      const auto code = hn::PromoteTo(whole, hn::LoadU(narrow, codes + i));
      const auto value = values_of<kSigned>(d, decades, code);
      hn::StoreU(hn::Mul(value, hn::Set(d, absmax)), d, out + i);
    }
  }
  for (; i < n; ++i) out[i] = values[codes[i]] * absmax;
}

HWY_INLINE float largest_size(const float* HWY_RESTRICT x, int64_t n) {
  const hn::ScalableTag<float> wide;
  auto most = hn::Zero(wide);
  float single = 0.0F;
  for_lanes<float>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto size = hn::Abs(hn::LoadU(d, x + i));
    if constexpr (std::is_same_v<decltype(d), hn::ScalableTag<float>>) {
      most = hn::Max(most, size);
    } else {
      single = std::max(single, hn::GetLane(size));
    }
  });
  return std::max(single, hn::GetLane(hn::MaxOfLanes(wide, most)));
}

// Of each x / divisor its bits and its cell in the table of dynamic_map.h. What is not finite stays
// within the table.
template <bool kSigned>
HWY_INLINE float find_cells(const float* HWY_RESTRICT x, int32_t* HWY_RESTRICT bits,
                            int32_t* HWY_RESTRICT cells, int64_t n) {
  constexpr int kShift = DynamicMap::shift(kSigned);
  constexpr int32_t kFirst = first_cell(kShift);
  constexpr int32_t kLast = last_cell(kShift);
  const float absmax = largest_size(x, n);
  const float divisor = absmax > 0.0F ? absmax : 1.0F;
  for_lanes<float>(n, [&](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> whole;
    const auto u = hn::BitCast(whole, hn::Div(hn::LoadU(d, x + i), hn::Set(d, divisor)));
    const auto size = hn::And(u, hn::Set(whole, 0x7FFFFFFF));
    auto cell = hn::Max(hn::ShiftRight<kShift>(size), hn::Set(whole, kFirst));
    cell = hn::Sub(hn::Min(cell, hn::Set(whole, kLast)), hn::Set(whole, kFirst));
    if constexpr (kSigned) {
      const auto behind = hn::And(hn::BroadcastSignBit(u), hn::Set(whole, kLast - kFirst + 1));
      cell = hn::Add(cell, behind);
    }
    hn::StoreU(u, whole, bits + i);
    hn::StoreU(cell, whole, cells + i);
  });
  return absmax;
}

// The cell's code, and one step away from zero where the lower bits lie beyond its bound.
template <bool kSigned>
HWY_INLINE void read_cells(const int32_t* HWY_RESTRICT bits, const int32_t* HWY_RESTRICT entries,
                           uint8_t* HWY_RESTRICT codes, int64_t n) {
  constexpr int32_t kLow = (1 << DynamicMap::shift(kSigned)) - 1;
  for_lanes<float>(n, [&](auto d, int64_t i) HWY_ATTR {
    const hn::RebindToSigned<decltype(d)> whole;
    const hn::Rebind<uint8_t, decltype(d)> narrow;
    const auto u = hn::LoadU(whole, bits + i);
    const auto entry = hn::LoadU(whole, entries + i);
    auto step = hn::Set(whole, 1);
    if constexpr (kSigned) step = hn::Or(hn::BroadcastSignBit(u), step);
    const auto beyond = hn::Gt(hn::And(u, hn::Set(whole, kLow)), hn::ShiftRight<8>(entry));
    const auto start = hn::And(entry, hn::Set(whole, 0xFF));
    const auto code = hn::Add(start, hn::IfThenElseZero(beyond, step));
    hn::StoreU(hn::DemoteTo(narrow, code), narrow, codes + i);
  });
}

void dequantise_signed(const float* values, const uint8_t* codes, float absmax, float* out,
                       int64_t n) {
  dequantise_block<true>(values, codes, absmax, out, n);
}
void dequantise_unsigned(const float* values, const uint8_t* codes, float absmax, float* out,
                         int64_t n) {
  dequantise_block<false>(values, codes, absmax, out, n);
}
float find_signed(const float* x, int32_t* bits, int32_t* cells, int64_t n) {
  return find_cells<true>(x, bits, cells, n);
}
float find_unsigned(const float* x, int32_t* bits, int32_t* cells, int64_t n) {
  return find_cells<false>(x, bits, cells, n);
}
void read_signed(const int32_t* bits, const int32_t* entries, uint8_t* codes, int64_t n) {
  read_cells<true>(bits, entries, codes, n);
}
void read_unsigned(const int32_t* bits, const int32_t* entries, uint8_t* codes, int64_t n) {
  read_cells<false>(bits, entries, codes, n);
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::simd {
HWY_EXPORT(dequantise_signed);
HWY_EXPORT(dequantise_unsigned);
HWY_EXPORT(find_signed);
HWY_EXPORT(find_unsigned);
HWY_EXPORT(read_signed);
HWY_EXPORT(read_unsigned);

void dequantise(const DynamicMap& map, const uint8_t* codes, float absmax, float* out, int64_t n) {
  const float* values = map.values.data();
  if (map.is_signed) {
    HWY_DYNAMIC_DISPATCH(dequantise_signed)(values, codes, absmax, out, n);
  } else {
    HWY_DYNAMIC_DISPATCH(dequantise_unsigned)(values, codes, absmax, out, n);
  }
}

float quantise(const DynamicMap& map, const float* x, uint8_t* codes, int64_t n) {
  alignas(64) int32_t bits[kQuantisedBlock];
  alignas(64) int32_t cells[kQuantisedBlock];
  const float absmax = map.is_signed ? HWY_DYNAMIC_DISPATCH(find_signed)(x, bits, cells, n)
                                     : HWY_DYNAMIC_DISPATCH(find_unsigned)(x, bits, cells, n);
  // One number at a time: gathers are no faster, and slow on CPUs whose microcode guards them.
  const int32_t* table = map.cells.data();
  for (int64_t i = 0; i < n; ++i) cells[i] = table[cells[i]];
  if (map.is_signed) {
    HWY_DYNAMIC_DISPATCH(read_signed)(bits, cells, codes, n);
  } else {
    HWY_DYNAMIC_DISPATCH(read_unsigned)(bits, cells, codes, n);
  }
  return absmax;
}

}  // namespace rlhf::simd
#endif  // HWY_ONCE
