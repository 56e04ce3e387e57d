// A row of x is a lane, an element of the matrix is broadcast to all of them: every sum is one chain
// in the order of k, whatever the width of the vectors, and nothing is folded at the end. The matrix
// is read once, from one end to the other, while the next tile is asked for; x, laid out in the order
// it is read, streams from the second-level cache. A single row takes columns as lanes.
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

// Asks for a line of the matrix, into the second-level cache: the first has no more outstanding
// requests than a tile itself needs (docs/negative-results.md).
HWY_INLINE void ask_for(const float* line) { __builtin_prefetch(line, /*rw=*/0, /*locality=*/2); }

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

#if HWY_TARGET != HWY_SCALAR
// In block b of 128 bits the four floats at from + 4 b · stride.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const float* HWY_RESTRICT from, int64_t stride) {
  constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  if constexpr (kLanes == 4) {
    return hn::LoadU(d, from);
  } else {
    const hn::Half<D> half;
    return hn::Combine(d, load_blocks(half, from + kLanes / 2 * stride, stride),
                       load_blocks(half, from, stride));
  }
}

// A single row against kVectors · kWhole columns from `column`: columns are the lanes, as squares of
// four by four elements are turned over in the registers. The chains of thin_tile(): the same bits.
template <int kVectors>
HWY_INLINE void single_tile(const ThinProduct& product, const float* HWY_RESTRICT x,
                            float* HWY_RESTRICT out, int64_t column) {
  const hn::CappedTag<float, kWhole> d;
  const hn::Repartition<uint64_t, decltype(d)> pairs;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kColumns = kVectors * kWhole;
  const int64_t stride = product.weight_stride;
  const float* HWY_RESTRICT w = product.weight + column * stride;
  const float* next = w + kColumns * stride;
  V sums[kVectors];
  for (V& sum : sums) sum = hn::Zero(d);
  int64_t k = 0;
  for (; k + 4 <= product.depth; k += 4) {
    constexpr int kLine = 64 / sizeof(float);
    for (int i = 0; i < 4 * kColumns; i += kLine) ask_for(next + i);
    next += 4 * kColumns;
    for (int v = 0; v < kVectors; ++v) {
      const float* HWY_RESTRICT from = w + v * kWhole * stride + k;
      const V a = load_blocks(d, from, stride);
      const V b = load_blocks(d, from + stride, stride);
      const V c = load_blocks(d, from + 2 * stride, stride);
      const V e = load_blocks(d, from + 3 * stride, stride);
      const auto low_ab = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
      const auto low_ce = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
      const auto high_ab = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
      const auto high_ce = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
      const V turned[4] = {hn::BitCast(d, hn::InterleaveLower(pairs, low_ab, low_ce)),
                           hn::BitCast(d, hn::InterleaveUpper(pairs, low_ab, low_ce)),
                           hn::BitCast(d, hn::InterleaveLower(pairs, high_ab, high_ce)),
                           hn::BitCast(d, hn::InterleaveUpper(pairs, high_ab, high_ce))};
      for (int i = 0; i < 4; ++i) sums[v] = hn::MulAdd(hn::Set(d, x[k + i]), turned[i], sums[v]);
    }
  }
  for (; k < product.depth; ++k) {
    HWY_ALIGN float weights[kColumns];
    for (int64_t c = 0; c < kColumns; ++c) weights[c] = w[c * stride + k];
    for (int v = 0; v < kVectors; ++v)
      sums[v] = hn::MulAdd(hn::Set(d, x[k]), hn::Load(d, weights + v * kWhole), sums[v]);
  }
  for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, out + column + v * kWhole);
}
#endif

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
    for (int i = 0; i < 2 * kColumns; i += kLine) ask_for(next + i);
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

void single_row(const ThinProduct& product, const float* x, int64_t row, int64_t begin,
                int64_t end) {
  int64_t column = begin;
#if HWY_TARGET != HWY_SCALAR
  float* const out = product.out + row * product.columns;
  for (; column + 2 * kWhole <= end; column += 2 * kWhole) single_tile<2>(product, x, out, column);
  for (; column + kWhole <= end; column += kWhole) single_tile<1>(product, x, out, column);
#endif
  thin_rows<1, 1>(product, x, row, column, end);
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
  single_row(product, x, row, begin, end);
}

void ThinProductOf(const ThinProduct& product, const float* packed, int64_t begin, int64_t end) {
  // Rows of the matrix that wait in the second-level cache for the next panel.
  constexpr int64_t kFloats = 32768;
  const bool one_panel = product.rows <= panel_of(product.rows).width();
  const int64_t block =
      one_panel ? std::max<int64_t>(1, end - begin)
                : std::max(kThinColumns, kFloats / product.depth / kThinColumns * kThinColumns);
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
