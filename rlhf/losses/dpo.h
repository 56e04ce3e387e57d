// Pairwise preference objectives: from the log-probabilities of B pairs to a loss a pair.
//
//   D = log π(y|x) − log π_ref(y|x)       log-ratio of an answer, D+ of the chosen, D- of the other
//   s = f'(D)                             its score; D itself unless a divergence is chosen
//   Δ = s+ − s-
//
// Each loss has its header: equation, symbols, worked case, departures. This one has what they
// share and the switch (dpo.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/losses/dpo_options.h"

namespace rlhf {

/// What a pairwise objective sees of B pairs, all fp32 or all double. Log-probabilities are sums
/// over the answer's tokens, weighted by position where LD-DPO is asked for
/// (math/sequence_logps.h).
struct PairLogps {
  at::Tensor chosen;                ///< (B) under the policy, differentiable
  at::Tensor rejected;              ///< (B)
  at::Tensor ref_chosen = {};       ///< (B), or undefined with its twin: reference-free
  at::Tensor ref_rejected = {};     ///< (B)
  at::Tensor chosen_tokens = {};    ///< (B) |y+|, for losses that are length_normalised
  at::Tensor rejected_tokens = {};  ///< (B) |y-|
};

/// Loss of each pair, (B), to be averaged over the pairs of the step. Finite, and with a finite
/// gradient, at log-ratios up to ±1e4. For aot and aot_unpaired an entry belongs to a rank and not
/// to a pair, and B must be the whole step. Options that a loss does not use are ignored, as one
/// set serves a weighted sum of losses; but for an f-divergence, which would then hold for a part
/// of the sum only. Error for `sft`, for options out of range, for tensors that are missing or do
/// not fit.
at::Tensor dpo_loss(DpoLoss loss, const PairLogps& pairs, const DpoLossOptions& options);

/// D+ and D- (B) as every metric of implicit rewards uses them (reward = β · D), whatever the
/// divergence. The log-probability itself where there is no reference.
struct LogRatios {
  at::Tensor chosen;
  at::Tensor rejected;
};
LogRatios log_ratios(const PairLogps& pairs);

}  // namespace rlhf
