// Softmax statistics of rows of logits that are met tile by tile, and what their gradients need:
// the vector passes of the head (rlhf/math/linear_logprobs.h), which owns the matmuls around them.
//
// A tile z (N, n) holds, for N rows, the vocabulary columns [first, first + n). Statistics run over
// tiles:
//   m = max z,  s = Σ e^(z−m),  a = Σ e^(z−m)(z−m),  c = Σ e^(2(z−m))
// rescaled by e^(m_old−m), c by its square, whenever m grows, so that in the end
//   log p_t = (z_t − m) − log s <= 0 (s holds the term of the maximum, 1)
//   H = log s − a / s,   log Σ p² = log c − 2 log s
// They are kept in double; terms are computed in z's type and summed per block. Arguments of exp
// are clamped at −87, and weights that are stored are 0 below e^−60: denormals make exp and the
// matmul behind it many times slower. A NaN among the logits makes the row's statistics NaN.
//
// Source of the running form: Milakov and Gimelshein (arXiv 1805.02867).
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// What comes between the product h·Wᵀ and the logits: z = softcap(scale · (x + bias)) /
/// temperature.
struct LogitTransform {
  at::Tensor bias;  ///< (V) or undefined
  double scale = 1.0;
  double softcap = 0.0;  ///< 0 for none
  double temperature = 1.0;

  /// The factor that alone does it, where there is neither bias nor soft-cap.
  double factor() const { return scale / temperature; }
  bool linear() const { return !bias.defined() && softcap == 0.0; }
  /// dz/dx = factor · (1 − (z · this)²): the soft-cap's slope from its result. 0 without soft-cap.
  double cap_inverse() const { return softcap > 0.0 ? temperature / softcap : 0.0; }
};

/// Running statistics of N rows, (N) double on the rows' device. Undefined where not asked for.
struct RowStats {
  at::Tensor max;      ///< m, −inf at first
  at::Tensor sum;      ///< s
  at::Tensor target;   ///< z of the target
  at::Tensor centred;  ///< a, for the entropy
  at::Tensor squares;  ///< c, for the collision probability
  at::Tensor total;    ///< Σ z, for label smoothing and the mean logit
  at::Tensor argmax;   ///< int64, the lowest index of the maximum

  /// What beside the log-probability is to be gathered.
  struct Wanted {
    bool entropy = false;
    bool collision = false;
    bool total = false;
    bool argmax = false;
  };
  static RowStats make(int64_t rows, const Wanted& wanted, at::Device device);
  /// The statistics of rows [begin, begin + count), sharing memory.
  RowStats narrow(int64_t begin, int64_t count) const;
  at::Tensor log_sum() const { return sum.log(); }
  at::Tensor logprobs() const { return target - max - log_sum(); }
  at::Tensor entropy() const { return log_sum() - centred / sum; }
  at::Tensor log_collision() const { return squares.log() - 2 * log_sum(); }
};

/// What a row asks of its logits' gradient; each (N) double:
///   dz_v = onehot · 1[v = target] + prob · p_v + plogp · p_v log p_v + constant
struct RowGradient {
  at::Tensor onehot;
  at::Tensor prob;
  at::Tensor plogp;     ///< undefined for none
  at::Tensor constant;  ///< undefined for none

  /// Of rows [begin, begin + count), sharing memory.
  RowGradient narrow(int64_t begin, int64_t count) const;
};

/// z := transform(z) in place, for columns from `first`.
void transform_logits(const at::Tensor& z, int64_t first, const LogitTransform& transform);

/// Takes one tile into the statistics. z (N, n) with contiguous rows at any stride, targets (N)
/// int64.
void softmax_update(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                    const RowStats& stats);

/// The same, and overwrites z with the weights e^(z_v − m) · (1 − (z_v · cap_inverse)²), m the
/// maximum after this tile. Returns (N) in z's type what earlier sums of weights are to be
/// multiplied with.
at::Tensor softmax_weights(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                           const RowStats& stats, double cap_inverse);

/// out := dz · factor · (1 − (z · cap_inverse)²), the gradient of the product h·Wᵀ, from the final
/// statistics. out may be z itself.
void softmax_gradient(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                      const RowStats& stats, const RowGradient& gradient,
                      const LogitTransform& transform, const at::Tensor& out);

namespace reference {
// The same in plain torch operations, for any device; the fused forms' oracle.
void transform_logits(const at::Tensor& z, int64_t first, const LogitTransform& transform);
void softmax_update(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                    const RowStats& stats);
at::Tensor softmax_weights(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                           const RowStats& stats, double cap_inverse);
void softmax_gradient(const at::Tensor& z, int64_t first, const at::Tensor& targets,
                      const RowStats& stats, const RowGradient& gradient,
                      const LogitTransform& transform, const at::Tensor& out);
}  // namespace reference

}  // namespace rlhf
