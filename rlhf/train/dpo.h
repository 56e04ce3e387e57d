// Direct preference optimisation and its family: pairs of answers, no reward model, no sampling.
//
//   L = −(1/B) Σ_pairs log σ(β (log π/π_ref (y+|x) − log π/π_ref (y-|x)))     (loss_type: sigmoid)
//
// Rafailov et al., arXiv 2305.18290; the other losses are rlhf/losses/dpo.h's, what else enters the
// objective is dpo_objective.h's. A pair is one prompt and two answers: the prompt goes through the
// model once. The reference is the policy before its first step unless another is named
// (reference.h).
#pragma once

#include "rlhf/config/dpo_config.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// Runs `rlhf dpo`. The configuration is resolved and valid on its own; what depends on data and
/// model folder is checked here, all problems at once, before anything is written. UserError for
/// the user's fault.
TrainResult train_dpo(DpoConfig config, const TrainHooks& hooks);

}  // namespace rlhf
