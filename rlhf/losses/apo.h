// APO: anchored preference optimisation, which says where each likelihood is to go.
//
//   apo_zero   L = 1 − σ(βD+) + σ(βD-)        for chosen answers better than the model's:
//                                             up with them, down with the rejected
//   apo_down   L = σ(βD+) + 1 − σ(β(D+ − D-)) for chosen answers worse than the model's:
//                                             down with them, further down with the rejected
//
//   | symbol | parameter | range                     |
//   |--------|-----------|---------------------------|
//   | β      | beta      | above 0; 0.1 in the paper |
//
// Source: D'Oosterlinck et al. (arXiv 2408.06266), eq. 7 and 8.
//
// Worked case: β = 1, D+ = ln 3, D- = −ln 2. apo_zero: 1/4 + 1/3 = 7/12.
// apo_down: 3/4 + 1/7 = 25/28.
//
// Departures: the constant 1, as in TRL, makes the loss of both lie in (0, 2).
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// Log-ratios (B). Returns (B).
inline at::Tensor apo_zero_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta) {
  return at::sigmoid(-beta * chosen) + at::sigmoid(beta * rejected);
}

/// Log-ratios (B). Returns (B).
inline at::Tensor apo_down_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta) {
  return at::sigmoid(beta * chosen) + at::sigmoid(-beta * (chosen - rejected));
}

}  // namespace rlhf
