// BCO: a classifier of good against bad answers whose logit is the reward, less a shift δ.
//
//   L = −log σ(βD − δ) desirable,   −log σ(−(βD − δ)) undesirable
//   δ = running mean of βD over all answers seen in training, those of this step included
//
//   | symbol | parameter            | range               |
//   |--------|----------------------|---------------------|
//   | β      | beta                 | above 0; 0.1 in TRL |
//   | δ      | RunningMoments::mean | of the run so far   |
//
// Source: Jung et al. (arXiv 2404.04656), the logistic classifier with its reward shift.
//
// Worked case: β = 1, δ = ln 2. Desirable with D = ln 6: −log σ(ln 3) = ln(4/3).
// Undesirable with D = 0: −log σ(ln 2) = ln(3/2).
//
// Departures: the paper's δ is the mean of the two classes' moving averages; here it is TRL's, one
// mean over all answers. TRL takes each micro-batch in before its loss; here the step is taken in
// as a whole. The paper's density ratio for prompts of different kinds is not part of it.
#pragma once

#include <ATen/ATen.h>

#include "rlhf/losses/running_moments.h"

namespace rlhf {

/// Log-ratios (B), desirable (B) bool. Returns (B), unweighted.
inline at::Tensor bco_loss(const at::Tensor& log_ratios, const at::Tensor& desirable, double delta,
                           double beta) {
  const auto logit = beta * log_ratios - delta;
  return -at::log_sigmoid(at::where(desirable, logit, -logit));
}

}  // namespace rlhf
