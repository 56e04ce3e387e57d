// KTO and its relatives: answers that are desirable or undesirable, without pairs.
//
//   L = (1/B) Σ_answers λ · (1 − σ(±β(D − z)))       D = log π/π_ref (y|x); + where desirable
//
// Ethayarajh et al., arXiv 2402.01306; apo_zero_unpaired and bco: rlhf/losses/unpaired.h. z, a
// measure of how far the policy is from the reference, comes from prompts with answers that are not
// theirs: the answer of the row before, within the step. It belongs to the step, so it is computed
// before the first backward; the same holds for bco's running mean δ.
#pragma once

#include "rlhf/config/kto_config.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// Runs `rlhf kto`. The configuration is resolved and valid on its own; what depends on data and
/// model folder is checked here, all problems at once, before anything is written. UserError for
/// the user's fault.
TrainResult train_kto(KtoConfig config, const TrainHooks& hooks);

}  // namespace rlhf
