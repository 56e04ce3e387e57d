#include "rlhf/kernels/thin_product_simd.h"

#include <algorithm>

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/kernels/thin_product_simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Stores the sums over the blocks of four lanes.
template <class D>
HWY_INLINE void store_block_sums(D d, hn::Vec<D> v, float* HWY_RESTRICT out) {
  if constexpr (hn::MaxLanes(d) > 4) {
    const hn::Half<D> half;
    store_block_sums(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), out);
  } else {
    hn::StoreU(v, d, out);
  }
}

// Stores the sum of each vector's lanes: four at once take a third of the shuffles of one by one.
template <class D, class V>
HWY_INLINE void store_sums(D d, const V (&sums)[4], float* HWY_RESTRICT out) {
  const hn::RepartitionToWide<D> pairs;
  const auto folded = [&](V a, V b) {
    return hn::BitCast(pairs, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  };
  const auto first = folded(sums[0], sums[1]);
  const auto second = folded(sums[2], sums[3]);
  store_block_sums(d,
                   hn::Add(hn::BitCast(d, hn::InterleaveLower(pairs, first, second)),
                           hn::BitCast(d, hn::InterleaveUpper(pairs, first, second))),
                   out);
}
#endif

template <class D, class V, int kColumns>
HWY_INLINE void store_sums(D d, const V (&sums)[kColumns], float* HWY_RESTRICT out) {
  for (int c = 0; c < kColumns; ++c) out[c] = hn::GetLane(hn::SumOfLanes(d, sums[c]));
}

// kColumns rows of the matrix against kRows rows of x: as many sums as fit the registers. Asks for
// the next tile meanwhile: rows of the matrix are too short for the processor to see them coming.
template <int kRows, int kColumns>
HWY_INLINE void thin_tile(const ThinProduct& product, int64_t row, int64_t column) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float* HWY_RESTRICT x = product.x + row * product.depth;
  const float* HWY_RESTRICT w = product.weight + column * product.weight_stride;
  V sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::Zero(d);
  }
  int64_t k = 0;
  for (; k + lanes <= product.depth; k += lanes) {
    V columns[kColumns];
    for (int c = 0; c < kColumns; ++c) {
      columns[c] = hn::LoadU(d, w + c * product.weight_stride + k);
      hwy::Prefetch(w + (c + kColumns) * product.weight_stride + k);
    }
    for (int r = 0; r < kRows; ++r) {
      const V own = hn::LoadU(d, x + r * product.depth + k);
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(own, columns[c], sums[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* HWY_RESTRICT out = product.out + (row + r) * product.columns + column;
    store_sums(d, sums[r], out);
    if (k == product.depth) continue;
    for (int c = 0; c < kColumns; ++c) {
      for (int64_t i = k; i < product.depth; ++i)
        out[c] += x[r * product.depth + i] * w[c * product.weight_stride + i];
    }
  }
}

// kRows rows of x against columns [begin, end): the rows stay in the first-level cache.
template <int kRows>
HWY_INLINE void thin_rows(const ThinProduct& product, int64_t row, int64_t begin, int64_t end) {
  int64_t column = begin;
  for (; column + 4 <= end; column += 4) thin_tile<kRows, 4>(product, row, column);
  for (; column < end; ++column) thin_tile<kRows, 1>(product, row, column);
}

HWY_INLINE void thin_block(const ThinProduct& product, int64_t begin, int64_t end) {
  int64_t row = 0;
  for (; row + 6 <= product.rows; row += 6) thin_rows<6>(product, row, begin, end);
  switch (product.rows - row) {
    case 1:
      return thin_rows<1>(product, row, begin, end);
    case 2:
      return thin_rows<2>(product, row, begin, end);
    case 3:
      return thin_rows<3>(product, row, begin, end);
    case 4:
      return thin_rows<4>(product, row, begin, end);
    case 5:
      return thin_rows<5>(product, row, begin, end);
    default:
      return;
  }
}

void ThinProductOf(const ThinProduct& product, int64_t begin, int64_t end) {
  // Rows of the matrix that wait in the second-level cache for the next rows of x.
  constexpr int64_t kFloats = 32768;
  const int64_t block = std::max<int64_t>(4, kFloats / product.depth / 4 * 4);
  for (int64_t column = begin; column < end; column += block)
    thin_block(product, column, std::min(column + block, end));
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::simd {
HWY_EXPORT(ThinProductOf);

void thin_product(const ThinProduct& product, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ThinProductOf)(product, begin, end);
}

}  // namespace rlhf::simd
#endif
