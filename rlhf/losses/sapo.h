// SAPO: a smooth gate on the ratio in place of a clip, steeper for negative advantages.
//
//   l_t = −A · (4/τ) · σ(τ (r_t − 1)),   τ = τ_pos where A > 0, else τ_neg
//
//   | symbol | parameter            | range         |
//   |--------|----------------------|---------------|
//   | τ_pos  | sapo_temperature_pos | above 0; 1    |
//   | τ_neg  | sapo_temperature_neg | above 0; 1.05 |
//
// At r = 1 the slope of the gate is 1: the first step is REINFORCE's.
//
// Source: Gao et al., Soft Adaptive Policy Optimization (arXiv 2511.20347).
//
// Worked case: τ_pos = 1, r = 1 + ln 3, A = 2: −2 · 4 · σ(ln 3) = −6.
//
// Departures: none.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// ratio, advantages (R) or (B). Returns the same shape.
inline at::Tensor sapo_loss(const at::Tensor& ratio, const at::Tensor& advantages,
                            double temperature_pos, double temperature_neg) {
  const auto gate = [&](double temperature) {
    return at::sigmoid(temperature * (ratio - 1)) * (4 / temperature);
  };
  return -at::where(advantages.gt(0), gate(temperature_pos), gate(temperature_neg)) * advantages;
}

}  // namespace rlhf
