// VESPO: REINFORCE weighted by a gamma-shaped function of the sequence's importance weight, which
// fades out what the policy has left as well as what it has overdone.
//
//   l_t = −φ(w) · A · log π(y_t),   φ(w) = exp(λ + k log w − λ w),   φ(1) = 1
//   log w = Σ_t clamp(log r_t, −20, 20), then clamped to [ln 1e−8, 20]; φ carries no gradient
//
//   | symbol | parameter                          | range                |
//   |--------|------------------------------------|----------------------|
//   | k      | vespo_k_pos, vespo_k_neg           | at least 0; 2 and 3  |
//   | λ      | vespo_lambda_pos, vespo_lambda_neg | at least 1e−4; 3, 2  |
//
// `pos` where A >= 0.
//
// Source: VESPO: variational sequence-level soft policy optimisation (arXiv 2602.10693), as
// TRL 1.16.0 computes it.
//
// Worked case: k = 2, λ = 3, w = 1: φ = e^0 = 1. w = 2 (log r = ln 2 for one token):
// φ = exp(3 + 2 ln 2 − 6) = 4 e^−3 = 0.199148.
//
// Departures: none. Beyond ±20 a token's log-ratio no longer moves w.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace rlhf {

/// φ of each sequence. log_weights (B): Σ_t clamp(log r_t, ±20); advantages (B). No gradient.
inline at::Tensor vespo_weight(const at::Tensor& log_weights, const at::Tensor& advantages,
                               double k_pos, double lambda_pos, double k_neg, double lambda_neg) {
  const auto log_w = log_weights.detach().clamp(std::log(1e-8), 20.0);
  const auto phi = [&](double k, double lambda) {
    lambda = std::max(lambda, 1e-4);
    return at::exp(lambda + k * log_w - lambda * log_w.exp());
  };
  return at::where(advantages.ge(0), phi(k_pos, lambda_pos), phi(k_neg, lambda_neg));
}

}  // namespace rlhf
