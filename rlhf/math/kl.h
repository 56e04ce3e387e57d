// Estimators of KL(π ‖ ref) from samples of π, one number a token, with q = log ref − log π:
//
//   k1 = −q                unbiased, of either sign, noisy
//   k2 = q² / 2            biased, low variance; its gradient is that of the KL itself
//   k3 = e^q − q − 1       unbiased, never negative
//
// Source: Schulman, Approximating KL Divergence (joschu.net/blog/kl-approx.html, 2020).
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/math/kl_estimator.h"

namespace rlhf {

/// Log-ratios above this leave the exponential for its tangent: a token that the policy all but
/// excludes gives a finite value and a finite gradient of the right sign. e^20 is 5e8: no sane
/// ratio comes near.
inline constexpr double kLogRatioBound = 20.0;

/// e^x up to kLogRatioBound, its tangent beyond. Differentiable.
at::Tensor bounded_exp(const at::Tensor& x);

/// Per token, in logprobs' shape and type; differentiable in logprobs (and in ref_logprobs, if it
/// asks for that). Error when the shapes differ.
at::Tensor kl_estimate(KlEstimator estimator, const at::Tensor& logprobs,
                       const at::Tensor& ref_logprobs);

/// Of one token.
double kl_estimate(KlEstimator estimator, double logprob, double ref_logprob);

}  // namespace rlhf
