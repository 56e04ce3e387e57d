// Robust DPO: an estimate of DPO's loss that is unbiased when a share ε of the labels is flipped.
//
//   L = [−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)] / (1 − 2ε)
//
//   | symbol | parameter       | range                                |
//   |--------|-----------------|--------------------------------------|
//   | β      | beta            | above 0                              |
//   | ε      | label_smoothing | [0, 0.5); 0.1 in the paper. 0 is DPO |
//
// Source: Chowdhury et al. (arXiv 2403.00409).
//
// Worked case: β = 1, ε = 0.1, Δ = ln 6: (0.9 ln(7/6) − 0.1 ln 7) / 0.8 = −0.069819. It may be
// negative: only its mean over the flips is a loss.
//
// Departures: none.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// delta (B): Δ. Returns (B).
inline at::Tensor robust_loss(const at::Tensor& delta, double beta, double label_smoothing) {
  const auto logits = beta * delta;
  const auto kept = (1 - label_smoothing) * at::log_sigmoid(logits);
  const auto flipped = label_smoothing * at::log_sigmoid(-logits);
  return (flipped - kept) / (1 - 2 * label_smoothing);
}

}  // namespace rlhf
