#include "rlhf/kernels/thin_product_simd.h"

#include <algorithm>

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/kernels/thin_product_simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// kColumns rows of the matrix against kRows rows of x: as many sums as fit the registers.
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
    for (int c = 0; c < kColumns; ++c) columns[c] = hn::LoadU(d, w + c * product.weight_stride + k);
    for (int r = 0; r < kRows; ++r) {
      const V own = hn::LoadU(d, x + r * product.depth + k);
      for (int c = 0; c < kColumns; ++c) sums[r][c] = hn::MulAdd(own, columns[c], sums[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      float sum = hn::GetLane(hn::SumOfLanes(d, sums[r][c]));
      for (int64_t i = k; i < product.depth; ++i)
        sum += x[r * product.depth + i] * w[c * product.weight_stride + i];
      product.out[(row + r) * product.columns + column + c] = sum;
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
