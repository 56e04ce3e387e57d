// What the forward and the backward pass of the attention kernel share. Included once per vector
// target.
#if defined(RLHF_KERNELS_ATTENTION_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RLHF_KERNELS_ATTENTION_TILES_INL_H_
#undef RLHF_KERNELS_ATTENTION_TILES_INL_H_
#else
#define RLHF_KERNELS_ATTENTION_TILES_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <vector>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "rlhf/kernels/attention_buffers.h"
#include "rlhf/kernels/attention_gemm-inl.h"
#include "rlhf/kernels/attention_kernel.h"

HWY_BEFORE_NAMESPACE();
namespace rlhf::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::ScalableTag<T>;
template <class T>
using Vector = hn::Vec<Tag<T>>;

// What a masked score is set to, and the lowest running maximum: exp(kMasked - kFloor) is 0 and
// nothing overflows.
inline constexpr double kMasked = -1e30;
inline constexpr double kFloor = -1e29;

/// e^x for x <= 0, exactly 0 below -87 (-700 in double): denormals would cost 9 to 38 times as
/// much.
template <class T>
HWY_INLINE Vector<T> exp_negative(Vector<T> x) {
  const Tag<T> d;
  const auto lowest = hn::Set(d, sizeof(T) == 4 ? T{-87} : T{-700});
  return hn::IfThenElseZero(hn::Gt(x, lowest), hn::Exp(d, hn::Max(x, lowest)));
}

#if HWY_TARGET == HWY_SCALAR
template <class T>
constexpr size_t kTransposed = 1;  // rows and columns of a square that registers transpose

template <class T>
HWY_INLINE void transpose_square(const T* const* rows, size_t k, T factor, T* to) {
  to[0] = rows[0][k] * factor;
}
#else
template <class T>
constexpr size_t kTransposed = 16 / sizeof(T);

template <class T>
HWY_INLINE void transpose_square(const T* const* rows, size_t k, T factor, T* to) {
  const hn::FixedTag<T, kTransposed<T>> d;
  const auto scale = hn::Set(d, factor);
  const auto a = hn::Mul(scale, hn::LoadU(d, rows[0] + k));
  const auto b = hn::Mul(scale, hn::LoadU(d, rows[1] + k));
  if constexpr (kTransposed<T> == 2) {
    hn::StoreU(hn::InterleaveLower(d, a, b), d, to);
    hn::StoreU(hn::InterleaveUpper(d, a, b), d, to + kPanel);
  } else {
    const auto c = hn::Mul(scale, hn::LoadU(d, rows[2] + k));
    const auto e = hn::Mul(scale, hn::LoadU(d, rows[3] + k));
    const auto ac_low = hn::InterleaveLower(d, a, c), ac_high = hn::InterleaveUpper(d, a, c);
    const auto be_low = hn::InterleaveLower(d, b, e), be_high = hn::InterleaveUpper(d, b, e);
    hn::StoreU(hn::InterleaveLower(d, ac_low, be_low), d, to);
    hn::StoreU(hn::InterleaveUpper(d, ac_low, be_low), d, to + kPanel);
    hn::StoreU(hn::InterleaveLower(d, ac_high, be_high), d, to + 2 * kPanel);
    hn::StoreU(hn::InterleaveUpper(d, ac_high, be_high), d, to + 3 * kPanel);
  }
}
#endif

/// to[k][r] = rows[r][k] * factor for the kPanel rows of a panel, each of `width` elements.
template <class T>
HWY_INLINE void transpose_panel(const T* const* rows, size_t width, T factor, T* to) {
  constexpr size_t kSquare = kTransposed<T>;
  const size_t whole = width / kSquare * kSquare;
  for (size_t r = 0; r < kPanel; r += kSquare) {
    for (size_t k = 0; k < whole; k += kSquare)
      transpose_square(rows + r, k, factor, to + k * kPanel + r);
    for (size_t k = whole; k < width; ++k) {
      for (size_t i = 0; i < kSquare; ++i) to[k * kPanel + r + i] = rows[r + i][k] * factor;
    }
  }
}

