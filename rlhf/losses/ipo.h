// IPO: regression of the margin on 1/(2τ), which no certainty of the labels drives to infinity.
//
//   L = (s+ / |y+| − s- / |y-| − 1/(2β))²
//
//   | symbol     | parameter                      | range      |
//   |------------|--------------------------------|------------|
//   | β (τ)      | beta                           | above 0    |
//   | |y+|, |y-| | chosen_tokens, rejected_tokens | at least 1 |
//
// Source: Azar et al. (arXiv 2310.12036), eq. 17.
//
// Worked case: β = 1, D+ = ln 3 over 2 tokens, D- = −ln 2 over 4:
// (½ ln 3 + ¼ ln 2 − ½)² = 0.222593² = 0.0495477.
//
// Departures: the paper writes sums; log-ratios are per token here, as in TRL, whose note says that
// the authors confirm this form for their results. With alpha_divergence the exponent is clamped at
// kIpoExponentBound and not at 80, so that the square stays within fp32, where TRL overflows.
#pragma once

#include <ATen/ATen.h>

namespace rlhf {

/// e^40 squared is 5.5e34.
inline constexpr double kIpoExponentBound = 40.0;

/// Scores and token counts (B). Returns (B).
inline at::Tensor ipo_loss(const at::Tensor& chosen, const at::Tensor& rejected,
                           const at::Tensor& chosen_tokens, const at::Tensor& rejected_tokens,
                           double beta) {
  const auto delta = chosen / chosen_tokens - rejected / rejected_tokens;
  return (delta - 1 / (2 * beta)).square();
}

}  // namespace rlhf
