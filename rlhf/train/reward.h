// Reward models: a score for an answer, from which of two answers people preferred.
//
//   L = (1/B) Σ_pairs −log σ(r(x,y+) − r(x,y-) − m) + c (r(x,y+) + r(x,y-))²
//
// Bradley and Terry's model as in Ouyang et al. (arXiv 2203.02155, eq. 1); margin m and centring c:
// rlhf/losses/bradley_terry.h. r is read at the last token of an answer, whose place is known from
// lengths. Both answers share the prompt's pass. At the end the scores of the training answers give
// reward_mean and reward_std, which are stored in config.json for reinforcement learning.
#pragma once

#include "rlhf/config/reward_config.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// Runs `rlhf reward`. The configuration is resolved and valid on its own; what depends on data and
/// model folder is checked here, all problems at once, before anything is written. UserError for
/// the user's fault.
TrainResult train_reward(RewardConfig config, const TrainHooks& hooks);

}  // namespace rlhf
