// Which modules of a model an adapter changes, by PEFT's rules for names.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "rlhf/models/adapter.h"

namespace rlhf {

/// The model's tensors by the names transformers gives them; a tied head is the embedding under its
/// own name too.
std::map<std::string, at::Tensor> tensors_by_transformers_name(const Decoder& decoder);

/// What an adapter's configuration comes to for one model.
struct AdapterTargets {
  std::vector<std::string> modules;  ///< matrices adapted by low rank, in order of the model
  std::vector<std::string> saved;    ///< tensors trained as a whole, sorted
};

/// Fills in what `config` leaves to a default (targets, a classifier's head) and matches names.
/// Where `strict`, a target or module to save that matches nothing is a problem that lists what
/// exists; else only a configuration that matches nothing at all.
AdapterTargets find_targets(const Decoder& decoder, LoraConfig& config, bool strict,
                            const std::string& where, Problems& problems);

/// The frozen matrix of a module with its bias.
Linear linear_of_module(const std::map<std::string, at::Tensor>& tensors,
                        const DecoderConfig& config, const std::string& module);

/// Ranges of r, alpha, dropout.
void check_lora_config(const LoraConfig& config, const std::string& where, Problems& problems);

}  // namespace rlhf
