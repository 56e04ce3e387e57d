// REINFORCE on completions of the policy's own, with baselines that need no critic (`rlhf rloo`).
//
//   1. Draw G completions of each of P prompts and have them judged: R, clipped to
//      reward_clip_range.
//   2. R' = R − β Σ_t (log π_old − log π_ref); the advantage is R' less a baseline
//      (math/advantages.h, math/token_advantages.h):
//
//      | advantage_estimator           | baseline                                | source           |
//      |-------------------------------|-----------------------------------------|------------------|
//      | rloo                          | mean R' of the other completions        | arXiv 2402.14740 |
//      | reinforce_plus_plus           | none: returns of tokens, whitened       | arXiv 2501.03262 |
//      | reinforce_plus_plus_baseline  | mean R' of the group, then whitened     | arXiv 2501.03262 |
//      | remax                         | R of the greedy completion              | arXiv 2310.10505 |
//      | opo                           | mean R' of the group, by length         | arXiv 2505.23585 |
//
//   3. Descend the clipped surrogate: of rloo the ratio belongs to the completion (losses/rloo.h),
//      of the others to the token, and the mean is one over tokens.
//
// The terms of a truncated completion that mask_truncated_completions leaves out are left out of
// its KL too, as in TRL 1.16's RLOOTrainer.
#pragma once

#include "rlhf/config/rloo_config.h"
#include "rlhf/train/run.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// Trains as `config` (resolved and checked) says and leaves a run folder behind. UserError, with
/// nothing written, when data, model or options are at fault.
TrainResult train_rloo(RlooConfig config, const TrainHooks& hooks);

}  // namespace rlhf
