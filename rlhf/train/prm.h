// Process reward models: whether each step of an answer is right.
//
//   L = −(1/N) Σ_{steps} log softmax(s_t)[label]      s_t the two scores at a step's last token,
//                                                     N the labelled steps of the whole step
//
// Lightman et al., "Let's verify step by step" (arXiv 2305.20050); rows and labels: data/steps.h.
#pragma once

#include "rlhf/config/prm_config.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// Runs `rlhf prm`. The configuration is resolved and valid on its own; what depends on data and
/// model folder is checked here, all problems at once, before anything is written. UserError for
/// the user's fault.
TrainResult train_prm(PrmConfig config, const TrainHooks& hooks);

}  // namespace rlhf
