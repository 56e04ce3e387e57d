// C += A B on tiles that lie in cache: the inner products of the attention kernel. Included once
// per vector target.
//
// B and C are rows of whole vectors; A may lie either way round, an element's address is a + row *
// a_row + k * a_k. Every element of C is one chain of fused multiply-adds in the order of k,
// whatever the tiling: its bits depend on nothing but its own row of A and column of B.
#if defined(RLHF_KERNELS_ATTENTION_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RLHF_KERNELS_ATTENTION_GEMM_INL_H_
#undef RLHF_KERNELS_ATTENTION_GEMM_INL_H_
#else
#define RLHF_KERNELS_ATTENTION_GEMM_INL_H_
#endif

#include <array>
#include <cstddef>
#include <utility>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace rlhf::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// A tile of C in registers: kTileRows × kTileVectors accumulators, one row of B and one broadcast
// element of A.
inline constexpr size_t kTileRows = 6;
#if HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64  // 32 vector registers
inline constexpr size_t kTileVectors = 4;
#else  // 16
inline constexpr size_t kTileVectors = 2;
#endif

template <class T>
struct Strided {
  const T* data;
  size_t row;  // elements from a row to the next
  size_t k;    // elements from a k to the next
};

template <class T>
struct Rows {
  T* data;
  size_t row;
};

template <class T, size_t kRows, size_t kVectors>
HWY_NOINLINE void gemm_tile(const Strided<T> a, const Rows<const T> b, const Rows<T> c,
                            size_t depth, bool add) {
  const hn::ScalableTag<T> d;
  const size_t lanes = hn::Lanes(d);
  hn::Vec<decltype(d)> sum[kRows][kVectors];
  if (add) {
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v)
        sum[r][v] = hn::LoadU(d, c.data + r * c.row + v * lanes);
    }
  } else {
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::Zero(d);
    }
  }
  const T* a_k = a.data;
  const T* b_k = b.data;
  for (size_t k = 0; k < depth; ++k) {
    hn::Vec<decltype(d)> b_row[kVectors];
    for (size_t v = 0; v < kVectors; ++v) b_row[v] = hn::LoadU(d, b_k + v * lanes);
    for (size_t r = 0; r < kRows; ++r) {
      const auto a_element = hn::Set(d, a_k[r * a.row]);
      for (size_t v = 0; v < kVectors; ++v) sum[r][v] = hn::MulAdd(a_element, b_row[v], sum[r][v]);
    }
    a_k += a.k;
    b_k += b.row;
  }
  for (size_t r = 0; r < kRows; ++r) {
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], d, c.data + r * c.row + v * lanes);
  }
}

template <class T>
using GemmTile = void (*)(Strided<T>, Rows<const T>, Rows<T>, size_t, bool);

template <class T, size_t... kIndex>
constexpr std::array<GemmTile<T>, sizeof...(kIndex)> gemm_tiles(std::index_sequence<kIndex...>) {
  return {gemm_tile<T, kIndex / kTileVectors + 1, kIndex % kTileVectors + 1>...};
}

/// C (rows × vectors) = A B, added to what C holds where `add`. Columns are counted in vectors.
template <class T>
void gemm(size_t rows, size_t vectors, size_t depth, const Strided<T> a, const Rows<const T> b,
          const Rows<T> c, bool add) {
  static constexpr auto kTiles =
      gemm_tiles<T>(std::make_index_sequence<kTileRows * kTileVectors>());
  const size_t lanes = hn::Lanes(hn::ScalableTag<T>());
  // Columns in equal parts: five vectors are 3 + 2, not 4 + 1.
  const size_t parts = (vectors + kTileVectors - 1) / kTileVectors;
  size_t first = 0;
  for (size_t part = 0; part < parts; ++part) {
    const size_t width = (vectors - first + parts - part - 1) / (parts - part);
    for (size_t r = 0; r < rows; r += kTileRows) {
      const size_t height = rows - r < kTileRows ? rows - r : kTileRows;
      const size_t column = first * lanes;
      kTiles[(height - 1) * kTileVectors + width - 1](
          {a.data + r * a.row, a.row, a.k}, {b.data + column, b.row},
          {c.data + r * c.row + column, c.row}, depth, add);
    }
    first += width;
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::attention
HWY_AFTER_NAMESPACE();

#endif  // once per target
