// Bradley-Terry: the chosen answer wins with probability σ(r+ − r-).
//
//   L = −log σ(r+ − r- − m) + c (r+ + r-)²
//
//   | symbol | parameter                  | range                                     |
//   |--------|----------------------------|-------------------------------------------|
//   | m      | margin of the row          | any; 0 where none is given                |
//   | c      | center_rewards_coefficient | at least 0; 0.01 in the paper, 0 for none |
//
// Source: Ouyang et al., InstructGPT (arXiv 2203.02155), eq. 1; margin: Touvron et al., Llama 2
// (arXiv 2307.09288), eq. 2; centring, which pins the level that the first term leaves free:
// Eisenstein et al. (arXiv 2312.09244), section 2.
//
// Worked case: r+ = ln 6, r- = 0. m = 0: ln(7/6). m = ln 2: −log σ(ln 3) = ln(4/3) = 0.287682.
// c = 0.01: + 0.01 · (ln 6)² = 0.032104.
//
// Departures: InstructGPT averages over all pairs of a ranking; a row is one pair here.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// Rewards (B), differentiable; margin (B) or undefined. Returns (B), to be averaged over the pairs
/// of the step. Finite, and with a finite gradient, at rewards up to ±1e4.
inline at::Tensor bradley_terry_loss(const at::Tensor& chosen, const at::Tensor& rejected,
                                     const at::Tensor& margin = {}, double centring = 0.0) {
  const auto gap = chosen - rejected;
  const auto loss = -at::log_sigmoid(margin.defined() ? gap - margin : gap);
  return centring == 0.0 ? loss : loss + centring * (chosen + rejected).square();
}

}  // namespace rlhf
