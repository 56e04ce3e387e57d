#include "rlhf/losses/dpo.h"

#include <ATen/ATen.h>

#include "rlhf/core/error.h"
#include "rlhf/losses/aot.h"
#include "rlhf/losses/apo.h"
#include "rlhf/losses/bco_pair.h"
#include "rlhf/losses/cpo.h"
#include "rlhf/losses/discopop.h"
#include "rlhf/losses/exo_pair.h"
#include "rlhf/losses/f_divergence.h"
#include "rlhf/losses/hinge.h"
#include "rlhf/losses/ipo.h"
#include "rlhf/losses/nca_pair.h"
#include "rlhf/losses/orpo.h"
#include "rlhf/losses/robust.h"
#include "rlhf/losses/sigmoid.h"
#include "rlhf/losses/sigmoid_norm.h"
#include "rlhf/losses/simpo.h"
#include "rlhf/losses/sppo_hard.h"

namespace rlhf {
namespace {

void check_options(DpoLoss loss, const DpoLossOptions& options) {
  const auto where = enum_text(loss);
  check(options.beta > 0, where, "a beta above 0 was expected, got {}.", options.beta);
  check(options.label_smoothing >= 0 && options.label_smoothing < 0.5, where,
        "label smoothing in [0, 0.5) was expected, got {}.", options.label_smoothing);
  check(!needs_label_smoothing(loss) || options.label_smoothing > 0, where,
        "label smoothing above 0 was expected, got 0.");
  check(options.discopop_tau > 0, where, "a discopop_tau above 0 was expected, got {}.",
        options.discopop_tau);
  check(options.simpo_gamma >= 0, where, "a simpo_gamma of at least 0 was expected, got {}.",
        options.simpo_gamma);
  check(takes_f_divergence(loss) || options.f_divergence == FDivergence::reverse_kl, where,
        "the divergence reverse_kl was expected, got {}.", enum_text(options.f_divergence));
}

void check_tensor(const std::string& where, const char* name, const at::Tensor& tensor,
                  const at::Tensor& like) {
  check(tensor.defined() && tensor.dim() == 1 && tensor.sizes() == like.sizes() &&
            tensor.scalar_type() == like.scalar_type(),
        where, "{} ({}) of type {} was expected, got {}.", name, fmt::join(like.sizes(), ", "),
        toString(like.scalar_type()),
        tensor.defined() ? fmt::format("({}) of type {}", fmt::join(tensor.sizes(), ", "),
                                       toString(tensor.scalar_type()))
                         : "none");
}

void check_pairs(DpoLoss loss, const PairLogps& pairs) {
  const auto where = enum_text(loss);
  check_tensor(where, "chosen", pairs.chosen, pairs.chosen);
  check_tensor(where, "rejected", pairs.rejected, pairs.chosen);
  if (needs_reference(loss) && (pairs.ref_chosen.defined() || pairs.ref_rejected.defined())) {
    check_tensor(where, "ref_chosen", pairs.ref_chosen, pairs.chosen);
    check_tensor(where, "ref_rejected", pairs.ref_rejected, pairs.chosen);
  }
  if (length_normalised(loss)) {
    check_tensor(where, "chosen_tokens", pairs.chosen_tokens, pairs.chosen);
    check_tensor(where, "rejected_tokens", pairs.rejected_tokens, pairs.chosen);
  }
}

at::Tensor reference_margin(const PairLogps& pairs) {
  return pairs.ref_chosen.defined() ? pairs.ref_chosen - pairs.ref_rejected
                                    : at::zeros_like(pairs.chosen.detach());
}

// Losses of scores: any f-divergence may make them.
at::Tensor score_loss(DpoLoss loss, const PairLogps& pairs, const LogRatios& ratios,
                      const DpoLossOptions& options) {
  const double bound = loss == DpoLoss::ipo ? kIpoExponentBound : kAlphaExponentBound;
  const auto score = [&](const at::Tensor& log_ratio) {
    return f_divergence_score(options.f_divergence, log_ratio, options.f_alpha, bound);
  };
  const auto chosen = score(ratios.chosen);
  const auto rejected = score(ratios.rejected);
  const double beta = options.beta;
  switch (loss) {
    case DpoLoss::sigmoid:
      return sigmoid_loss(chosen - rejected, beta, options.label_smoothing);
    case DpoLoss::robust:
      return robust_loss(chosen - rejected, beta, options.label_smoothing);
    case DpoLoss::hinge:
      return hinge_loss(chosen - rejected, beta);
    case DpoLoss::exo_pair:
      return exo_pair_loss(chosen - rejected, beta, options.label_smoothing);
    case DpoLoss::discopop:
      return discopop_loss(chosen - rejected, beta, options.discopop_tau);
    case DpoLoss::ipo:
      return ipo_loss(chosen, rejected, pairs.chosen_tokens, pairs.rejected_tokens, beta);
    case DpoLoss::sigmoid_norm:
      return sigmoid_norm_loss(chosen, rejected, pairs.chosen_tokens, pairs.rejected_tokens, beta);
    default:
      fail(enum_text(loss), "a loss of scores was expected.");
  }
}

}  // namespace

LogRatios log_ratios(const PairLogps& pairs) {
  if (!pairs.ref_chosen.defined()) {
    return {pairs.chosen, pairs.rejected};
  }
  return {pairs.chosen - pairs.ref_chosen, pairs.rejected - pairs.ref_rejected};
}

at::Tensor dpo_loss(DpoLoss loss, const PairLogps& pairs, const DpoLossOptions& options) {
  check_options(loss, options);
  check_pairs(loss, pairs);
  const double beta = options.beta;
  const double smoothing = options.label_smoothing;
  const auto ratios = log_ratios(pairs);
  switch (loss) {
    case DpoLoss::sigmoid:
    case DpoLoss::robust:
    case DpoLoss::hinge:
    case DpoLoss::ipo:
    case DpoLoss::exo_pair:
    case DpoLoss::discopop:
    case DpoLoss::sigmoid_norm:
      return score_loss(loss, pairs, ratios, options);
    case DpoLoss::nca_pair:
      return nca_pair_loss(ratios.chosen, ratios.rejected, beta);
    case DpoLoss::bco_pair:
      return bco_pair_loss(ratios.chosen, ratios.rejected, beta);
    case DpoLoss::sppo_hard:
      return sppo_hard_loss(ratios.chosen, ratios.rejected, beta);
    case DpoLoss::aot:
      return aot_loss(pairs.chosen - pairs.rejected, reference_margin(pairs), beta, smoothing);
    case DpoLoss::aot_unpaired:
      return aot_unpaired_loss(ratios.chosen, ratios.rejected, beta, smoothing);
    case DpoLoss::apo_zero:
      return apo_zero_loss(ratios.chosen, ratios.rejected, beta);
    case DpoLoss::apo_down:
      return apo_down_loss(ratios.chosen, ratios.rejected, beta);
    case DpoLoss::cpo:
      return cpo_loss(pairs.chosen, pairs.rejected, beta, smoothing);
    case DpoLoss::simpo:
      return simpo_loss(pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens,
                        beta, options.simpo_gamma, smoothing);
    case DpoLoss::orpo:
      return orpo_loss(pairs.chosen / pairs.chosen_tokens, pairs.rejected / pairs.rejected_tokens,
                       beta);
    case DpoLoss::sft:
      break;
  }
  fail(enum_text(loss), "a loss of pairs was expected.",
       "sft is a mean over the chosen answers' tokens; it is made where the logits are.");
}

}  // namespace rlhf
