// What the configuration of every training command is made of.
#pragma once

#include <string_view>

#include "rlhf/config/data_options.h"
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
  /// Where not empty: label_smoothing_factor has no meaning, and this is the hint.
  std::string_view label_smoothing_hint = {};
};

/// Declares what comes before the method's own options, and after them. The second also declares
/// the keys of other methods, so that they are refused by name: call it last.
void declare_model_and_data(OptionSet& set, CommonConfig& config, const MethodTraits& method);
void declare_training(OptionSet& set, CommonConfig& config, const MethodTraits& method);

/// Fills what follows from other keys. Resolving twice changes nothing more.
void resolve_common(CommonConfig& config, std::vector<std::string>* notes);

/// Checks keys against each other; call on a resolved configuration. What depends on the data or
/// the model folder is checked where those are read.
void validate_common(const CommonConfig& config, const MethodTraits& method, Problems& problems);

}  // namespace rlhf
