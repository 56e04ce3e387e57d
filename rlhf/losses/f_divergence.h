// f-DPO: the score of an answer when the policy is held near the reference by an f-divergence.
//
//   max E[r] − β D_f(π ‖ π_ref),   D_f = E_ref[f(π / π_ref)],   so  r = β f'(π / π_ref) + const(x)
//
// With D = log(π / π_ref):
//
//   | divergence       | f'                    | score                           |
//   |------------------|-----------------------|---------------------------------|
//   | reverse_kl       | log u + 1             | D                               |
//   | forward_kl       | −1/u                  | 1 − e^(−D)                      |
//   | js_divergence    | log(2u / (1 + u))     | ln 2 + log σ(D)                 |
//   | alpha_divergence | (u^(α−1) − 1)/(α − 1) | (e^((α−1)D) − 1)/(α − 1), α ≠ 1 |
//
// Constants cancel in Δ; those written here make every score 0 at D = 0.
// Source: Wang et al., Beyond Reverse KL (arXiv 2309.16240), theorem 1.
//
// Worked case: D = ln 3. reverse_kl ln 3; forward_kl 1 − 1/3 = 2/3; js ln 2 + ln(3/4) = ln(3/2);
// alpha at ½: (1/√3 − 1)/(−½) = 0.845299; alpha at 2: 3 − 1 = 2.
//
// Departures. The paper's family is u^(−α) with α in (0, 1); the form here is TRL's, Amari's with
// the sign of α turned, and any α is allowed; within 1e-6 of 1 it is its limit, reverse_kl, as in
// TRL. forward_kl: e^x leaves for its tangent at x = 20 (kl.h), where TRL overflows: an answer that
// the policy all but excludes keeps a finite score and its gradient. alpha_divergence: the exponent
// is clamped, at 80 as in TRL; beyond it the gradient is 0.
#pragma once

#include <ATen/ATen.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/losses/dpo_options.h"
#include "rlhf/math/kl.h"

namespace rlhf {

/// e^80 = 5.5e34 is within fp32, its square is not.
inline constexpr double kAlphaExponentBound = 80.0;

/// The score (B) of log-ratios D (B). `alpha` is alpha_divergence's, which clamps its exponent at
/// `bound`.
inline at::Tensor f_divergence_score(FDivergence divergence, const at::Tensor& log_ratio,
                                     double alpha, double bound = kAlphaExponentBound) {
  switch (divergence) {
    case FDivergence::reverse_kl:
      return log_ratio;
    case FDivergence::forward_kl:
      return 1 - bounded_exp(-log_ratio);
    case FDivergence::js_divergence:
      return std::log(2.0) + at::log_sigmoid(log_ratio);
    case FDivergence::alpha_divergence:
      if (std::abs(alpha - 1) < 1e-6) {
        return log_ratio;
      }
      return at::expm1((log_ratio * (alpha - 1)).clamp_max(bound)) / (alpha - 1);
  }
  fail("f_divergence_score", "a known divergence was expected.");
}

}  // namespace rlhf
