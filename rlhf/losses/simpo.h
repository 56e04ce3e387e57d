// SimPO: the reward is the mean log-probability of a token, without a reference, and must win by γ.
//
//   L = −(1 − ε) log σ(x) − ε log σ(−x),   x = β(p̄+ − p̄-) − γ,   p̄ = logπ(y) / |y|
//
//   | symbol     | parameter                      | range                               |
//   |------------|--------------------------------|-------------------------------------|
//   | β          | beta                           | above 0; 2 to 10 in the paper       |
//   | γ          | simpo_gamma                    | at least 0; γ/β of 0.3 to 0.6 there |
//   | ε          | label_smoothing                | [0, 0.5)                            |
//   | |y+|, |y-| | chosen_tokens, rejected_tokens | at least 1                          |
//
// Source: Meng et al. (arXiv 2405.14734), eq. 6.
//
// Worked case: β = 2, γ = ½, p̄+ = −1, p̄- = −1.25: x = 0 and the loss is ln 2.
//
// Departures: ε, and a likelihood term that the trainer adds with cpo_alpha (1 by default), are
// TRL's; 0 for both is the paper.
#pragma once

#include <ATen/ATen.h>

#include "rlhf/losses/sigmoid.h"

namespace rlhf {

/// Mean log-probabilities of a token (B). Returns (B).
inline at::Tensor simpo_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta,
                             double gamma, double label_smoothing) {
  return sigmoid_loss(beta * (chosen - rejected) - gamma, /*beta=*/1.0, label_smoothing);
}

}  // namespace rlhf
