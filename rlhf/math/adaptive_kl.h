// The weight of the KL penalty, moved so that the policy stays about as far from its reference as
// it was asked to: a controller in proportion to the error, on a logarithmic scale.
//
//   e = clip(KL / target − 1, −0.2, 0.2)
//   β ← β (1 + e · n / horizon)
//
//   | symbol  | parameter | range                                                             |
//   |---------|-----------|-------------------------------------------------------------------|
//   | β       | kl_coef   | the weight to begin with, at least 0; 0.05                        |
//   | target  | target    | above 0; none: β stays as it is                                   |
//   | horizon | horizon   | completions, above n / 5 (else β may change its sign); 10 000     |
//   | KL      | kl        | mean over the batch's completions of Σ_t KL_t                     |
//   | n       |           | completions of the batch                                          |
//
// Source: Ziegler et al. (arXiv 1909.08593), section 2.2; n and horizon as in its code.
//
// Worked case: β = 0.1, target 6, horizon 1000, n = 100. KL = 6.6: e = 0.1, β = 0.1 · 1.01 = 0.101.
// KL = 60: e = 0.2, β = 0.102. KL = 0: e = −0.2, β = 0.098.
//
// Departures: none. TRL 1.12 has no controller; its penalty is fixed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

struct AdaptiveKl {
  std::optional<double> target{};
  double horizon = 10000.0;
};

/// β: part of a run's state.
struct KlControl {
  double coefficient = 0.05;

  /// After a batch of `completions` whose mean KL was `kl`. Error for options out of range and for a
  /// KL that is not finite, unless there is no target.
  void follow(const AdaptiveKl& control, double kl, int64_t completions) {
    if (!control.target) return;
    constexpr double kLimit = 0.2;
    const double share = static_cast<double>(completions) / control.horizon;
    check(*control.target > 0, "adaptive_kl", "a target above 0 was expected, got {}.",
          *control.target);
    check(completions >= 0 && control.horizon > 0 && kLimit * share < 1, "adaptive_kl",
          "a horizon above a fifth of the {} completions of a batch was expected, got {}.",
          completions, control.horizon);
    check(std::isfinite(kl), "adaptive_kl", "a finite KL was expected, got {}.", kl);
    coefficient *= 1 + std::clamp(kl / *control.target - 1, -kLimit, kLimit) * share;
  }

  Json to_json() const { return {{"coefficient", coefficient}}; }
  /// Error unless `json` came from to_json.
  static KlControl from_json(const Json& json) {
    check(json.is_object() && json.contains("coefficient") && json["coefficient"].is_number(),
          "adaptive_kl", "an object with the number coefficient was expected, got {}.",
          json.dump());
    return {.coefficient = json["coefficient"].get<double>()};
  }
};

}  // namespace rlhf
