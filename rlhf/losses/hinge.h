// Hinge loss on the reward margin, SLiC's calibration with DPO's reward:
//
//   L = max(0, 1 − βΔ)
//
//   | symbol | parameter | range               |
//   |--------|-----------|---------------------|
//   | β      | beta      | above 0; 1 / margin |
//
// Source: Zhao et al., SLiC-HF (arXiv 2305.10425); Liu et al., RSO (arXiv 2309.06657).
//
// Worked case: β = ½, Δ = ln 6: 1 − ½ · 1.791759 = 0.104120. At β = 1 the margin is met: 0.
//
// Departures: none. SLiC-HF itself has no reference in the margin; RSO's form is this one.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// delta (B): Δ. Returns (B); the gradient at the kink is 0.
inline at::Tensor hinge_loss(const at::Tensor& delta, double beta) {
  return at::relu(1 - beta * delta);
}

}  // namespace rlhf
