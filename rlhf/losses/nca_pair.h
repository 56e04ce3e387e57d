// NCA on pairs: noise contrastive alignment, which holds absolute likelihoods and not their gap.
//
//   L = −log σ(βD+) − ½ log σ(−βD+) − ½ log σ(−βD-)
//
//   | symbol | parameter | range                      |
//   |--------|-----------|----------------------------|
//   | β      | beta      | above 0; 0.01 in the paper |
//
// Source: Chen et al. (arXiv 2402.05369), with K = 2 answers and hard labels.
//
// Worked case: β = 1, D+ = ln 3, D- = −ln 2: −ln(3/4) − ½ ln(1/4) − ½ ln(2/3) = 1.183562.
//
// Departures: none from the pairwise form.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// Log-ratios (B). Returns (B).
inline at::Tensor nca_pair_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta) {
  return -at::log_sigmoid(beta * chosen) - 0.5 * at::log_sigmoid(-beta * chosen) -
         0.5 * at::log_sigmoid(-beta * rejected);
}

}  // namespace rlhf
