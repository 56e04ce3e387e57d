#include "rlhf/kernels/elementwise_simd.h"

#include <algorithm>
#include <cmath>

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/kernels/elementwise_simd.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "rlhf/kernels/lanes-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {

constexpr double kExpBound = 87.0;                // e^±87 are normal floats
constexpr double kGeluRoot = 0.7978845608028654;  // sqrt(2 / pi)
constexpr double kGeluCube = 0.044715;

template <class T>
HWY_INLINE void norm_rows(const NormArgs<T>& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  for (int64_t r = begin; r < end; ++r) {
    const T* HWY_RESTRICT x = args.x + r * width;
    T* HWY_RESTRICT out = args.out + r * width;
    Sum<T> squares;
    for_lanes<T>(width, [&](auto d, int64_t i) HWY_ATTR {
      const auto v = hn::LoadU(d, x + i);
      squares.add(d, hn::Mul(v, v));
    });
    const double mean = squares.value() / static_cast<double>(width);
    const T inverse = static_cast<T>(1.0 / std::sqrt(mean + static_cast<double>(args.eps)));
    args.inverse[r] = inverse;
    for_lanes<T>(width, [&](auto d, int64_t i) HWY_ATTR {
      const auto w = hn::Add(hn::LoadU(d, args.weight + i), hn::Set(d, args.offset));
      hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)), w), d, out + i);
    });
  }
}

template <class T>
HWY_INLINE void norm_grad_rows(const NormGradArgs<T>& args, T* HWY_RESTRICT dweight, int64_t begin,
                               int64_t end) {
  const int64_t width = args.width;
  for (int64_t r = begin; r < end; ++r) {
    const T* HWY_RESTRICT x = args.x + r * width;
    const T* HWY_RESTRICT g = args.gradient + r * width;
    T* HWY_RESTRICT dx = args.dx + r * width;
    const T inverse = args.inverse[r];
    Sum<T> dot;
    for_lanes<T>(width, [&](auto d, int64_t i) HWY_ATTR {
      const auto w = hn::Add(hn::LoadU(d, args.weight + i), hn::Set(d, args.offset));
      dot.add(d, hn::Mul(hn::Mul(hn::LoadU(d, g + i), w), hn::LoadU(d, x + i)));
    });
    const T pull = static_cast<T>(dot.value() / static_cast<double>(width)) * inverse * inverse;
    for_lanes<T>(width, [&](auto d, int64_t i) HWY_ATTR {
      const auto w = hn::Add(hn::LoadU(d, args.weight + i), hn::Set(d, args.offset));
      const auto vx = hn::LoadU(d, x + i);
      const auto vg = hn::LoadU(d, g + i);
      const auto inside = hn::NegMulAdd(vx, hn::Set(d, pull), hn::Mul(vg, w));
      hn::StoreU(hn::Mul(inside, hn::Set(d, inverse)), d, dx + i);
      if (dweight != nullptr) {
        const auto term = hn::Mul(hn::Mul(vg, vx), hn::Set(d, inverse));
        hn::StoreU(hn::Add(hn::LoadU(d, dweight + i), term), d, dweight + i);
      }
    });
  }
}

template <class T>
HWY_INLINE void rotary_half_split(const RotaryArgs<T>& args, const T* HWY_RESTRICT x,
                                  const T* HWY_RESTRICT cos, const T* HWY_RESTRICT sin,
                                  T* HWY_RESTRICT out) {
  const int64_t half = args.half;
  for_lanes<T>(half, [&](auto d, int64_t i) HWY_ATTR {
    const auto c = hn::LoadU(d, cos + i);
    const auto s = hn::Mul(hn::LoadU(d, sin + i), hn::Set(d, args.sign));
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, x + half + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, out + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, out + half + i);
  });
}

template <class T>
HWY_INLINE void rotary_interleaved(const RotaryArgs<T>& args, const T* HWY_RESTRICT x,
                                   const T* HWY_RESTRICT cos, const T* HWY_RESTRICT sin,
                                   T* HWY_RESTRICT out) {
  for (int64_t i = 0; i < args.half; ++i) {
    const T s = sin[i] * args.sign;
    out[2 * i] = x[2 * i] * cos[i] - x[2 * i + 1] * s;
    out[2 * i + 1] = x[2 * i + 1] * cos[i] + x[2 * i] * s;
  }
}

template <class T>
HWY_INLINE void rotary_tokens(const RotaryArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    const T* cos = args.cos + t * args.half;
    const T* sin = args.sin + t * args.half;
    for (int64_t h = 0; h < args.heads; ++h) {
      const T* x = args.x + t * args.token_stride + h * args.head_stride;
      T* out = args.out + (t * args.heads + h) * args.width;
      if (args.interleaved) {
        rotary_interleaved(args, x, cos, sin, out);
      } else {
        rotary_half_split(args, x, cos, sin, out);
      }
      std::copy(x + 2 * args.half, x + args.width, out + 2 * args.half);
    }
  }
}

