// SPPO with hard labels: each log-ratio is drawn to its share of the win rate.
//
//   L = (D+ − 1/(2β))² + (D- + 1/(2β))²
//
//   | symbol | parameter | range                                 |
//   |--------|-----------|---------------------------------------|
//   | β      | beta      | above 0; 1/η of the paper, 1e-3 there |
//
// Source: Wu et al. (arXiv 2405.00675), eq. 4.7 with P(y+ wins) = 1 and P(y- wins) = 0: the target
// η(P − ½) is ±1/(2β).
//
// Worked case: β = 1, D+ = ln 3, D- = −ln 2: (ln 3 − ½)² + (½ − ln 2)² = 0.358337 + 0.037306
// = 0.395642.
//
// Departures: the paper estimates P by a preference model over K samples; the labels are taken as
// certain here, and both answers are summed, as in TRL.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// Log-ratios (B). Returns (B).
inline at::Tensor sppo_hard_loss(const at::Tensor& chosen, const at::Tensor& rejected,
                                 double beta) {
  const double target = 1 / (2 * beta);
  return (chosen - target).square() + (rejected + target).square();
}

}  // namespace rlhf
