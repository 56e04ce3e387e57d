#include "rlhf/config/dpo_checks.h"

#include <algorithm>
#include <set>

namespace rlhf {
namespace {

constexpr DpoLoss kAllLosses[] = {DpoLoss::sigmoid,      DpoLoss::hinge,     DpoLoss::ipo,
                                  DpoLoss::exo_pair,     DpoLoss::nca_pair,  DpoLoss::robust,
                                  DpoLoss::bco_pair,     DpoLoss::sppo_hard, DpoLoss::aot,
                                  DpoLoss::aot_unpaired, DpoLoss::apo_zero,  DpoLoss::apo_down,
                                  DpoLoss::discopop,     DpoLoss::sft,       DpoLoss::sigmoid_norm,
                                  DpoLoss::cpo,          DpoLoss::simpo,     DpoLoss::orpo};

bool is_objective_of_its_own(DpoLoss loss) {
  return loss == DpoLoss::cpo || loss == DpoLoss::simpo || loss == DpoLoss::orpo;
}

bool uses_beta(DpoLoss loss) { return loss != DpoLoss::sft; }
bool uses_cpo_alpha(DpoLoss loss) { return loss == DpoLoss::cpo || loss == DpoLoss::simpo; }
bool uses_ld_alpha(DpoLoss loss) { return needs_reference(loss); }
bool uses_discopop_tau(DpoLoss loss) { return loss == DpoLoss::discopop; }
bool uses_simpo_gamma(DpoLoss loss) { return loss == DpoLoss::simpo; }

template <class Predicate>
std::string names_of(std::span<const DpoLoss> losses, Predicate holds) {
  std::string names;
  for (const DpoLoss loss : losses) {
    if (holds(loss)) names += (names.empty() ? "" : ", ") + enum_text(loss);
  }
  return names;
}

std::string names_of(const DpoOptions& options) {
  return names_of(options.loss_type, [](DpoLoss) { return true; });
}

void check_list(const DpoOptions& options, Problems& problems) {
  const auto& losses = options.loss_type;
  if (losses.empty()) {
    problems.add("loss_type", "expected a loss, got an empty list.", "the default is sigmoid.");
  }
  if (std::set(losses.begin(), losses.end()).size() != losses.size()) {
    problems.add("loss_type", fmt::format("a loss is named twice in {}.", names_of(options)),
                 "name it once and give its weight in loss_weights.");
  }
  if (stands_alone(options) && losses.size() > 1) {
    problems.add(
        "loss_type",
        fmt::format(
            "{} has a likelihood term of its own and no reference: it stands alone, got {}.",
            names_of(losses, is_objective_of_its_own), names_of(options)),
        "weigh its terms with beta and cpo_alpha.");
  }
  const auto& weights = options.loss_weights;
  if (!weights) return;
  if (weights->size() != losses.size()) {
    problems.add("loss_weights",
                 fmt::format("expected a weight for each of {} losses, got {}.", losses.size(),
                             weights->size()),
                 fmt::format("loss_type is {}.", names_of(options)));
  } else if (std::all_of(weights->begin(), weights->end(), [](double w) { return w == 0; })) {
    problems.add("loss_weights", "expected a weight above 0, got none.",
                 "remove the key for a weight of 1 each.");
  }
}

/// Options that belong to some losses only.
void check_used(const DpoOptions& options, Problems& problems) {
  const DpoOptions unset;
  const auto check = [&](bool changed, const char* key, auto uses) {
    if (!changed || !names_of(options.loss_type, uses).empty()) return;
    problems.add(key, fmt::format("loss_type {} does not use it.", names_of(options)),
                 fmt::format("remove the key; it belongs to {}.", names_of(kAllLosses, uses)));
  };
  const DpoLossOptions& loss = options.loss;
  check(loss.beta != unset.loss.beta, "beta", uses_beta);
  check(loss.label_smoothing != 0, "label_smoothing", takes_label_smoothing);
  check(loss.discopop_tau != unset.loss.discopop_tau, "discopop_tau", uses_discopop_tau);
  check(loss.simpo_gamma != unset.loss.simpo_gamma, "simpo_gamma", uses_simpo_gamma);
  check(options.cpo_alpha != unset.cpo_alpha, "cpo_alpha", uses_cpo_alpha);
  check(options.ld_alpha.has_value(), "ld_alpha", uses_ld_alpha);
  check(options.reference_free, "reference_free", needs_reference);
  check(options.use_weighting, "use_weighting", takes_weighting);
}

void check_divergence(const DpoOptions& options, Problems& problems) {
  const DpoLossOptions& loss = options.loss;
  const std::string type = enum_text(loss.f_divergence);
  if (loss.f_divergence != FDivergence::reverse_kl) {
    const auto has_none = [](DpoLoss one) {
      return !takes_f_divergence(one) && one != DpoLoss::sft;
    };
    const std::string without = names_of(options.loss_type, has_none);
    if (!without.empty() || names_of(options.loss_type, takes_f_divergence).empty()) {
      problems.add("f_divergence_type",
                   fmt::format("{} is not defined for loss_type {}.", type,
                               without.empty() ? names_of(options) : without),
                   fmt::format("use reverse_kl; the others go with {}.",
                               names_of(kAllLosses, takes_f_divergence)));
    }
    if (options.reference_free) {
      problems.add("f_divergence_type",
                   fmt::format("reference_free leaves {} nothing to diverge from.", type),
                   "keep one of the two.");
    }
  }
  if (loss.f_divergence != FDivergence::alpha_divergence) {
    if (loss.f_alpha != DpoLossOptions{}.f_alpha) {
      problems.add("f_alpha_divergence_coef", fmt::format("f_divergence_type is {}.", type),
                   "set f_divergence_type: alpha_divergence, or remove the key.");
    }
  } else if (loss.f_alpha == 1) {
    problems.add("f_alpha_divergence_coef", "expected a number other than 1, got 1.",
                 "f_divergence_type: reverse_kl is the limit there.");
  }
}

void check_likelihood(const DpoOptions& options, Problems& problems) {
  if (options.rpo_alpha && has_loss(options, DpoLoss::sft)) {
    problems.add("rpo_alpha", "it adds the loss sft, which loss_type has already.",
                 "give the weight of sft in loss_weights.");
  } else if (options.rpo_alpha && stands_alone(options)) {
    problems.add(
        "rpo_alpha",
        fmt::format("loss_type {} has a likelihood term of its own.", names_of(options)),
        has_loss(options, DpoLoss::orpo) ? "remove the key." : "give its weight as cpo_alpha.");
  }
  if (options.pref_ftx > 0 && has_loss(options, DpoLoss::sft)) {
    problems.add(
        "pref_ftx",
        "the loss sft adds the likelihood of the chosen answers already (rpo_alpha is read as it).",
        "keep one; sft is a mean over tokens, pref_ftx one over rows.");
  }
}

}  // namespace

bool has_loss(const DpoOptions& options, DpoLoss loss) {
  return std::find(options.loss_type.begin(), options.loss_type.end(), loss) !=
         options.loss_type.end();
}

bool stands_alone(const DpoOptions& options) {
  return std::any_of(options.loss_type.begin(), options.loss_type.end(), is_objective_of_its_own);
}

std::string why_no_reference(const DpoOptions& options) {
  if (uses_reference(options)) return "";
  if (options.reference_free) return "reference_free: true leaves the reference out.";
  return fmt::format("loss_type {} has no reference.", names_of(options));
}

void check_losses(const DpoOptions& options, Problems& problems) {
  check_list(options, problems);
  if (options.loss_type.empty()) return;
  check_used(options, problems);
  check_divergence(options, problems);
  check_likelihood(options, problems);
  if (options.loss.label_smoothing == 0 &&
      !names_of(options.loss_type, needs_label_smoothing).empty()) {
    problems.add("label_smoothing", "loss_type exo_pair needs it above 0, got 0.",
                 "its paper uses 0.001 (arXiv 2402.00856).");
  }
  if (options.use_weighting && !names_of(options.loss_type, needs_whole_step).empty()) {
    problems.add("use_weighting",
                 fmt::format("{} sorts the pairs, so a weight has no pair to go to.",
                             names_of(options.loss_type, needs_whole_step)),
                 "keep one of the two.");
  }
}

}  // namespace rlhf
