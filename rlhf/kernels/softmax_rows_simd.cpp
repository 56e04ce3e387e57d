#include "rlhf/kernels/softmax_rows_simd.h"

#include <algorithm>
#include <cmath>
#include <limits>

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/kernels/softmax_rows_simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "rlhf/kernels/lanes-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {
// e^-87 is the last normal float; stored weights below e^-60 are 0, so that no product of them is
// denormal, and squares are taken of what is above e^-40.
constexpr double kLowest = -87.0;
constexpr double kFlush = -60.0;
constexpr double kFlushSquare = -40.0;
constexpr int64_t kBlock = 1024;  // logits met twice while in the first-level cache

// The maximum of z[0, n); NaN if one is in it.
template <class T>
HWY_INLINE T max_of(const T* HWY_RESTRICT z, int64_t n) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto top0 = hn::Set(d, -std::numeric_limits<T>::infinity());
  auto top1 = top0;
  auto odd = hn::IsNaN(top0);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const auto a = hn::LoadU(d, z + i);
    const auto b = hn::LoadU(d, z + i + lanes);
    odd = hn::Or(odd, hn::Or(hn::IsNaN(a), hn::IsNaN(b)));
    top0 = hn::Max(top0, a);
    top1 = hn::Max(top1, b);
  }
  bool nan = !hn::AllFalse(d, odd);
  T top = hn::GetLane(hn::MaxOfLanes(d, hn::Max(top0, top1)));
  for (; i < n; ++i) {
    nan = nan || std::isnan(z[i]);
    top = std::max(top, z[i]);
  }
  return nan ? std::numeric_limits<T>::quiet_NaN() : top;
}

template <class T>
HWY_INLINE void transform_rows(const TransformArgs<T>& args, int64_t begin, int64_t end) {
  const T outer = (args.softcap > 0 ? args.softcap : T{1}) / args.temperature;
  const T inner = args.scale / (args.softcap > 0 ? args.softcap : T{1});
  for (int64_t r = begin; r < end; ++r) {
    T* HWY_RESTRICT z = args.tile.z + r * args.tile.stride;
    for_lanes<T>(args.tile.width, [&](auto d, int64_t i) HWY_ATTR {
      auto x = hn::LoadU(d, z + i);
      if (args.bias != nullptr) {
        x = hn::Add(x, hn::LoadU(d, args.bias + i));
      }
      x = hn::Mul(x, hn::Set(d, inner));
      if (args.softcap > 0) {
        x = hn::Tanh(d, x);
      }
      hn::StoreU(hn::Mul(x, hn::Set(d, outer)), d, z + i);
    });
  }
}

// Sums of e^x, e^x·x and e^2x over x = z − max, as far as wanted.
template <class T>
struct BlockSums {
  Sum<T> sum;
  Sum<T> centred;
  Sum<T> squares;

  HWY_INLINE BlockSums() {}  // an implicit one would be compiled for no vector target
};

template <bool kCentred, bool kSquares, bool kStore, class T>
HWY_INLINE void exp_block(T* HWY_RESTRICT z, int64_t n, T max, T cap_inverse, BlockSums<T>& sums) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, z + i);
    const auto x = hn::Max(hn::Sub(value, hn::Set(d, max)), hn::Set(d, static_cast<T>(kLowest)));
    auto e = hn::Exp(d, x);
    sums.sum.add(d, e);
    if constexpr (kCentred) {
      sums.centred.add(d, hn::Mul(e, x));
    }
    if constexpr (kSquares) {
      const auto near = hn::IfThenElseZero(hn::Ge(x, hn::Set(d, static_cast<T>(kFlushSquare))), e);
      sums.squares.add(d, hn::Mul(near, near));
    }
    if constexpr (kStore) {
      e = hn::IfThenElseZero(hn::Ge(x, hn::Set(d, static_cast<T>(kFlush))), e);
      if (cap_inverse != 0) {
        const auto bent = hn::Mul(value, hn::Set(d, cap_inverse));
        e = hn::NegMulAdd(hn::Mul(bent, bent), e, e);
      }
      hn::StoreU(e, d, z + i);
    }
  });
}

