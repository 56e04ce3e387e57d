// Length-normalised DPO: log-ratios per token, so that a long answer does not weigh by its length.
//
//   L = −log σ(β (s+ / |y+| − s- / |y-|))
//
//   | symbol     | parameter                      | range                |
//   |------------|--------------------------------|----------------------|
//   | β          | beta                           | above 0; 5 in Tülu 3 |
//   | |y+|, |y-| | chosen_tokens, rejected_tokens | at least 1           |
//
// Source: Lambert et al., Tülu 3 (arXiv 2411.15124), after SimPO (arXiv 2405.14734).
//
// Worked case: β = 1, D+ = ln 3 over 2 tokens, D- = −ln 2 over 4: the difference is
// ½ ln 3 + ¼ ln 2, the loss ln(1 + 3^(−½) 2^(−¼)) = ln 1.485492 = 0.395746.
//
// Departures: with an f-divergence the scores are normalised, as in TRL; the paper has
// reverse_kl only.
#pragma once

#include <ATen/ATen.h>

#include "rlhf/losses/sigmoid.h"

namespace rlhf {

/// Scores and token counts (B). Returns (B).
inline at::Tensor sigmoid_norm_loss(const at::Tensor& chosen, const at::Tensor& rejected,
                                    const at::Tensor& chosen_tokens,
                                    const at::Tensor& rejected_tokens, double beta) {
  const auto delta = chosen / chosen_tokens - rejected / rejected_tokens;
  return sigmoid_loss(delta, beta, /*label_smoothing=*/0.0);
}

}  // namespace rlhf
