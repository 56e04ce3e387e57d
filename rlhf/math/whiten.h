// Values of tokens brought to a common scale over a whole batch.
//
//   x' = (x − mean) / √(var + 1e−8)             removed: advantages
//   x' = (x − mean) / √(var + 1e−8) + mean      kept: rewards (their level says what is worth doing)
//
// Mean and variance (n − 1) are those of all tokens of rated completions.
//
// Source: Ziegler et al. (arXiv 1909.08593), whose code has both; Huang et al., The N implementation
// details of RLHF with PPO (2024). TRL 1.12's masked_whiten, shift_mean true and false.
//
// Worked case: 1, 2 and 3 have mean 2 and variance 1: ∓1/√(1 + 1e−8) and 0; kept: 2 more.
//
// Departures: one token alone has no variance, and its distance from the mean counts as 0. TRL
// divides by 0 there.
#pragma once

#include "rlhf/math/token_advantages.h"

namespace rlhf {

enum class WhitenedMean { removed, kept };

/// A completion whose entry in `rewards` is none is no part of the statistics; its values become 0.
/// No spread leaves exactly 0, or the mean. Error where `rewards` are not one a completion.
TokenValues whitened(TokenValues values, std::span<const std::optional<double>> rewards,
                     WhitenedMean mean = WhitenedMean::removed);

}  // namespace rlhf