template <bool kStore, class T>
HWY_INLINE BlockSums<T> block_sums(const StatsArgs<T>& args, T* z, int64_t n, T max) {
  BlockSums<T> sums;
  const bool centred = args.centred != nullptr;
  if (args.squares != nullptr) {
    centred ? exp_block<true, true, kStore>(z, n, max, args.cap_inverse, sums)
            : exp_block<false, true, kStore>(z, n, max, args.cap_inverse, sums);
  } else {
    centred ? exp_block<true, false, kStore>(z, n, max, args.cap_inverse, sums)
            : exp_block<false, false, kStore>(z, n, max, args.cap_inverse, sums);
  }
  return sums;
}

// One block of a row into its statistics.
template <bool kStore, class T>
HWY_INLINE void stats_block(const StatsArgs<T>& args, int64_t r, int64_t begin, int64_t n) {
  T* z = args.tile.z + r * args.tile.stride + begin;
  const T top = max_of(z, n);
  const double before = args.max[r];
  if (std::isnan(top) || (std::isinf(top) && top > 0)) {
    args.sum[r] = std::numeric_limits<double>::quiet_NaN();
  }
  if (args.total != nullptr) {
    Sum<T> total;
    for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR { total.add(d, hn::LoadU(d, z + i)); });
    args.total[r] += total.value();
  }
  if (static_cast<double>(top) > before) {
    if (args.argmax != nullptr) {
      args.argmax[r] = args.tile.first + begin + (std::find(z, z + n, top) - z);
    }
    const double rescale = std::exp(before - static_cast<double>(top));
    if (args.centred != nullptr && args.sum[r] > 0.0) {
      args.centred[r] =
          rescale * (args.centred[r] + args.sum[r] * (before - static_cast<double>(top)));
    }
    if (args.squares != nullptr) {
      args.squares[r] *= rescale * rescale;
    }
    args.sum[r] *= rescale;
    args.max[r] = static_cast<double>(top);
  }
  const T max = static_cast<T>(args.max[r]);
  if (std::isinf(max) && max < 0) {
    if (kStore) {
      std::fill(z, z + n, T{0});
    }
    return;
  }
  const auto sums = block_sums<kStore>(args, z, n, max);
  args.sum[r] += sums.sum.value();
  if (args.centred != nullptr) {
    args.centred[r] += sums.centred.value();
  }
  if (args.squares != nullptr) {
    args.squares[r] += sums.squares.value();
  }
}

/// What the row's sums must be multiplied by since its largest logit was `before`.
template <class T>
T rescaled(const StatsArgs<T>& args, int64_t r, double before) {
  return before == args.max[r] ? T{1} : static_cast<T>(std::exp(before - args.max[r]));
}

// Statistics and weights of a row. Block by block as without weights, so that the statistics have the
// same bits; where a block's maximum is the largest so far, the weights before it are told.
template <class T>
HWY_INLINE void weights_row(const StatsArgs<T>& args, int64_t r) {
  const int64_t width = args.tile.width;
  T* z = args.tile.z + r * args.tile.stride;
  const double before_tile = args.max[r];
  for (int64_t begin = 0; begin < width; begin += kBlock) {
    const double before = args.max[r];
    stats_block</*kStore=*/true>(args, r, begin, std::min(kBlock, width - begin));
    const T scale = rescaled(args, r, before);
    if (scale == T{1}) continue;
    for_lanes<T>(begin, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::LoadU(d, z + i), hn::Set(d, scale)), d, z + i);
    });
  }
  args.rescale[r] = rescaled(args, r, before_tile);
}

template <class T>
HWY_INLINE void stats_rows(const StatsArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t width = args.tile.width;
  for (int64_t r = begin; r < end; ++r) {
    const int64_t column = args.targets[r] - args.tile.first;
    if (column >= 0 && column < width) {
      args.target[r] = static_cast<double>(args.tile.z[r * args.tile.stride + column]);
    }
    if (args.rescale != nullptr) {
      weights_row(args, r);
      continue;
    }
    for (int64_t i = 0; i < width; i += kBlock) {
      stats_block</*kStore=*/false>(args, r, i, std::min(kBlock, width - i));
    }
  }
}