/// Copies a row of D elements and pads it with zeros.
template <class T>
HWY_INLINE void copy_row(const T* from, size_t width, size_t padded, T* to) {
  const Tag<T> d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= width; i += hn::Lanes(d))
    hn::StoreU(hn::LoadU(d, from + i), d, to + i);
  for (; i < width; ++i) to[i] = from[i];
  for (; i < padded; ++i) to[i] = T{0};
}

/// Keys that the rows of a panel see, as indices into the piece's keys: every row sees
/// [latest_begin, earliest_end), no row anything outside [begin, end).
struct Range {
  int64_t begin = 0, latest_begin = 0, earliest_end = 0, end = 0;

  bool masks(int64_t from, int64_t to) const { return from < latest_begin || to > earliest_end; }
};

/// One task's view of its operands.
template <class T>
class TaskBase {
 protected:
  TaskBase(const Problem<T>& problem, const Plan& plan, const Task& task, int64_t key_head)
      : p_(problem),
        plan_(plan),
        task_(task),
        head_(key_head),
        group_(problem.shape.group()),
        width_(static_cast<size_t>(problem.shape.width)),
        padded_(padded_width(problem.shape, sizeof(T))),
        vectors_(padded_ / hn::Lanes(Tag<T>())),
        ranges_(padded_rows(problem.shape) / kPanel) {}

  size_t rows(int64_t tokens) const { return static_cast<size_t>(tokens * group_); }
  int64_t token(int64_t first_token, size_t row) const {
    return first_token + static_cast<int64_t>(row) / group_;
  }
  int64_t query_head(size_t row) const {
    return head_ * group_ + static_cast<int64_t>(row) % group_;
  }

  /// Factor on the queries: scores come out of the inner product as z, or as z / c before the
  /// soft-cap.
  T query_factor() const {
    return static_cast<T>(p_.softcap > 0 ? p_.scale / p_.softcap : p_.scale);
  }

  /// Fills first[] and last[]: row r of the panel sees the keys [first, last) of the piece; rows
  /// that pad it see none.
  Range visible(const Piece& piece, size_t panel, size_t count, T* first, T* last) const {
    const int64_t keys = piece.key_end - piece.key_begin;
    const int64_t key_position = p_.positions[piece.key_begin];
    Range range{keys, 0, keys, 0};
    for (size_t r = 0; r < count; ++r) {
      const int64_t seen = p_.positions[token(piece.query_begin, panel + r)] - key_position + 1;
      const int64_t end = std::clamp<int64_t>(seen, 0, keys);
      const int64_t begin = p_.window > 0 ? std::clamp<int64_t>(seen - p_.window, 0, end) : 0;
      first[r] = static_cast<T>(begin);
      last[r] = static_cast<T>(end);
      if (begin < end) {
        range.begin = std::min(range.begin, begin);
        range.end = std::max(range.end, end);
      }
      range.latest_begin = std::max(range.latest_begin, begin);
      range.earliest_end = std::min(range.earliest_end, end);
    }
    std::fill(first + count, first + kPanel, T{0});
    std::fill(last + count, last + kPanel, T{0});
    if (count < kPanel) range.earliest_end = 0;
    return range;
  }

  const Problem<T>& p_;
  const Plan& plan_;
  const Task& task_;
  int64_t head_;
  int64_t group_;
  size_t width_;
  size_t padded_;
  size_t vectors_;             // of a padded row
  std::vector<Range> ranges_;  // of each panel of the current piece
};

/// Bounds of the visible keys of one vector of query rows.
template <class T>
struct Bounds {
  Vector<T> first, last;

  HWY_INLINE Vector<T> mask(int64_t key, Vector<T> score) const {
    const Tag<T> d;
    const auto index = hn::Set(d, static_cast<T>(key));
    return hn::IfThenElse(hn::And(hn::Ge(index, first), hn::Lt(index, last)), score,
                          hn::Set(d, static_cast<T>(kMasked)));
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::attention
HWY_AFTER_NAMESPACE();

#endif  // once per target
