// LoRA: small trained matrices beside frozen linear layers. Names and defaults: TRL 1.16's
// ModelConfig; `adapter_name_or_path` is LLaMA-Factory's. What a key means beyond its line here is
// PEFT's LoraConfig: the adapter folder that a run writes is PEFT's.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/options.h"

namespace rlhf {

struct LoraOptions {
  bool use_peft = false;  ///< true once resolved where there is an adapter to go on with
  std::optional<std::string> adapter_name_or_path;  ///< its adapter_config.json says the rest
  int64_t lora_r = 16;
  double lora_alpha = 32;
  double lora_dropout = 0.05;  ///< see adapter_dropout()
  /// Last parts of the names of linear layers; or one text alone: "all-linear", or a regular
  /// expression that a whole name must match; null: what PEFT takes for the architecture.
  std::optional<std::vector<std::string>> lora_target_modules;
  std::optional<std::vector<int64_t>> lora_layers_to_transform;  ///< from 0; null: all
  std::optional<std::vector<std::string>> lora_modules_to_save;
  bool use_rslora = false;
  bool use_dora = false;
};

/// `task` is PEFT's name of what the method trains: CAUSAL_LM, SEQ_CLS, TOKEN_CLS.
void declare(OptionSet& set, LoraOptions& options, std::string_view task);
/// A model folder that is a PEFT adapter folder is the adapter to go on training.
void resolve(LoraOptions& options, const std::optional<std::string>& model_folder);
/// An option that asks for an adapter without use_peft, or beside a start adapter that says it
/// itself, is a problem.
void validate(const LoraOptions& options, Problems& problems);

/// The regular expression of lora_target_modules, where it is one; else empty.
std::string target_pattern(const LoraOptions& options);

/// The dropout that adapters are trained with: `disable_dropout` of the preference methods switches
/// it off too, as in TRL.
double adapter_dropout(const LoraOptions& options, bool disable_dropout);

/// The switch itself, declared alike by every preference method.
void declare_disable_dropout(OptionSet& set, bool& disable_dropout);
/// Adds a note where lora_dropout or disable_dropout has no effect.
void note_dropout(const LoraOptions& options, bool disable_dropout,
                  std::vector<std::string>* notes);

}  // namespace rlhf
