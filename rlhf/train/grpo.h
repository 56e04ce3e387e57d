// Group relative policy optimisation and its family (`rlhf grpo`).
//
//   1. Draw G completions of each of P prompts with the weights as they stand, and have them
//   judged.
//   2. A_i = (R_i − mean R) / std R over the group (math/advantages.h has the other ways).
//   3. Descend the surrogate on these advantages, num_iterations times (losses/policy_loss.h).
//
// Source: Shao et al., DeepSeekMath (arXiv 2402.03300), algorithm 1.
#pragma once

#include "rlhf/config/grpo_config.h"
#include "rlhf/train/run.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// Trains as `config` (resolved and checked) says and leaves a run folder behind. UserError, with
/// nothing written, when data, model or options are at fault.
TrainResult train_grpo(GrpoConfig config, const TrainHooks& hooks);

}  // namespace rlhf
