// From log-probabilities of tokens to log-probabilities of answers.
//
//   log π(y|x) = Σ_t log p_t
//   LD-DPO:  Σ_{t <= n} log p_t + α Σ_{t > n} log p_t,   n = min(|y+|, |y-|)
//
// LD-DPO weighs down what one answer of a pair has beyond the other's length, so that length alone
// moves the margin less. Source: Liu et al., LD-DPO (arXiv 2409.06411).
//
// Values are flat: (R) scored rows with the answer each belongs to. All rows of an answer are in
// one call, in the order of its tokens; rows of different answers may alternate.
#pragma once

#include <ATen/core/Tensor.h>

namespace rlhf {

struct SequenceLogps {
  at::Tensor sums;    ///< (B) in logprobs' type, differentiable; added up in double
  at::Tensor tokens;  ///< (B) in logprobs' type: the answers' full lengths
};

/// logprobs (R), sequence (R) int64 in [0, sequences). An answer without rows gives 0 and 0.
SequenceLogps sequence_logps(const at::Tensor& logprobs, const at::Tensor& sequence,
                             int64_t sequences);

/// The same with LD-DPO's weights: `common` (B) int64 is n of each answer's pair, `ld_alpha` is α
/// in [0, 1]; 1 is the plain sum. Error when α is out of range.
SequenceLogps sequence_logps(const at::Tensor& logprobs, const at::Tensor& sequence,
                             const at::Tensor& common, double ld_alpha);

}  // namespace rlhf
