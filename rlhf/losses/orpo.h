// ORPO: the odds ratio of the two answers as a penalty beside supervised fine-tuning.
//
//   L = −β log σ(log odds+ − log odds-)  [ + NLL of prompt and chosen answer ]
//   log odds = p̄ − log(1 − e^p̄),   p̄ = logπ(y) / |y|
//
//   | symbol     | parameter                      | range                     |
//   |------------|--------------------------------|---------------------------|
//   | β (λ)      | beta                           | above 0; 0.1 in the paper |
//   | |y+|, |y-| | chosen_tokens, rejected_tokens | at least 1                |
//
// The term in brackets is the trainer's: a token mean over prompts and chosen answers of the step.
// Source: Hong et al. (arXiv 2403.07691), eq. 4, 6 and 7.
//
// Worked case: β = 1, e^p̄+ = 3/4 (odds 3), e^p̄- = 1/3 (odds ½): the odds ratio is 6 and the loss
// ln(7/6) = 0.154151.
//
// Departures: an answer that is certain to working precision, p̄ = 0, has infinite odds and no
// gradient but NaN; p̄ is held at or below −1e-7, odds of 1e7.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

namespace rlhf {

/// log(e^x / (1 − e^x)) of log-probabilities x <= 0, accurate near 0 and far below it.
inline at::Tensor log_odds(const at::Tensor& x) {
  constexpr double kCertain = -1e-7;
  const auto p = x.clamp_max(kCertain);
  // log(1 − e^x): by expm1 near 0, where 1 − e^x cancels, by log1p below −ln 2, where it rounds
  // to 1. Each branch is given a harmless argument where the other is taken, so that no NaN leaks
  // into the gradient.
  const auto near = p > -std::log(2.0);
  const auto close = at::where(near, p, at::full_like(p, -1.0));
  const auto far = at::where(near, at::full_like(p, -1.0), p);
  return p - at::where(near, (-close.expm1()).log(), (-far.exp()).log1p());
}

/// Mean log-probabilities of a token (B). Returns (B).
inline at::Tensor orpo_loss(const at::Tensor& chosen, const at::Tensor& rejected, double beta) {
  return -beta * at::log_sigmoid(log_odds(chosen) - log_odds(rejected));
}

}  // namespace rlhf
