// Supervised fine-tuning: maximise the likelihood of the supervised tokens.
//
//   L = −(1/N) Σ_{rows} Σ_{t supervised} log p(y_t | y_<t),  N the supervised tokens of the whole
//   step
//
// `loss_type: dft` weighs each token by its own probability, without gradient (Wu et al., arXiv
// 2508.05629). N is counted before the first backward, so that the gradient does not depend on how
// the step is cut into micro-batches.
#pragma once

#include "rlhf/config/sft_config.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// Runs `rlhf sft`. The configuration is resolved and valid on its own; what depends on data and
/// model folder is checked here, all problems at once, before anything is written. UserError for
/// the user's fault.
TrainResult train_sft(SftConfig config, const TrainHooks& hooks);

}  // namespace rlhf
