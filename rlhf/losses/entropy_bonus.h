// Entropy as a lever: a bonus that keeps the policy from collapsing, its weight moved by a
// controller or fixed, and training on the tokens of highest entropy alone.
//
//   L' = L − c · mean_t H_t                                  over the tokens that learn
//   c ← clamp(c ± Δ, c_min, c_max)                           + where mean H <= target, else −
//   keep_t = H_t >= q_{1−ρ}(H)                               a quantile over the step's tokens
//
//   | symbol | parameter            | range                                             |
//   |--------|----------------------|---------------------------------------------------|
//   | c      | entropy_coef         | at least 0; 0                                     |
//   | Δ      | entropy_coef_delta   | at least 0; 0.005                                 |
//   | c_min  | entropy_coef_min     | at least 0; 0                                     |
//   | c_max  | entropy_coef_max     | at least c_min; 1                                 |
//   | target | entropy_target       | at least 0; 0.2                                   |
//   | ρ      | top_entropy_quantile | above 0, at most 1; 1: all tokens; 0.2 in its paper |
//
// Source: the bonus: Mnih et al., A3C (arXiv 1602.01783); the controller: Skywork-OR1 (arXiv
// 2505.22312), as TRL 1.16 has it; the quantile: Wang et al., Beyond the 80/20 rule (arXiv
// 2506.01939).
//
// Worked case: H = (1, 2, 3, 4), ρ = 0.5: the quantile is 2.5, two tokens are kept. c = 0.1, Δ =
// 0.005, target 0.2: after a step of mean H 0.15 c is 0.105 and acts; after one of 0.3 c is 0.095
// and the bonus is off.
//
// Departures: TRL takes the quantile over each local batch; it belongs to the step here.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "rlhf/core/error.h"

namespace rlhf {

/// The entropy that the `share` ρ of tokens with the most reaches, between neighbours by straight
/// lines. `entropies` (N) of the step's tokens that count; +∞ for none. torch.quantile without its
/// limit on N. Error where ρ is not in [0, 1].
inline double entropy_floor(const at::Tensor& entropies, double share) {
  check(share >= 0 && share <= 1, "entropy_floor", "a share in [0, 1] was expected, got {}.",
        share);
  if (entropies.numel() == 0) return INFINITY;
  const auto sorted = std::get<0>(entropies.detach().to(at::kDouble).flatten().sort());
  const double place = (1.0 - share) * static_cast<double>(sorted.numel() - 1);
  const auto low = static_cast<int64_t>(place);
  const int64_t high = std::min(low + 1, sorted.numel() - 1);
  const double a = sorted[low].item<double>();
  const double b = sorted[high].item<double>();
  return a + (place - static_cast<double>(low)) * (b - a);
}

/// The controller's bounds.
struct AdaptiveEntropy {
  double least = 0.0;    ///< c_min
  double most = 1.0;     ///< c_max
  double delta = 0.005;  ///< Δ
  double target = 0.2;
};

/// c after a step whose mean entropy over the tokens that learn was `entropy`.
inline double moved_coefficient(const AdaptiveEntropy& control, double coefficient,
                                double entropy) {
  const double move = entropy <= control.target ? control.delta : -control.delta;
  return std::clamp(coefficient + move, control.least, control.most);
}

/// The weight that the next step's bonus has: none above the target, and none before the first step,
/// when no entropy is known.
inline double acting_coefficient(const AdaptiveEntropy& control, double coefficient,
                                 std::optional<double> last_entropy) {
  return last_entropy && *last_entropy <= control.target ? coefficient : 0.0;
}

}  // namespace rlhf
