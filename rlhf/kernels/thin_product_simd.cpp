// A row of x is a lane, an element of the matrix is broadcast to all of them: every sum is one chain
// in the order of k, whatever the width of the vectors, and nothing is folded at the end. The matrix
// is read once, from one end to the other, while the next tile is asked for; x, laid out in the order
// it is read, streams from the second-level cache.
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

// Lanes of a whole vector, and the columns whose sums fit the registers beside one, two or three.
inline constexpr int kWhole = static_cast<int>(hn::MaxLanes(hn::CappedTag<float, 16>()));
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64  // 32 vector registers
inline constexpr int kColumnsBeside[4] = {0, 8, 12, 8};
#else  // 16
inline constexpr int kColumnsBeside[4] = {0, 8, 6, 4};
#endif

// Rows of x that go through the registers together: (depth, vectors · lanes) in the packed layout,
// missing rows zeros.
struct Panel {
  int64_t vectors;
  int64_t lanes;
  int64_t width() const { return vectors * lanes; }
};

// What takes the first of `rows` rows: narrow vectors for few, as their lanes would be read for nothing.
Panel panel_of(int64_t rows) {
  if (rows > kWhole) return {std::min<int64_t>(3, (rows + kWhole - 1) / kWhole), kWhole};
  return {1, std::min<int64_t>(kWhole, rows == 1 ? 1 : rows <= 4 ? 4 : rows <= 8 ? 8 : 16)};
}

// Calls step(panel, row, floats before it in the packed layout) for all panels.
template <class Step>
HWY_INLINE void for_panels(const ThinProduct& product, Step step) {
  int64_t floats = 0;
  for (int64_t row = 0; row < product.rows;) {
    const Panel panel = panel_of(product.rows - row);
    step(panel, row, floats);
    row += panel.width();
    floats += panel.width() * product.depth;
  }
}

int64_t PackedFloats(const ThinProduct& product) {
  int64_t floats = 0;
  for_panels(product, [&](Panel panel, int64_t, int64_t before) {
    floats = before + panel.width() * product.depth;
  });
  return floats;
}

// to[k · width + r] = from[r · depth + k] for the first `depth` / 4 · 4 of k and four r. Returns them.
HWY_INLINE int64_t transpose_four(const float* HWY_RESTRICT from, int64_t depth,
                                  float* HWY_RESTRICT to, int64_t width) {
#if HWY_TARGET == HWY_SCALAR
  (void)from, (void)depth, (void)to, (void)width;
  return 0;
#else
  const hn::FixedTag<float, 4> d;
  int64_t k = 0;
  for (; k + 4 <= depth; k += 4) {
    const auto a = hn::LoadU(d, from + k);
    const auto b = hn::LoadU(d, from + depth + k);
    const auto c = hn::LoadU(d, from + 2 * depth + k);
    const auto e = hn::LoadU(d, from + 3 * depth + k);
    const auto low_ab = hn::InterleaveLower(d, a, b);
    const auto low_ce = hn::InterleaveLower(d, c, e);
    const auto high_ab = hn::InterleaveUpper(d, a, b);
    const auto high_ce = hn::InterleaveUpper(d, c, e);
    hn::StoreU(hn::ConcatLowerLower(d, low_ce, low_ab), d, to + k * width);
    hn::StoreU(hn::ConcatUpperUpper(d, low_ce, low_ab), d, to + (k + 1) * width);
    hn::StoreU(hn::ConcatLowerLower(d, high_ce, high_ab), d, to + (k + 2) * width);
    hn::StoreU(hn::ConcatUpperUpper(d, high_ce, high_ab), d, to + (k + 3) * width);
  }
  return k;
#endif
}

void Pack(const ThinProduct& product, float* HWY_RESTRICT packed) {
  const int64_t depth = product.depth;
  for_panels(product, [&](Panel panel, int64_t first, int64_t before) {
    float* HWY_RESTRICT to = packed + before;
    const int64_t width = panel.width();
    const int64_t rows = std::min(width, product.rows - first);
    const float* HWY_RESTRICT from = product.x + first * depth;
    if (rows < width) std::fill(to, to + width * depth, 0.0F);
    for (int64_t r = 0; r < rows;) {
      const bool four = r + 4 <= rows;
      int64_t k = four ? transpose_four(from + r * depth, depth, to + r, width) : 0;
      const int64_t end = four ? r + 4 : r + 1;
      for (; k < depth; ++k) {
        for (int64_t row = r; row < end; ++row) to[k * width + row] = from[row * depth + k];
      }
      r = end;
    }
  });
}

