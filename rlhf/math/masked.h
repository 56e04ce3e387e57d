// Sums over the tokens that count, and how a method turns them into one number.
//
// A loss is a sum over the step's tokens with a coefficient each; the coefficient is known before
// the first backward, from counts of the whole step, so that cutting the step into micro-batches
// changes nothing (T tokens of sequence i that count: |o_i|; N = Σ|o_i| and B sequences over the
// whole step and all ranks):
//
//   token_mean         1 / N              every token weighs the same (DAPO, arXiv 2503.14476, eq. 8)
//   sequence_mean      1 / (B · |o_i|)    every sequence weighs the same (GRPO, arXiv 2402.03300,
//                                         eq. 3)
//   sequence_constant  1 / (B · L)        L a constant, as the longest answer allowed (Dr. GRPO,
//                                         arXiv 2503.20783)
//
// Values are flat: (R) scored rows, with the sequence each belongs to. A mask is bool; what it
// leaves out may hold anything, NaN included, and gets gradient 0.
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

enum class Aggregation { token_mean, sequence_mean, sequence_constant };

/// Counts over the whole step, not over this micro-batch.
struct StepCounts {
  double tokens = 0.0;     ///< N
  double sequences = 0.0;  ///< B; a sequence whose tokens are all masked still counts
  double constant = 0.0;   ///< L, for sequence_constant
};

/// Σ values over the mask, a scalar in values' type, summed in double.
at::Tensor masked_sum(const at::Tensor& values, const at::Tensor& mask);

/// Mean over the mask; 0 where the mask is empty.
at::Tensor masked_mean(const at::Tensor& values, const at::Tensor& mask);

/// Sample variance over the mask (divisor n − 1); 0 where fewer than two values count.
at::Tensor masked_variance(const at::Tensor& values, const at::Tensor& mask);

/// Sums by sequence, (sequences): `sequence` (R) int64 names the sequence of each value.
/// Differentiable in values.
at::Tensor sequence_sums(const at::Tensor& values, const at::Tensor& mask,
                         const at::Tensor& sequence, int64_t sequences);

/// The coefficient of each row, (R) double, 0 where masked. For sequence_mean a sequence must be
/// whole in this call. Error when the count that the aggregation divides by is not positive and a
/// row counts.
at::Tensor aggregation_coefficients(Aggregation aggregation, const at::Tensor& mask,
                                    const at::Tensor& sequence, const StepCounts& counts);

/// Σ coefficient · value, this call's share of the step's loss. Differentiable in values.
at::Tensor aggregate(Aggregation aggregation, const at::Tensor& values, const at::Tensor& mask,
                     const at::Tensor& sequence, const StepCounts& counts);

}  // namespace rlhf
