// The objectives on answers without pairs as data. No tensor here, so that a configuration can be
// read and judged without one.
#pragma once

#include <array>
#include <string_view>

#include "rlhf/core/options.h"

namespace rlhf {

enum class UnpairedLoss {
  kto,
  apo_zero_unpaired,
  bco,
};
template <>
struct EnumNames<UnpairedLoss> {
  static constexpr std::array<std::string_view, 3> names = {"kto", "apo_zero_unpaired", "bco"};
};

struct UnpairedLossOptions {
  double beta = 0.1;                ///< β > 0
  double desirable_weight = 1.0;    ///< λ_D >= 0
  double undesirable_weight = 1.0;  ///< λ_U >= 0
};

/// The loss needs z, from log-ratios of mismatched prompts and answers (kto.h).
constexpr bool needs_mismatched_answers(UnpairedLoss loss) { return loss == UnpairedLoss::kto; }

/// The loss needs δ, a running mean of rewards that is part of a run's state (bco.h).
constexpr bool needs_running_mean(UnpairedLoss loss) { return loss == UnpairedLoss::bco; }

}  // namespace rlhf
