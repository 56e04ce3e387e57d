// GMPO: the geometric mean of the tokens' ratios, each clipped in the logarithm, so that no single
// token decides a sequence.
//
//   L_i = −A · exp( (1/|o|) Σ_t m_t )
//   m_t = sgn(A) · min(sgn(A) log r_t, sgn(A) clip(log r_t, −c, c))
//
//   | symbol | parameter | range        |
//   |--------|-----------|--------------|
//   | c      | gmpo_clip | above 0; 0.4 |
//
// The clip is one-sided, as PPO's is: log r is cut at c where A > 0 and at −c where A < 0.
//
// Source: Zhao et al., Geometric-Mean Policy Optimization (arXiv 2507.20673), eq. 4.
//
// Worked case: A = 1, log r = (0.6, 0.2), c = 0.4: m = (0.4, 0.2), −exp(0.3) = −1.349859; the first
// token has no gradient. A = −1: nothing is cut, exp(0.4) = 1.491825.
//
// Departures: TRL 1.16 bounds log r by epsilon and epsilon_high; here the bound has a name and a
// default of its own. A sequence without tokens that count gives 0, not −A as there.
#pragma once

#include <ATen/ATen.h>

#include "rlhf/losses/grpo_clip.h"

namespace rlhf {

/// The clipped log-ratio of each token: log_ratios, advantages (R). Returns (R).
inline at::Tensor gmpo_log_ratios(const at::Tensor& log_ratios, const at::Tensor& advantages,
                                  double clip) {
  return at::where(advantages.gt(0), log_ratios.clamp_max(clip),
                   at::where(advantages.lt(0), log_ratios.clamp_min(-clip), log_ratios));
}

/// Where the clip takes the gradient away.
inline ClipFlags gmpo_clip_flags(const at::Tensor& log_ratios, const at::Tensor& advantages,
                                 double clip) {
  return {.low = log_ratios.lt(-clip).logical_and(advantages.lt(0)),
          .high = log_ratios.gt(clip).logical_and(advantages.gt(0))};
}

}  // namespace rlhf
