// What PPO pays each token: its share of the distance from the reference, and at the last one the
// score of the whole completion.
//
//   r_t = −β KL_t + S [t = last]
//   S   = clip((s − μ) / σ, low, high) − p [no stop ended the completion]
//
//   | symbol    | parameter                    | range                                          |
//   |-----------|------------------------------|------------------------------------------------|
//   | β         | kl_coef                      | at least 0; 0.05; moved by math/adaptive_kl.h  |
//   | KL_t      | token_kl()                   | k1, k2, k3 of math/kl.h, π the one that drew   |
//   | μ, σ      | ScoreShaping::moments        | σ above 0; none: the score as it is            |
//   | low, high | ScoreShaping::range          | low at most high; none: no clip                |
//   | p         | ScoreShaping::missing_eos_penalty | at least 0; none: 0                       |
//
// Normalisation comes first, for μ and σ describe what the reward model gives (they stand in its
// config.json); the penalty comes last, so that the clip never hides it.
//
// Whitening r over the batch without moving its level (`whiten_rewards`) is a step of its own,
// whitened() in whiten.h with WhitenedMean::kept.
//
// Source: Ziegler et al. (arXiv 1909.08593), section 2.2; Ouyang et al. (arXiv 2203.02155), eq. 2;
// the penalty is TRL's.
//
// Worked case: s = 5, μ = 1, σ = 2, clip to ±1.5, p = 1, no stop: S = 1.5 − 1 = ½. Two tokens with
// KL (1, 2) and β = 0.1: r = (−0.1, −0.2 + ½).
//
// Departures: the score stands at the last token that was drawn. TRL puts it one place behind the
// stop token, where there is no action to reward and only γλ of it reaches one. It has no
// normalisation, no clip and no k2. A log-ratio above 20 leaves k3's exponential for its tangent
// (math/kl.h).
#pragma once

#include "rlhf/math/kl.h"
#include "rlhf/math/token_advantages.h"

namespace rlhf {

struct ScoreMoments {
  double mean = 0.0;
  double deviation = 1.0;
};

struct ScoreShaping {
  std::optional<ScoreMoments> moments{};
  std::optional<std::pair<double, double>> range{};
  std::optional<double> missing_eos_penalty{};
};

/// The range of one number: [−bound, bound]. Error unless bound is at least 0.
std::pair<double, double> symmetric_range(double bound);

/// S of each completion; none stays none. `stopped` says which completions a stop ended; it is not
/// read without a penalty. Error for options out of range, shapes that do not fit, and a score that
/// is not finite.
OptionalRewards shaped_scores(std::span<const std::optional<double>> scores,
                              const std::vector<bool>& stopped, const ScoreShaping& shaping);

/// KL_t of each token. Error where shapes do not fit.
TokenValues token_kl(KlEstimator estimator, const TokenValues& old_logprobs,
                     const TokenValues& ref_logprobs);

/// r. `tokens` (completions) are lengths; `kl` is not read where beta is 0. A completion without a
/// score has 0 at each token: it is no part of what follows. Error where shapes do not fit or beta
/// is below 0.
TokenValues token_rewards(std::span<const std::optional<double>> scores,
                          std::span<const int64_t> tokens, const TokenValues& kl, double beta);

}  // namespace rlhf
