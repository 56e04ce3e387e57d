// PPO's clipped surrogate on group-relative advantages: GRPO and those of its kin that differ only
// in what the sum over tokens is divided by (policy_loss.h).
//
//   l_t = −min(r_t A, clip(r_t, 1 − ε_low, 1 + ε_high) A);   with a cap: −min(min(r_t, δ) A,
//   clip(r_t) A)
//
//   | symbol  | parameter    | range                                                   |
//   |---------|--------------|---------------------------------------------------------|
//   | r_t     |              | importance ratio (ImportanceLevel)                      |
//   | ε_low   | epsilon      | at least 0; 0.2                                         |
//   | ε_high  | epsilon_high | at least 0; null: ε_low; 0.28 in DAPO (clip-higher)     |
//   | δ       | delta        | above 1 + ε_high; null: no cap; 4 in INTELLECT-2        |
//
// A cap above 1 + ε_high acts only where A < 0: it is the dual clip, max(min(r A, clip(r) A), δ A),
// of Ye et al. (arXiv 1912.09729); verl's clip_ratio_c of 3 is delta: 3.
//
// Source: Schulman et al., PPO (arXiv 1707.06347), eq. 7; Shao et al., DeepSeekMath (arXiv
// 2402.03300), eq. 3; Yu et al., DAPO (arXiv 2503.14476), eq. 8; INTELLECT-2 (arXiv 2505.07291).
//
// Worked case: ε = 0.2. r = 1.5, A = 1: −min(1.5, 1.2) = −1.2, no gradient. r = 1.5, A = −1:
// −min(−1.5, −1.2) = 1.5. r = 0.5, A = −1: −min(−0.5, −0.8) = 0.8. With δ = 1.4: r = 1.5, A = −1
// gives −min(−1.4, −1.2) = 1.4, no gradient.
//
// Departures: none. TRL reads clip ratios off the capped ratio; so do we (clip_flags).
#pragma once

#include <ATen/ATen.h>

#include <limits>

namespace rlhf {

/// ratio, advantages (R) or (B). Returns the same shape.
inline at::Tensor grpo_clip_loss(const at::Tensor& ratio, const at::Tensor& advantages,
                                 double epsilon_low, double epsilon_high,
                                 double delta = std::numeric_limits<double>::infinity()) {
  const auto clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high);
  return -at::min(ratio.clamp_max(delta) * advantages, clipped * advantages);
}

/// Where the clip takes the gradient away, bool like ratio.
struct ClipFlags {
  at::Tensor low;   ///< r < 1 − ε_low and A < 0
  at::Tensor high;  ///< r > 1 + ε_high and A > 0
};
inline ClipFlags clip_flags(const at::Tensor& ratio, const at::Tensor& advantages,
                            double epsilon_low, double epsilon_high) {
  return {.low = ratio.lt(1 - epsilon_low).logical_and(advantages.lt(0)),
          .high = ratio.gt(1 + epsilon_high).logical_and(advantages.gt(0))};
}

}  // namespace rlhf
