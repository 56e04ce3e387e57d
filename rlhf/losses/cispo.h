// CISPO: REINFORCE with a capped importance weight, so that no token loses its gradient.
//
//   l_t = −sg(min(r_t, ε_max)) · A · log π(y_t)
//
//   | symbol | parameter    | range                                            |
//   |--------|--------------|--------------------------------------------------|
//   | ε_max  | epsilon_high | above 0: a cap on r itself; 5 in ScaleRL         |
//
// Source: MiniMax-M1 (arXiv 2506.13585), eq. 4; ScaleRL (arXiv 2510.13786).
//
// Worked case: r = 6, ε_max = 5, A = 2, log π = −1: −5 · 2 · −1 = 10; the gradient by log π is −10.
//
// Departures: as in TRL a missing epsilon_high falls back to epsilon, which as a cap below 1
// shrinks every gradient: `rlhf grpo` warns.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// ratio, advantages, logprobs (R). Returns (R).
inline at::Tensor cispo_loss(const at::Tensor& ratio, const at::Tensor& advantages,
                             const at::Tensor& logprobs, double cap) {
  return -ratio.detach().clamp_max(cap) * advantages * logprobs;
}

}  // namespace rlhf
