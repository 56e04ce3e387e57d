// Proximal policy optimisation with a critic (`rlhf ppo`).
//
//   1. Draw completions of a batch of prompts and have them judged.
//   2. r_t = −β KL_t, and the score S at the last token           (math/token_rewards.h)
//      with use_kl_loss r_t = 0 but for S, and 3 has + β KL_t     (losses/policy_loss.h)
//      A, R = generalised advantages and returns of r and V        (math/gae.h)
//      A whitened over the whole rollout                           (math/whiten.h)
//   3. num_ppo_epochs × num_mini_batches steps: the policy descends the clipped surrogate
//      (losses/policy_loss.h, a mean over tokens), the critic its squared error (losses/value_loss.h).
//
// Source: Schulman et al. (arXiv 1707.06347); for language models Stiennon et al. (arXiv 2009.01325)
// and Ouyang et al. (arXiv 2203.02155); details after Huang et al., The N implementation details of
// RLHF with PPO (2024).
//
// Departures from TRL 1.12: the score stands at the last token, within the mask; every mean is over
// real tokens; policy and critic are clipped by max_grad_norm each by its own norm.
#pragma once

#include "rlhf/config/ppo_config.h"
#include "rlhf/train/run.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// Trains as `config` (resolved and checked) says and leaves a run folder behind, the critic in
/// `critic` within. UserError, with nothing written, when data, models or options are at fault.
TrainResult train_ppo(PpoConfig config, const TrainHooks& hooks);

}  // namespace rlhf
