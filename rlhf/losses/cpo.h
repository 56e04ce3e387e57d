// CPO: contrastive preference optimisation, DPO with a uniform reference.
//
//   L = −(1 − ε) log σ(β(logπ+ − logπ-)) − ε log σ(−β(logπ+ − logπ-))  [ + cpo_alpha · NLL(y+) ]
//
//   | symbol | parameter       | range                     |
//   |--------|-----------------|---------------------------|
//   | β      | beta            | above 0; 0.1 in the paper |
//   | ε      | label_smoothing | [0, 0.5)                  |
//
// The term in brackets is the trainer's: a token mean over the chosen answers of the step.
// Source: Xu et al. (arXiv 2401.08417), eq. 3.
//
// Worked case: β = 1, π+ = 1/2, π- = 1/12: the margin is ln 6 and the loss ln(7/6) = 0.154151.
//
// Departures: ε, which is TRL's addition; 0 is the paper.
#pragma once

#include <ATen/ATen.h>

#include "rlhf/losses/sigmoid.h"

namespace rlhf {

/// Log-probabilities (B). Returns (B).
inline at::Tensor cpo_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta,
                           double label_smoothing) {
  return sigmoid_loss(chosen - rejected, beta, label_smoothing);
}

}  // namespace rlhf
