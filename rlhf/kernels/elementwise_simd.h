// The vector bodies behind norm.h, rotary.h, glu.h and adamw.h, on plain pointers. Each takes a
// range, so that the caller splits the work; formulas stand in those headers. T is float or double.
#pragma once

#include <cstdint>

namespace rlhf::simd {

template <class T>
struct NormArgs {
  const T* x;       // (rows, width)
  const T* weight;  // (width)
  T offset;
  T eps;
  int64_t width;
  T* out;      // (rows, width)
  T* inverse;  // (rows): 1 / rms
};

template <class T>
struct NormGradArgs {
  const T* gradient;  // (rows, width), as the next and dx
  const T* x;
  const T* weight;
  const T* inverse;
  T offset;
  int64_t width;
  T* dx;
};

template <class T>
struct RotaryArgs {
  const T* x;
  int64_t token_stride;
  int64_t head_stride;
  const T* cos;  // (tokens, half)
  const T* sin;
  T sign;  // −1 turns back
  int64_t heads;
  int64_t width;  // D
  int64_t half;   // Dr / 2
  bool interleaved;
  T* out;  // (tokens, heads, width)
};

enum class Gate { silu, gelu_tanh };

template <class T>
struct GluArgs {
  Gate gate_kind;
  const T* gradient;  // (rows, width); null in the forward
  const T* gate;
  const T* up;
  int64_t gate_stride;  // of a row
  int64_t up_stride;
  int64_t width;
  T* out;     // (rows, width); d gate in the backward
  T* out_up;  // d up, in the backward
};

template <class T>
struct AdamWArgs {
  T* parameter;
  const T* gradient;
  T* exp_avg;
  T* exp_avg_sq;
  T grad_scale;
  T keep;  // 1 − lr · weight_decay
  T one_minus_beta1;
  T beta2;
  T one_minus_beta2;
  T eps;
  T step_size;        // lr / bias_correction1
  T root_correction;  // sqrt(bias_correction2)
};

/// Rows [begin, end).
void rms_norm(const NormArgs<float>& args, int64_t begin, int64_t end);
void rms_norm(const NormArgs<double>& args, int64_t begin, int64_t end);

/// Rows [begin, end); their part of the weight's gradient is added to dweight (width) where that is
/// not null.
void rms_norm_grad(const NormGradArgs<float>& args, float* dweight, int64_t begin, int64_t end);
void rms_norm_grad(const NormGradArgs<double>& args, double* dweight, int64_t begin, int64_t end);

/// Tokens [begin, end).
void rotary(const RotaryArgs<float>& args, int64_t begin, int64_t end);
void rotary(const RotaryArgs<double>& args, int64_t begin, int64_t end);

/// Rows [begin, end), forward where gradient is null, else backward.
void glu(const GluArgs<float>& args, int64_t begin, int64_t end);
void glu(const GluArgs<double>& args, int64_t begin, int64_t end);

/// Elements [begin, end).
void adamw(const AdamWArgs<float>& args, int64_t begin, int64_t end);
void adamw(const AdamWArgs<double>& args, int64_t begin, int64_t end);

/// Σ x² over n elements, accumulated in double.
double sum_of_squares(const float* x, int64_t n);
double sum_of_squares(const double* x, int64_t n);

}  // namespace rlhf::simd
