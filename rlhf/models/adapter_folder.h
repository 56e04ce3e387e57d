// Names and text of an adapter folder.
#pragma once

#include "rlhf/core/json.h"
#include "rlhf/models/adapter.h"

namespace rlhf {

inline constexpr const char* kAdapterConfig = "adapter_config.json";
inline constexpr const char* kAdapterWeights = "adapter_model.safetensors";
inline constexpr const char* kAdapterPrefix = "base_model.model.";  ///< of every key

/// PEFT's name of a task: CAUSAL_LM, SEQ_CLS, TOKEN_CLS.
const char* task_name(ModelTask task);

/// adapter_config.json as PEFT 0.21 writes it.
Json adapter_config_json(const LoraConfig& config, const DecoderConfig& model);

}  // namespace rlhf
