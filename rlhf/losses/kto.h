// KTO: answers marked desirable or undesirable, valued as gains and losses around a reference
// point; and APO-zero on the same data.
//
//   kto                 L = 1 − σ(β(D − z)) desirable,   1 − σ(β(z − D)) undesirable
//   apo_zero_unpaired   L = 1 − σ(βD) desirable,         σ(βD) undesirable
//   z = max(0, mean of D over mismatched prompts and answers), an estimate of KL(π ‖ π_ref)
//
//   | symbol | parameter          | range                                          |
//   |--------|--------------------|------------------------------------------------|
//   | β      | beta               | above 0; 0.1 in the paper                      |
//   | λ_D    | desirable_weight   | at least 0                                     |
//   | λ_U    | undesirable_weight | at least 0; λ_D n_D / (λ_U n_U) about 1 to 4/3 |
//
// The weights multiply the loss of their class (unpaired.h).
// Source: Ethayarajh et al., KTO (arXiv 2402.01306), eq. 7; D'Oosterlinck et al., APO
// (arXiv 2408.06266), eq. 7.
//
// Worked case: β = 1, z = ln 2. Desirable with D = ln 6: 1 − σ(ln 3) = 1/4. Undesirable with D = 0:
// 1 − σ(ln 2) = 1/3. apo_zero_unpaired: 1 − 6/7 = 1/7 and ½.
//
// Departures: none from the papers but APO's constant 1. TRL takes z from each device's
// micro-batch; it belongs to the step here.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>

namespace rlhf {

/// z from the log-ratios (N) of the step's mismatched prompts and answers. No gradient; 0 for none.
inline double kto_reference_point(const at::Tensor& log_ratios) {
  if (log_ratios.numel() == 0) {
    return 0.0;
  }
  return std::max(0.0, log_ratios.detach().to(at::kDouble).mean().item<double>());
}

/// Log-ratios (B), desirable (B) bool. Returns (B), unweighted.
inline at::Tensor kto_loss(const at::Tensor& log_ratios, const at::Tensor& desirable, double z,
                           double beta) {
  const auto gain = beta * (log_ratios - z);
  return at::sigmoid(at::where(desirable, -gain, gain));
}

/// Log-ratios (B), desirable (B) bool. Returns (B), unweighted.
inline at::Tensor apo_zero_unpaired_loss(const at::Tensor& log_ratios, const at::Tensor& desirable,
                                         double beta) {
  return kto_loss(log_ratios, desirable, /*z=*/0.0, beta);
}

}  // namespace rlhf
