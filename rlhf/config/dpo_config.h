// `rlhf dpo`: its configuration, from the command line to the checked struct. Names and defaults:
// TRL 1.16's DPOConfig; those of its CPOConfig and ORPOConfig for the losses without a reference,
// which are values of loss_type here; those of older versions of TRL and of LLaMA-Factory where
// they ask for something that TRL 1.16 dropped.
//
// What loss_type may be: any of the losses with a reference and `sft`, alone or several at once
// (their weighted sum); or one of cpo, simpo and orpo alone. Those have a likelihood term of their
// own and exist to do without the reference that the others need.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/config/ref_model_options.h"
#include "rlhf/losses/dpo_options.h"

namespace rlhf {

struct DpoOptions {
  // Loss
  std::vector<DpoLoss> loss_type = {DpoLoss::sigmoid};
  std::optional<std::vector<double>> loss_weights;  ///< null: see loss_weights_of()
  DpoLossOptions loss;              ///< beta, label_smoothing, f_divergence_type, ...
  std::optional<double> ld_alpha;   ///< LD-DPO; null: every token of an answer counts the same
  bool use_weighting = false;       ///< WPO
  bool reference_free = false;      ///< the reference's log-probabilities count as 0
  std::optional<double> rpo_alpha;  ///< null once resolved: it is a loss sft with this weight
  double pref_ftx = 0;              ///< times the mean over rows of the chosen answer's token mean
  double cpo_alpha = 1.0;           ///< of cpo and simpo: times the token mean over chosen answers

  // Data
  std::optional<int64_t> max_length = 1024;
  TruncationChoice truncation_mode = TruncationChoice::keep_start;
  bool drop_identical_pairs = false;

  bool disable_dropout = true;  ///< see adapter_dropout()
  RefModelOptions reference;
};

struct DpoConfig : CommonConfig {
  DpoConfig() { training.learning_rate = 1e-6; }

  DpoOptions dpo;
};

/// The method's own options; declare(set, config) declares those of the command and every key that
/// sets nothing. `options` and `config` must outlive `set`.
void declare(OptionSet& set, DpoOptions& options);
void declare(OptionSet& set, DpoConfig& config);

/// Fills what follows from other keys. Resolving twice changes nothing more.
void resolve(DpoConfig& config, std::vector<std::string>* notes);

/// Checks keys against each other; call on a resolved configuration. What depends on the data or
/// the model folder is checked where those are read.
void validate(const DpoConfig& config, Problems& problems);

/// Weight of each loss of loss_type; 1 where loss_weights is null.
std::vector<double> loss_weights_of(const DpoOptions& options);

/// Whether the step needs log-probabilities of a reference.
bool uses_reference(const DpoOptions& options);

/// As read_sft_config and its siblings (sft_config.h).
DpoConfig read_dpo_config(std::span<const std::string> args, std::vector<std::string>* notes);
std::string dpo_help();
std::string resolved_yaml(const DpoConfig& config);
std::string resolved_table(const DpoConfig& config);

}  // namespace rlhf
