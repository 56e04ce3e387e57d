// The pairwise objectives as data: which there are, what sets them, and which option each of them
// uses. No tensor here, so that a configuration can be read and judged without one.
#pragma once

#include <array>
#include <string_view>

#include "rlhf/core/options.h"

namespace rlhf {

/// One header of this room each (aot.h and apo.h hold two).
enum class DpoLoss {
  sigmoid,
  hinge,
  ipo,
  exo_pair,
  nca_pair,
  robust,
  bco_pair,
  sppo_hard,
  aot,
  aot_unpaired,
  apo_zero,
  apo_down,
  discopop,
  sft,  ///< cross-entropy of the chosen answers: a mean over tokens, made where the logits are
  sigmoid_norm,
  cpo,
  simpo,
  orpo,
};
template <>
struct EnumNames<DpoLoss> {
  static constexpr std::array<std::string_view, 18> names = {
      "sigmoid",  "hinge",     "ipo",          "exo_pair",     "nca_pair", "robust",
      "bco_pair", "sppo_hard", "aot",          "aot_unpaired", "apo_zero", "apo_down",
      "discopop", "sft",       "sigmoid_norm", "cpo",          "simpo",    "orpo"};
};

/// What turns a log-ratio into a score (f_divergence.h).
enum class FDivergence { reverse_kl, forward_kl, js_divergence, alpha_divergence };
template <>
struct EnumNames<FDivergence> {
  static constexpr std::array<std::string_view, 4> names = {"reverse_kl", "forward_kl",
                                                            "js_divergence", "alpha_divergence"};
};

struct DpoLossOptions {
  double beta = 0.1;             ///< β > 0, strength of the pull to the reference
  double label_smoothing = 0.0;  ///< ε in [0, 0.5), the share of labels taken to be flipped
  double discopop_tau = 0.05;    ///< τ > 0 of discopop
  FDivergence f_divergence = FDivergence::reverse_kl;
  double f_alpha = 0.5;      ///< α of alpha_divergence; at 1 it is reverse_kl
  double simpo_gamma = 0.5;  ///< γ >= 0, target margin of simpo
};

/// The loss compares with a reference policy. Without one (reference_free) the reference counts as
/// log-probability 0.
constexpr bool needs_reference(DpoLoss loss) {
  switch (loss) {
    case DpoLoss::sft:
    case DpoLoss::cpo:
    case DpoLoss::simpo:
    case DpoLoss::orpo:
      return false;
    default:
      return true;
  }
}

/// The loss ranks the pairs among themselves: it must see all pairs of a step at once.
constexpr bool needs_whole_step(DpoLoss loss) {
  return loss == DpoLoss::aot || loss == DpoLoss::aot_unpaired;
}

/// The loss divides log-probabilities by the answer's tokens.
constexpr bool length_normalised(DpoLoss loss) {
  switch (loss) {
    case DpoLoss::ipo:
    case DpoLoss::sigmoid_norm:
    case DpoLoss::simpo:
    case DpoLoss::orpo:
      return true;
    default:
      return false;
  }
}

/// The loss is a function of scores, so that any f-divergence may make them.
constexpr bool takes_f_divergence(DpoLoss loss) {
  switch (loss) {
    case DpoLoss::sigmoid:
    case DpoLoss::sigmoid_norm:
    case DpoLoss::hinge:
    case DpoLoss::ipo:
    case DpoLoss::exo_pair:
    case DpoLoss::robust:
    case DpoLoss::discopop:
      return true;
    default:
      return false;
  }
}

/// The loss has an ε.
constexpr bool takes_label_smoothing(DpoLoss loss) {
  switch (loss) {
    case DpoLoss::sigmoid:
    case DpoLoss::robust:
    case DpoLoss::exo_pair:
    case DpoLoss::aot:
    case DpoLoss::aot_unpaired:
    case DpoLoss::cpo:
    case DpoLoss::simpo:
      return true;
    default:
      return false;
  }
}

/// The loss is not defined at ε = 0.
constexpr bool needs_label_smoothing(DpoLoss loss) { return loss == DpoLoss::exo_pair; }

/// WPO's weights of the pairs apply (arXiv 2406.11827): not where sorting takes pairs apart, nor to
/// cross-entropy.
constexpr bool takes_weighting(DpoLoss loss) {
  return !needs_whole_step(loss) && loss != DpoLoss::sft;
}

}  // namespace rlhf
