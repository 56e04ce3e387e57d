// Keys of TRL and transformers that set nothing here, each with its reason: accepted where they
// have no meaning, refused where following them would change the result, and those of other
// methods. Together with the declared options they cover every key of TRL 1.16's configuration
// classes (tests/config/known_keys_test.cpp).
#pragma once

#include <span>
#include <string_view>

#include "rlhf/core/options.h"

namespace rlhf {

/// Of transformers' TrainingArguments, and those of its older versions that are still met.
void declare_inert_training_keys(OptionSet& set);
/// Of TRL's ModelConfig, and of loading a model in general.
void declare_inert_model_keys(OptionSet& set);
/// Of `model_init_kwargs`.
void declare_inert_model_init_keys(OptionSet& set);
/// Of TRL's ScriptArguments and DatasetMixtureConfig, and of batches made by padding.
void declare_inert_data_keys(OptionSet& set);
/// Of DPOConfig, KTOConfig, CPOConfig, ORPOConfig and BCOConfig, and of their older versions.
void declare_inert_preference_keys(OptionSet& set);
/// Options of every other method of TRL that `set` does not know yet: an error that names the
/// methods. Call last.
void declare_keys_of_other_methods(OptionSet& set, std::string_view method);

/// Such a key and the commands that have it.
struct MethodKey {
  const char* name;
  const char* methods;
};
std::span<const MethodKey> method_keys();

}  // namespace rlhf