// Both gates are x · σ(p(x)): p = x, or p = 2·sqrt(2/π)·(x + 0.044715 x³) since ½(1 + tanh u) =
// σ(2u).
template <class D, class V>
HWY_INLINE V gate_argument(D d, Gate kind, V x) {
  using T = hn::TFromD<D>;
  if (kind == Gate::silu) {
    return x;
  }
  const auto inner =
      hn::MulAdd(hn::Mul(x, x), hn::Set(d, static_cast<T>(kGeluCube)), hn::Set(d, T{1}));
  return hn::Mul(hn::Mul(x, inner), hn::Set(d, static_cast<T>(2 * kGeluRoot)));
}

// p'(x)
template <class D, class V>
HWY_INLINE V gate_slope(D d, Gate kind, V x) {
  using T = hn::TFromD<D>;
  if (kind == Gate::silu) {
    return hn::Set(d, T{1});
  }
  const auto inner =
      hn::MulAdd(hn::Mul(x, x), hn::Set(d, static_cast<T>(3 * kGeluCube)), hn::Set(d, T{1}));
  return hn::Mul(inner, hn::Set(d, static_cast<T>(2 * kGeluRoot)));
}

// A NaN comes out as some number: every use multiplies with x, which carries it on.
template <class D, class V>
HWY_INLINE V sigmoid(D d, V x) {
  using T = hn::TFromD<D>;
  const auto bound = hn::Set(d, static_cast<T>(kExpBound));
  const auto kept = hn::Min(hn::Max(hn::Neg(x), hn::Neg(bound)), bound);
  const auto one = hn::Set(d, T{1});
  return hn::Div(one, hn::Add(one, hn::Exp(d, kept)));
}

template <Gate kKind, class T>
HWY_INLINE void glu_row(const T* HWY_RESTRICT gate, const T* HWY_RESTRICT up, T* HWY_RESTRICT out,
                        int64_t n) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto x = hn::LoadU(d, gate + i);
    const auto s = sigmoid(d, gate_argument(d, kKind, x));
    hn::StoreU(hn::Mul(hn::Mul(x, s), hn::LoadU(d, up + i)), d, out + i);
  });
}

// y = x·s·up:  d up = g·x·s,  d gate = g·up·s·(1 + x·(1 − s)·p').
template <Gate kKind, class T>
HWY_INLINE void glu_grad_row(const T* HWY_RESTRICT gradient, const T* HWY_RESTRICT gate,
                             const T* HWY_RESTRICT up, T* HWY_RESTRICT out, T* HWY_RESTRICT out_up,
                             int64_t n) {
  for_lanes<T>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto x = hn::LoadU(d, gate + i);
    const auto g = hn::LoadU(d, gradient + i);
    const auto one = hn::Set(d, T{1});
    const auto s = sigmoid(d, gate_argument(d, kKind, x));
    const auto gs = hn::Mul(g, s);
    const auto bend = hn::Mul(hn::Mul(x, hn::Sub(one, s)), gate_slope(d, kKind, x));
    hn::StoreU(hn::Mul(gs, x), d, out_up + i);
    hn::StoreU(hn::Mul(hn::Mul(gs, hn::LoadU(d, up + i)), hn::Add(one, bend)), d, out + i);
  });
}

template <Gate kKind, class T>
HWY_INLINE void glu_rows(const GluArgs<T>& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const T* gate = args.gate + r * args.gate_stride;
    const T* up = args.up + r * args.up_stride;
    const int64_t at = r * args.width;
    if (args.gradient == nullptr) {
      glu_row<kKind>(gate, up, args.out + at, args.width);
    } else {
      glu_grad_row<kKind>(args.gradient + at, gate, up, args.out + at, args.out_up + at,
                          args.width);
    }
  }
}

template <class T>
HWY_INLINE void glu_either(const GluArgs<T>& args, int64_t begin, int64_t end) {
  if (args.gate_kind == Gate::silu) {
    glu_rows<Gate::silu>(args, begin, end);
  } else {
    glu_rows<Gate::gelu_tanh>(args, begin, end);
  }
}

