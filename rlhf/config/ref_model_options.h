// The reference policy: where it comes from and whether it moves. Names and defaults: TRL 1.16's
// DPOConfig, KTOConfig, GRPOConfig and RLOOConfig; `ref_model_name_or_path` is TRL's argument
// `ref_model`.
#pragma once

#include <optional>
#include <string>

#include "rlhf/config/lora_options.h"
#include "rlhf/core/options.h"

namespace rlhf {

struct RefModelOptions {
  /// Null: the policy as it starts (with an adapter: the base model, or the start adapter).
  std::optional<std::string> ref_model_name_or_path;
  std::optional<bool> precompute_ref_log_probs;  ///< null: see precomputes_reference()
  bool sync_ref_model = false;
  double ref_model_mixup_alpha = 0.6;
  int64_t ref_model_sync_steps = 512;
};

void declare(OptionSet& set, RefModelOptions& options);
/// Without precompute_ref_log_probs: of methods whose answers are not known beforehand.
void declare_live(OptionSet& set, RefModelOptions& options);

/// `why_none` says why the method has no reference ("loss_type simpo has no reference."); empty
/// where it has one.
void validate(const RefModelOptions& options, const LoraOptions& lora, const std::string& why_none,
              Problems& problems);

/// Whether a method with a reference computes its log-probabilities once, before the first step:
/// as the option says, else where the reference is fixed and is not had for nothing. `adapter`: an
/// adapter is trained, so that the reference is the same model with another one or none.
bool precomputes_reference(const RefModelOptions& options, bool adapter);

}  // namespace rlhf
