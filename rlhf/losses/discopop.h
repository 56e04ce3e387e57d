// DiscoPOP (log-ratio modulated loss), found by a search over programs: logistic where the pair is
// ordered wrongly, exponential where it is ordered rightly.
//
//   L = (1 − q)(−log σ(βΔ)) + q e^(−βΔ),   q = σ(βΔ / τ)
//
//   | symbol | parameter    | range                      |
//   |--------|--------------|----------------------------|
//   | β      | beta         | above 0; 0.05 in the paper |
//   | τ      | discopop_tau | above 0; 0.05 in the paper |
//
// Source: Lu et al. (arXiv 2406.08414), eq. 5. Not convex: at τ = 0.05 it rises with
// Δ for βΔ from −0.1 to 0.06.
//
// Worked case: β = 1, τ = 1, Δ = ln 6, q = 6/7: 1/7 ln(7/6) + 6/7 · 1/6 = 0.164879.
//
// Departures: the second term is computed as e^(log q − βΔ), which for τ <= 1 never exceeds 1;
// written as in the paper (and TRL) it is 0 · ∞ = NaN from βΔ = −89 on in fp32. For τ > 1 it grows
// without bound, and leaves the exponential for its tangent at the exponent 20 (kl.h).
#pragma once

#include <ATen/ATen.h>

#include "rlhf/math/kl.h"

namespace rlhf {

/// delta (B): Δ. Returns (B).
inline at::Tensor discopop_loss(const at::Tensor& delta, double beta, double tau) {
  const auto logits = beta * delta;
  const auto logistic = at::sigmoid(-logits / tau) * -at::log_sigmoid(logits);
  return logistic + bounded_exp(at::log_sigmoid(logits / tau) - logits);
}

}  // namespace rlhf
