// RLOO: REINFORCE with the mean reward of a completion's siblings as its baseline, on the ratio of
// whole completions.
//
//   L_i = −min(s A_i, clip(s, 1 − ε_low, 1 + ε_high) A_i),   s = exp(Σ_t log r_t)
//   A_i = R'_i − mean_{j≠i} R'_j,   R' = R − β Σ_t (log π_old − log π_ref)      (math/advantages.h)
//
//   | symbol | parameter             | range                                       |
//   |--------|-----------------------|---------------------------------------------|
//   | ε_low  | epsilon               | at least 0; 0.2                             |
//   | ε_high | epsilon_high          | at least 0; null: ε_low                     |
//   | β      |                       | in the reward (penalised_rewards); 0.05     |
//
// A mean over sequences. It is the clipped surrogate at the level of a sequence's own likelihood,
// without a KL term: a choice of policy_loss's options, not a loss of its own.
//
// Source: Ahmadian et al., Back to Basics (arXiv 2402.14740), section 3; the clip is TRL 1.16's
// RLOOTrainer's.
//
// Worked case: log r = (0.1, 0.2), A = 1, ε = 0.2: s = e^0.3 = 1.349859, −min(s, 1.2) = −1.2, no
// gradient. A = −1: 1.349859, and each token's gradient is that of the sequence, 1.349859.
//
// Departures: a sequence without tokens that count gives 0, not −A as in TRL.
#pragma once

#include "rlhf/losses/policy_options.h"

namespace rlhf {

/// What policy_loss() is given for RLOO.
inline PolicyLossOptions rloo_options(double epsilon, std::optional<double> epsilon_high) {
  return {.loss_type = PolicyLoss::grpo,
          .importance_sampling_level = ImportanceLevel::sequence_sum,
          .epsilon = epsilon,
          .epsilon_high = epsilon_high};
}

}  // namespace rlhf