template <class T>
HWY_INLINE void adamw_range(const AdamWArgs<T>& args, int64_t begin, int64_t end) {
  for_lanes<T>(end - begin, [&](auto d, int64_t offset) HWY_ATTR {
    const int64_t i = begin + offset;
    const auto g = hn::Mul(hn::LoadU(d, args.gradient + i), hn::Set(d, args.grad_scale));
    auto m = hn::LoadU(d, args.exp_avg + i);
    m = hn::MulAdd(hn::Sub(g, m), hn::Set(d, args.one_minus_beta1), m);
    auto v = hn::Mul(hn::LoadU(d, args.exp_avg_sq + i), hn::Set(d, args.beta2));
    v = hn::MulAdd(hn::Mul(g, g), hn::Set(d, args.one_minus_beta2), v);
    const auto root = hn::Div(hn::Sqrt(v), hn::Set(d, args.root_correction));
    const auto change = hn::Div(m, hn::Add(root, hn::Set(d, args.eps)));
    const auto p = hn::Mul(hn::LoadU(d, args.parameter + i), hn::Set(d, args.keep));
    hn::StoreU(m, d, args.exp_avg + i);
    hn::StoreU(v, d, args.exp_avg_sq + i);
    hn::StoreU(hn::NegMulAdd(change, hn::Set(d, args.step_size), p), d, args.parameter + i);
  });
}

double squares_f64(const double* x, int64_t n) {
  Sum<double> sum;
  for_lanes<double>(n, [&](auto d, int64_t i) HWY_ATTR {
    const auto v = hn::LoadU(d, x + i);
    sum.add(d, hn::Mul(v, v));
  });
  return sum.value();
}

double squares_f32(const float* x, int64_t n) {
  Sum<double> sum;
  for_lanes<double>(n, [&](auto d, int64_t i) HWY_ATTR {
    const hn::Rebind<float, decltype(d)> narrow;
    const auto v = hn::PromoteTo(d, hn::LoadU(narrow, x + i));
    sum.add(d, hn::Mul(v, v));
  });
  return sum.value();
}

void norm_f32(const NormArgs<float>& a, int64_t begin, int64_t end) { norm_rows(a, begin, end); }
void norm_f64(const NormArgs<double>& a, int64_t begin, int64_t end) { norm_rows(a, begin, end); }
void norm_grad_f32(const NormGradArgs<float>& a, float* dw, int64_t begin, int64_t end) {
  norm_grad_rows(a, dw, begin, end);
}
void norm_grad_f64(const NormGradArgs<double>& a, double* dw, int64_t begin, int64_t end) {
  norm_grad_rows(a, dw, begin, end);
}
void rotary_f32(const RotaryArgs<float>& a, int64_t begin, int64_t end) {
  rotary_tokens(a, begin, end);
}
void rotary_f64(const RotaryArgs<double>& a, int64_t begin, int64_t end) {
  rotary_tokens(a, begin, end);
}
void glu_f32(const GluArgs<float>& a, int64_t begin, int64_t end) { glu_either(a, begin, end); }
void glu_f64(const GluArgs<double>& a, int64_t begin, int64_t end) { glu_either(a, begin, end); }
void adamw_f32(const AdamWArgs<float>& a, int64_t begin, int64_t end) {
  adamw_range(a, begin, end);
}
void adamw_f64(const AdamWArgs<double>& a, int64_t begin, int64_t end) {
  adamw_range(a, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::simd {
HWY_EXPORT(norm_f32);
HWY_EXPORT(norm_f64);
HWY_EXPORT(norm_grad_f32);
HWY_EXPORT(norm_grad_f64);
HWY_EXPORT(rotary_f32);
HWY_EXPORT(rotary_f64);
HWY_EXPORT(glu_f32);
HWY_EXPORT(glu_f64);
HWY_EXPORT(adamw_f32);
HWY_EXPORT(adamw_f64);
HWY_EXPORT(squares_f32);
HWY_EXPORT(squares_f64);

void rms_norm(const NormArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(norm_f32)(args, begin, end);
}
void rms_norm(const NormArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(norm_f64)(args, begin, end);
}
void rms_norm_grad(const NormGradArgs<float>& args, float* dweight, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(norm_grad_f32)(args, dweight, begin, end);
}
void rms_norm_grad(const NormGradArgs<double>& args, double* dweight, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(norm_grad_f64)(args, dweight, begin, end);
}
void rotary(const RotaryArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(rotary_f32)(args, begin, end);
}
void rotary(const RotaryArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(rotary_f64)(args, begin, end);
}
void glu(const GluArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(glu_f32)(args, begin, end);
}
void glu(const GluArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(glu_f64)(args, begin, end);
}
void adamw(const AdamWArgs<float>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(adamw_f32)(args, begin, end);
}
void adamw(const AdamWArgs<double>& args, int64_t begin, int64_t end) {
  HWY_DYNAMIC_DISPATCH(adamw_f64)(args, begin, end);
}
double sum_of_squares(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(squares_f32)(x, n); }
double sum_of_squares(const double* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(squares_f64)(x, n);
}

}  // namespace rlhf::simd
#endif  // HWY_ONCE
