// The critic's loss: squared error against the returns, with values held near those of the rollout.
//
//   l_t = max((V_t − R_t)², (clip(V_t, V_old − c, V_old + c) − R_t)²)
//   L   = ½ Σ_t l_t m_t / N
//
//   | symbol | parameter              | range                                              |
//   |--------|------------------------|----------------------------------------------------|
//   | c      | cliprange_value        | at least 0; none or 0: no clip, l = (V − R)²; 0.2  |
//   | R      | ValueInputs::returns   | math/gae.h, of the rollout, no gradient            |
//   | V_old  | ValueInputs::old_values| of the critic that the returns came from           |
//   | m      | ValueInputs::mask      | tokens that count                                  |
//   | N      | tokens                 | tokens of the step that count                      |
//
// N is known before the first backward: cutting the step into calls changes nothing. The loss is
// part of PPO's with the weight vf_coef (0.1).
//
// The larger of the two errors is a pessimistic bound: a value that has moved by more than c and is
// nearer its return than the clip allows has no gradient; any other keeps its own.
//
// Source: Schulman et al., PPO (arXiv 1707.06347), eq. 9, for the weight; the clip is OpenAI
// baselines' (ppo2), described in Huang et al., The 37 implementation details of PPO (2022).
//
// Worked case: V_old = 0, R = 1, c = 0.2. V = 0.5: max(0.25, 0.64), no gradient. V = −0.5:
// max(2.25, 1.44), slope 2 (V − R) = −3. N = 2: L = ½ (0.64 + 2.25) / 2 = 0.7225.
//
// Departures: TRL takes the mean over each micro-batch, and c = 0 holds values where they were
// (no gradient but of those that move away). TRL's tokens include one place behind the stop token.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "rlhf/losses/running_moments.h"

namespace rlhf {

/// Floating tensors are all fp32 or all double.
struct ValueInputs {
  at::Tensor values;           ///< (R) of the critic, differentiable
  at::Tensor old_values = {};  ///< (R); needed where values are clipped
  at::Tensor returns;          ///< (R)
  at::Tensor mask;             ///< (R) bool: tokens that count; the others may hold anything
};

/// Sums over calls: clip fraction = clipped / tokens (TRL's val/clipfrac), mean value = values /
/// tokens, mean squared error = squares / tokens.
struct ValueMetrics {
  double tokens = 0;   ///< that count
  double clipped = 0;  ///< of them the clipped error is the larger
  double values = 0;   ///< Σ V
  double squares = 0;  ///< Σ (V − R)²
  RunningMoments returns;
  RunningMoments residuals;  ///< of R − V

  void add(const ValueMetrics& other);
  /// 1 − Var(R − V) / Var(R): 1 for a critic that knows the returns, 0 for one that knows no more
  /// than their mean, below for a worse one. None where returns have no spread beyond rounding.
  std::optional<double> explained_variance() const;
};

struct ValueLossResult {
  at::Tensor loss;  ///< scalar, differentiable in values
  ValueMetrics metrics;
};

/// `tokens` are the step's. Gradient 0 for a token that does not count. Error for a clip below 0, a
/// denominator that is not above 0 while a token counts, and tensors that are missing or do not fit.
ValueLossResult value_loss(const ValueInputs& inputs, std::optional<double> cliprange_value,
                           double tokens);

}  // namespace rlhf
