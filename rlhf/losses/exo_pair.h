// EXO on pairs: reverse KL from the policy's preference to the smoothed label.
//
//   L = KL((q, 1 − q) ‖ (1 − ε, ε)) = q [log q − log(1 − ε)] + (1 − q) [log(1 − q) − log ε]
//   q = σ(βΔ)
//
//   | symbol | parameter       | range                                                |
//   |--------|-----------------|------------------------------------------------------|
//   | β      | beta            | above 0                                              |
//   | ε      | label_smoothing | (0, 0.5); 1e-3 in the paper. At 0 the KL is infinite |
//
// Source: Ji et al. (arXiv 2402.00856), eq. 16 (β here is the paper's β_π).
//
// Worked case: β = 1, ε = 0.1, Δ = ln 6, q = 6/7:
// 6/7 ln(60/63) + 1/7 ln(10/7) = −0.041820 + 0.050954 = 0.009133. At q = 1 − ε it is 0.
//
// Departures: none.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

namespace rlhf {

/// delta (B): Δ. Returns (B).
inline at::Tensor exo_pair_loss(const at::Tensor& delta, double beta, double label_smoothing) {
  const auto logits = beta * delta;
  const auto chosen = at::log_sigmoid(logits) - std::log1p(-label_smoothing);
  const auto rejected = at::log_sigmoid(-logits) - std::log(label_smoothing);
  return at::sigmoid(logits) * chosen + at::sigmoid(-logits) * rejected;
}

}  // namespace rlhf
