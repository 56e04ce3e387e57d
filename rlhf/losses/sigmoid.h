// DPO, and conservative DPO with ε > 0:
//
//   L = −(1 − ε) log σ(βΔ) − ε log σ(−βΔ)
//
//   | symbol | parameter       | range                     |
//   |--------|-----------------|---------------------------|
//   | β      | beta            | above 0; 0.1 in the paper |
//   | ε      | label_smoothing | [0, 0.5)                  |
//
// The gradient in Δ, −β(σ(−βΔ) − ε), vanishes at σ(βΔ) = 1 − ε instead of nowhere.
// Source: Rafailov et al., DPO (arXiv 2305.18290), eq. 7; Mitchell, A note on DPO with noisy
// preferences (ericmitchell.ai/cdpo.pdf, 2023).
//
// Worked case: β = 1, D+ = ln 3, D- = −ln 2, so Δ = ln 6 and σ(Δ) = 6/7. ε = 0: ln(7/6) = 0.154151.
// ε = 0.1: 0.9 ln(7/6) + 0.1 ln 7 = 0.333327. Policy equal to reference: ln 2.
//
// Departures: none from the papers. TRL 1.16 has ε = 0 here.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// delta (B): Δ. Returns (B).
inline at::Tensor sigmoid_loss(const at::Tensor& delta, double beta, double label_smoothing) {
  const auto logits = beta * delta;
  const auto kept = -at::log_sigmoid(logits);
  if (label_smoothing == 0.0) {
    return kept;
  }
  return (1 - label_smoothing) * kept - label_smoothing * at::log_sigmoid(-logits);
}

}  // namespace rlhf