// Rows [row, row + kVectors · kLanes) against kColumns columns from `column`.
template <int kLanes, int kVectors, int kColumns>
HWY_INLINE void thin_tile(const ThinProduct& product, const float* HWY_RESTRICT x, int64_t row,
                          int64_t column) {
  const hn::CappedTag<float, kLanes> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t stride = product.weight_stride;
  const float* HWY_RESTRICT w = product.weight + column * stride;
  const float* next = w + kColumns * stride;
  V sums[kColumns][kVectors];
  for (auto& column_sums : sums) {
    for (V& sum : column_sums) sum = hn::Zero(d);
  }
  const auto step = [&](int64_t k) HWY_ATTR {
    V own[kVectors];
    for (int v = 0; v < kVectors; ++v) own[v] = hn::LoadU(d, x + (k * kVectors + v) * kLanes);
    for (int c = 0; c < kColumns; ++c) {
      const V weight = hn::Set(d, w[c * stride + k]);
      for (int v = 0; v < kVectors; ++v) sums[c][v] = hn::MulAdd(own[v], weight, sums[c][v]);
    }
  };
  int64_t k = 0;
  for (; k + 2 <= product.depth; k += 2) {
    // Rows of the matrix are too short for the processor to see the next ones coming.
    constexpr int kLine = 64 / sizeof(float);
    for (int i = 0; i < 2 * kColumns; i += kLine) hwy::Prefetch(next + i);
    next += 2 * kColumns;
    step(k);
    step(k + 1);
  }
  if (k < product.depth) step(k);
  HWY_ALIGN float tile[kColumns][kVectors * kLanes];
  for (int c = 0; c < kColumns; ++c) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[c][v], d, tile[c] + v * kLanes);
  }
  const int64_t rows = std::min<int64_t>(kVectors * kLanes, product.rows - row);
  for (int64_t r = 0; r < rows; ++r) {
    float* HWY_RESTRICT out = product.out + (row + r) * product.columns + column;
    for (int c = 0; c < kColumns; ++c) out[c] = tile[c][r];
  }
}

template <int kLanes, int kVectors>
void thin_rows(const ThinProduct& product, const float* x, int64_t row, int64_t begin,
               int64_t end) {
  constexpr int kColumns = kColumnsBeside[kVectors];
  int64_t column = begin;
  for (; column + kColumns <= end; column += kColumns)
    thin_tile<kLanes, kVectors, kColumns>(product, x, row, column);
  for (; column < end; ++column) thin_tile<kLanes, kVectors, 1>(product, x, row, column);
}

void thin_panel(const ThinProduct& product, Panel panel, const float* x, int64_t row, int64_t begin,
                int64_t end) {
  if (panel.vectors == 3) return thin_rows<kWhole, 3>(product, x, row, begin, end);
  if (panel.vectors == 2) return thin_rows<kWhole, 2>(product, x, row, begin, end);
  if (panel.lanes == kWhole) return thin_rows<kWhole, 1>(product, x, row, begin, end);
  if constexpr (kWhole > 8) {
    if (panel.lanes == 8) return thin_rows<8, 1>(product, x, row, begin, end);
  }
  if constexpr (kWhole > 4) {
    if (panel.lanes == 4) return thin_rows<4, 1>(product, x, row, begin, end);
  }
  thin_rows<1, 1>(product, x, row, begin, end);
}

void ThinProductOf(const ThinProduct& product, const float* packed, int64_t begin, int64_t end) {
  // Rows of the matrix that wait in the second-level cache for the next panel.
  constexpr int64_t kFloats = 32768;
  const int64_t block =
      std::max(kThinColumns, kFloats / product.depth / kThinColumns * kThinColumns);
  for (int64_t column = begin; column < end; column += block) {
    for_panels(product, [&](Panel panel, int64_t row, int64_t before) {
      thin_panel(product, panel, packed + before, row, column, std::min(column + block, end));
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::simd {
HWY_EXPORT(PackedFloats);
HWY_EXPORT(Pack);
HWY_EXPORT(ThinProductOf);

int64_t thin_packed_floats(const ThinProduct& product) {
  return HWY_DYNAMIC_DISPATCH(PackedFloats)(product);
}

void thin_pack(const ThinProduct& product, float* packed) {
  HWY_DYNAMIC_DISPATCH(Pack)(product, packed);
}

void thin_product(const ThinProduct& product, const float* packed, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(ThinProductOf)(product, packed, begin, end);
}

}  // namespace rlhf::simd
#endif
