#include "rlhf/config/dpo_config.h"

#include <algorithm>

#include "rlhf/config/command.h"
#include "rlhf/config/dpo_checks.h"
#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

constexpr MethodTraits kDpo = {.name = "dpo",
                               .label_smoothing_hint = "label_smoothing is the option of dpo."};

void declare_losses(OptionSet& set, DpoOptions& options) {
  set.group("DPO");
  set.add("loss_type", options.loss_type,
          "The loss, or several for their weighted sum; cpo, simpo and orpo have no reference and "
          "stand alone.")
      .old_name("pref_loss");
  set.add("loss_weights", options.loss_weights, "Weight of each of several losses; null: 1.")
      .at_least(0);
  set.add("beta", options.loss.beta,
          "Strength of the pull to the reference; weight of orpo's ratio.")
      .above(0)
      .written("β")
      .old_name("pref_beta");
  set.add("label_smoothing", options.loss.label_smoothing,
          "Share of labels taken to be flipped: of sigmoid (conservative DPO), robust, exo_pair "
          "(above 0 there), aot, aot_unpaired, cpo, simpo.")
      .from_below(0, 0.5)
      .written("ε")
      .old_name("dpo_label_smoothing");
  set.add("f_divergence_type", options.loss.f_divergence,
          "Divergence from the reference (arXiv 2309.16240): of sigmoid, sigmoid_norm, hinge, ipo, "
          "exo_pair, robust, discopop.");
  set.add("f_alpha_divergence_coef", options.loss.f_alpha, "Of alpha_divergence; not 1.")
      .written("α");
  set.add("discopop_tau", options.loss.discopop_tau, "Temperature of discopop (arXiv 2406.08414).")
      .above(0)
      .written("τ");
  set.add(
         "ld_alpha", options.ld_alpha,
         "LD-DPO (arXiv 2409.06411): weight of tokens beyond the shorter answer's length; null: 1.")
      .between(0, 1)
      .written("α");
  set.add("use_weighting", options.use_weighting,
          "WPO (arXiv 2406.11827): weigh each pair by how likely the policy is to write it.");
  set.add("reference_free", options.reference_free, "Take the reference's log-probabilities as 0.");
}

void declare_likelihood(OptionSet& set, DpoOptions& options) {
  set.add("rpo_alpha", options.rpo_alpha,
          "RPO of older TRL: adds the loss sft with this weight. Read as loss_type and "
          "loss_weights.")
      .at_least(0)
      .written("α");
  set.add("pref_ftx", options.pref_ftx,
          "LLaMA-Factory's: weight of the chosen answers' likelihood, a mean over rows of each "
          "row's mean over tokens.")
      .at_least(0);
  set.add("cpo_alpha", options.cpo_alpha,
          "Of cpo and simpo: weight of the chosen answers' likelihood, a mean over tokens; 0 for "
          "SimPO as in its paper.")
      .at_least(0)
      .written("λ");
  set.add("simpo_gamma", options.loss.simpo_gamma, "Target margin of simpo (arXiv 2405.14734).")
      .at_least(0)
      .written("γ");
}

void declare_rows(OptionSet& set, DpoOptions& options) {
  set.add("max_length", options.max_length,
          "Longest prompt and answer in tokens; null: no limit. Rows whose prompt fills it are "
          "dropped.")
      .at_least(1);
  set.add("truncation_mode", options.truncation_mode, "Which end of a longer row is kept.");
  set.add("drop_identical_pairs", options.drop_identical_pairs,
          "Leave out rows whose two answers are the same; they are counted and named either way.");
  declare_disable_dropout(set, options.disable_dropout);
}

/// `rpo_alpha` as the loss that it is. Left alone where it fits nothing: validate() says so.
void fold_rpo(DpoOptions& options) {
  const bool weighed = options.loss_weights.has_value();
  if (!options.rpo_alpha || has_loss(options, DpoLoss::sft) || stands_alone(options) ||
      (weighed && options.loss_weights->size() != options.loss_type.size())) {
    return;
  }
  options.loss_weights = loss_weights_of(options);
  options.loss_weights->push_back(*options.rpo_alpha);
  options.loss_type.push_back(DpoLoss::sft);
  options.rpo_alpha.reset();
}

}  // namespace

void declare(OptionSet& set, DpoOptions& options) {
  declare_losses(set, options);
  declare_likelihood(set, options);
  declare_rows(set, options);
  declare(set, options.reference);
  declare_inert_preference_keys(set);
  set.add_inert({InertKey::Status::refused, "alpha", 0.0,
                 "AlphaPO is not offered; loss_type simpo is its limit at 0."});
}

void declare(OptionSet& set, DpoConfig& config) {
  declare_command(set, config, &DpoConfig::dpo, kDpo);
}

void resolve(DpoConfig& config, std::vector<std::string>* notes) {
  resolve_common(config, notes);
  fold_rpo(config.dpo);
  note_dropout(config.lora, config.dpo.disable_dropout, notes);
}

void validate(const DpoConfig& config, Problems& problems) {
  validate_common(config, kDpo, problems);
  check_losses(config.dpo, problems);
  validate(config.dpo.reference, config.lora, why_no_reference(config.dpo), problems);
}

std::vector<double> loss_weights_of(const DpoOptions& options) {
  return options.loss_weights.value_or(std::vector<double>(options.loss_type.size(), 1.0));
}

bool uses_reference(const DpoOptions& options) {
  return !options.reference_free && std::any_of(options.loss_type.begin(), options.loss_type.end(),
                                                [](DpoLoss loss) { return needs_reference(loss); });
}

DpoConfig read_dpo_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<DpoConfig>(args, notes);
}

std::string dpo_help() {
  return config_help<DpoConfig>(
      "dpo", "Trains on pairs of a chosen and a rejected answer: DPO and its family.");
}

std::string resolved_yaml(const DpoConfig& config) { return config_yaml(config); }
std::string resolved_table(const DpoConfig& config) { return config_table(config); }

}  // namespace rlhf
