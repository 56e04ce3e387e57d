// BCO on pairs: the logit of a classifier of good against bad answers is the reward.
//
//   L = −log σ(βD+) − log σ(−βD-)
//
//   | symbol | parameter | range                      |
//   |--------|-----------|----------------------------|
//   | β      | beta      | above 0; 0.01 in the paper |
//
// Source: Jung et al. (arXiv 2404.04656).
//
// Worked case: β = 1, D+ = ln 3, D- = −ln 2: ln(4/3) + ln(3/2) = ln 2 = 0.693147.
//
// Departures: the paper shifts both rewards by δ, their running mean; here δ = 0, as in
// TRL's pairwise form. bco.h has the shift.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// Log-ratios (B). Returns (B).
inline at::Tensor bco_pair_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta) {
  return -at::log_sigmoid(beta * chosen) - at::log_sigmoid(-beta * rejected);
}

}  // namespace rlhf
