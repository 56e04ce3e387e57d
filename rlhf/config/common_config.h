// What the configuration of every training command is made of.
#pragma once

#include <string_view>

#include "rlhf/config/data_options.h"
#include "rlhf/config/inert_keys.h"
#include "rlhf/config/lora_options.h"
#include "rlhf/config/model_options.h"
#include "rlhf/config/training_options.h"
#include "rlhf/core/options.h"

namespace rlhf {

/// A command's configuration adds the options of its method to these.
struct CommonConfig {
  ModelOptions model;
  TokenizerOptions tokenizer;
  DataOptions data;
  LoraOptions lora;
  TrainingOptions training;
};

/// How a command trains, as far as the common options depend on it.
struct MethodTraits {
  std::string_view name;                ///< of the command
  std::string_view task = "CAUSAL_LM";  ///< PEFT's name of what is trained
  bool adds_noise = false;              ///< neftune_noise_alpha has a meaning
  /// Where not empty: label_smoothing_factor has no meaning, and this is the hint.
  std::string_view label_smoothing_hint = {};
  bool reads_rows = true;  ///< a data set must be named
};

/// Declares what comes before the method's own options.
void declare_model_and_data(OptionSet& set, CommonConfig& config, const MethodTraits& method);
/// Declares what comes after them.
void declare_training(OptionSet& set, CommonConfig& config);
/// Declares the method's own options in between, and the keys of other methods, which are refused
/// by name.
template <class Config, class Method>
void declare_command(OptionSet& set, Config& config, Method Config::*method,
                     const MethodTraits& traits) {
  declare_model_and_data(set, config, traits);
  declare(set, config.*method);
  declare_training(set, config);
  declare_keys_of_other_methods(set, traits.name);
}

/// Fills what follows from other keys. Resolving twice changes nothing more.
void resolve_common(CommonConfig& config, std::vector<std::string>* notes);

/// Checks keys against each other; call on a resolved configuration. What depends on the data or
/// the model folder is checked where those are read.
void validate_common(const CommonConfig& config, const MethodTraits& method, Problems& problems);

}  // namespace rlhf