template <bool kPlogp, class T>
HWY_INLINE void gradient_row(const GradientArgs<T>& args, int64_t r) {
  const T* z = args.tile.z + r * args.tile.stride;
  T* out = args.out + r * args.out_stride;
  const T max = static_cast<T>(args.max[r]);
  const T log_sum = static_cast<T>(std::log(args.sum[r]));
  const T prob = static_cast<T>(args.prob[r] / args.sum[r]);
  const T plogp = kPlogp ? static_cast<T>(args.plogp[r] / args.sum[r]) : T{0};
  const T constant = args.constant == nullptr ? T{0} : static_cast<T>(args.constant[r]);
  const int64_t column = args.targets[r] - args.tile.first;
  const bool here = column >= 0 && column < args.tile.width;
  const T at_target = here && args.cap_inverse != 0 ? z[column] * args.cap_inverse : T{0};

  for_lanes<T>(args.tile.width, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, z + i);
    const auto x = hn::Sub(value, hn::Set(d, max));
    const auto normal = hn::Exp(d, hn::Max(x, hn::Set(d, static_cast<T>(kLowest))));
    const auto e = hn::IfThenElseZero(hn::Ge(x, hn::Set(d, static_cast<T>(kFlush))), normal);
    auto weight = hn::Set(d, prob);
    if constexpr (kPlogp) {
      const auto log_p =
          hn::Max(hn::Sub(x, hn::Set(d, log_sum)), hn::Set(d, static_cast<T>(2 * kLowest)));
      weight = hn::MulAdd(log_p, hn::Set(d, plogp), weight);
    }
    auto dz = hn::Mul(hn::MulAdd(e, weight, hn::Set(d, constant)), hn::Set(d, args.factor));
    if (args.cap_inverse != 0) {
      const auto bent = hn::Mul(value, hn::Set(d, args.cap_inverse));
      dz = hn::NegMulAdd(hn::Mul(bent, bent), dz, dz);
    }
    hn::StoreU(dz, d, out + i);
  });
  if (here) {
    out[column] += static_cast<T>(args.onehot[r]) * args.factor * (T{1} - at_target * at_target);
  }
}

template <class T>
HWY_INLINE void gradient_rows(const GradientArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    if (args.plogp != nullptr) {
      gradient_row</*kPlogp=*/true>(args, r);
    } else {
      gradient_row</*kPlogp=*/false>(args, r);
    }
  }
}

void transform_f32(const TransformArgs<float>& a, int64_t begin, int64_t end) {
  transform_rows(a, begin, end);
}
void transform_f64(const TransformArgs<double>& a, int64_t begin, int64_t end) {
  transform_rows(a, begin, end);
}
void stats_f32(const StatsArgs<float>& a, int64_t begin, int64_t end) { stats_rows(a, begin, end); }
void stats_f64(const StatsArgs<double>& a, int64_t begin, int64_t end) {
  stats_rows(a, begin, end);
}
void gradient_f32(const GradientArgs<float>& a, int64_t begin, int64_t end) {
  gradient_rows(a, begin, end);
}
void gradient_f64(const GradientArgs<double>& a, int64_t begin, int64_t end) {
  gradient_rows(a, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::simd {
HWY_EXPORT(transform_f32);
HWY_EXPORT(transform_f64);
HWY_EXPORT(stats_f32);
HWY_EXPORT(stats_f64);
HWY_EXPORT(gradient_f32);
HWY_EXPORT(gradient_f64);

void transform_logits(const TransformArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(transform_f32)(args, begin, end);
}
void transform_logits(const TransformArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(transform_f64)(args, begin, end);
}
void softmax_stats(const StatsArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(stats_f32)(args, begin, end);
}
void softmax_stats(const StatsArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(stats_f64)(args, begin, end);
}
void softmax_gradient(const GradientArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(gradient_f32)(args, begin, end);
}
void softmax_gradient(const GradientArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(gradient_f64)(args, begin, end);
}

}  // namespace rlhf::simd
#endif  // HWY_ONCE
