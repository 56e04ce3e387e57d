// Policy-gradient objectives on sampled completions: from per-token log-probabilities to this
// call's share of the step's loss.
//
//   r      importance ratio, of each token or of the sequence (ImportanceLevel)
//   l_t    the surrogate of a token (grpo_clip.h, cispo.h, sapo.h, vespo.h, gmpo.h)
//   KL_t   k3 of math/kl.h, exp(q) − q − 1 with q = log π_ref − log π, or kl_estimator's other;
//          times r with use_bias_correction_kl
//
//   L = Σ_t (keep_t · l_t + β KL_t) · m_t / N     less, where asked for, entropy_bonus.h's bonus
//
//   | loss_type           | N                                                                  |
//   |---------------------|--------------------------------------------------------------------|
//   | grpo, sapo, gmpo    | B · the sequence's tokens: a mean over sequences of means          |
//   | bnpo                | tokens of the step                                                 |
//   | dapo, cispo, vespo  | counts.tokens: those drawn at once, as far as the step takes them  |
//   | dr_grpo             | B · counts.constant, the longest completion allowed                |
//   | luspo               | B: a mean over sequences of sums                                   |
//
// m_t is the mask of tokens that count; keep_t takes tokens out of the policy term alone (the
// entropy quantile). N is known before the first backward, for the whole step: cutting the step into
// calls of whole sequences changes nothing.
//
// off_policy_mask_threshold τ: l_t stays where A_t >= 0 or mean_t (log π_old − log π) <= τ over the
// sequence (DeepSeek-V3.2, arXiv 2512.02556).
//
// What descending KL_t does, from samples of π itself and without the ratio (Tang & Munos, On a few
// pitfalls in KL divergence gradient estimation for RL, arXiv 2506.09477), each token's distribution
// by itself, given what stands before it:
//
//   | kl_estimator | E ∇KL_t            | is the gradient of                                         |
//   |--------------|--------------------|------------------------------------------------------------|
//   | k1           | E ∇log π = 0       | nothing: it adds noise and holds the policy nowhere        |
//   | k2           | E −q ∇log π        | KL(π ‖ π_ref), the KL of the objective                     |
//   | k3           | E (1 − e^q) ∇log π | KL(π_ref ‖ π), the other direction                         |
//
// How a token changes the KL of those behind it is in none of them; it is in k1 in the reward. Times
// the ratio, with the gradient through it (use_bias_correction_kl), the mean of k1 and of k3 is the KL
// whatever drew the samples, and so is their gradient.
//
// Log-ratios above 20 leave the exponential for its tangent (math/kl.h).
//
// RLOO is a choice of options: rloo.h.
//
// DeepSeekMath's formula as written (arXiv 2402.03300, eq. 3) is loss_type grpo, beta 0.04,
// use_bias_correction_kl false, no epsilon_high, no delta, importance_sampling_level token.
#pragma once

#include <ATen/core/Tensor.h>

#include <limits>

#include "rlhf/losses/policy_options.h"
#include "rlhf/math/masked.h"

namespace rlhf {

/// Whole sequences, their tokens one behind the other: R tokens of `sequences` sequences. Floating
/// tensors are all fp32 or all double.
struct PolicyInputs {
  at::Tensor logprobs;           ///< (R) under the policy, differentiable
  at::Tensor old_logprobs = {};  ///< (R) of the weights that sampled; undefined: the policy's
                                 ///< own now, so that every ratio is exactly 1
  at::Tensor ref_logprobs = {};  ///< (R); needed where beta > 0
  at::Tensor advantages;         ///< (R)
  at::Tensor mask;               ///< (R) bool: tokens that count; the others may hold anything
  at::Tensor keep = {};          ///< (R) bool; undefined: all
  at::Tensor sequence;           ///< (R) int64, the sequence of each token
  int64_t sequences = 0;
};

/// Sums over calls, for what TRL logs: kl = kl / tokens; clip_ratio/low_mean = low / ratios,
/// high_mean = high / ratios, region_mean = (low + high) / ratios, low_min, high_max;
/// cispo_clip_ratio = capped / ratios; vespo/phi_seq_mean = weight / sequences. A sequence none of
/// whose tokens counts has a ratio of its own (1) and a weight (1), as in TRL.
struct PolicyMetrics {
  double tokens = 0;  ///< that count
  double kl = 0;      ///< Σ KL_t over them
  double ratios = 0;  ///< ratios: tokens, or sequences where a ratio is a sequence's
  double low = 0;     ///< of them clipped below
  double high = 0;    ///< and above
  double capped = 0;  ///< cispo: r above the cap and A > 0
  double weight = 0;  ///< vespo: Σ φ over sequences
  double sequences = 0;
  double ratio_sum = 0;                                      ///< Σ r over tokens that count
  double ratio_squares = 0;                                  ///< Σ r²
  double log_ratio_squares = 0;                              ///< Σ (log π − log π_old)²
  double low_min = std::numeric_limits<double>::infinity();  ///< least share of a sequence; ±∞
                                                             ///< where no token counts
  double high_max = -std::numeric_limits<double>::infinity();

  void add(const PolicyMetrics& other);
};

struct PolicyLossResult {
  at::Tensor loss;  ///< scalar, differentiable in logprobs
  PolicyMetrics metrics;
};

/// `counts` are the step's (see the table; `tokens`, `sequences`, `constant`). Finite, and with a
/// finite gradient, at log-ratios up to ±1e4, and with 0 for a token that does not count. Error for
/// options out of range and for tensors that are missing or do not fit.
PolicyLossResult policy_loss(const PolicyLossOptions& options, const PolicyInputs& inputs,
                             const StepCounts& counts);

/// The importance ratio of each token, (R), differentiable in logprobs. Tokens that do not count
/// have their sequence's, or 1.
at::Tensor importance_ratio(ImportanceLevel level, const PolicyInputs& inputs);

}  // namespace rlhf
