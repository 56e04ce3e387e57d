// Loops over vectors and a running sum, shared by the vector kernels. Per-target header: include it
// after hwy/highway.h and use it inside HWY_NAMESPACE only.
#if defined(RLHF_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RLHF_KERNELS_LANES_INL_H_
#undef RLHF_KERNELS_LANES_INL_H_
#else
#define RLHF_KERNELS_LANES_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Calls step(tag, index) over [0, n): whole vectors, then single lanes.
template <class T, class Step>
HWY_INLINE void for_lanes(int64_t n, Step step) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    step(d, i);
  }
  const hn::CappedTag<T, 1> one;
  for (; i < n; ++i) {
    step(one, i);
  }
}

/// A sum of vectors of either width, in a fixed order.
template <class T>
struct Sum {
  using D = hn::ScalableTag<T>;
  hn::Vec<D> wide;
  T single;

  HWY_INLINE Sum() : wide(hn::Zero(D())), single(0) {}

  template <class Tag, class V>
  HWY_INLINE void add(Tag d, V v) {
    if constexpr (std::is_same_v<Tag, D>) {
      wide = hn::Add(wide, v);
    } else {
      (void)d;
      single += hn::GetLane(v);
    }
  }
  HWY_INLINE double value() const {
    return static_cast<double>(hn::GetLane(hn::SumOfLanes(D(), wide))) +
           static_cast<double>(single);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#endif
