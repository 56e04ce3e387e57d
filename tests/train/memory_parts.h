// A model of 1992 numbers, and parts of plans by name.
#pragma once

#include <stdexcept>
#include <string>

#include "rlhf/core/json.h"
#include "rlhf/train/memory_plan.h"

namespace rlhf::testing {

inline Json tiny_json() {
  return {{"model_type", "llama"},
          {"vocab_size", 100},
          {"hidden_size", 8},
          {"intermediate_size", 16},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"head_dim", 4},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-6},
          {"tie_word_embeddings", true}};
}

inline int64_t part(const MemoryPhase& phase, const std::string& name) {
  for (const auto& one : phase.parts) {
    if (one.name == name) return one.bytes;
  }
  return 0;
}

inline const MemoryPhase& phase(const MemoryPlan& plan, const std::string& name) {
  for (const auto& one : plan.phases) {
    if (one.name == name) return one;
  }
  throw std::runtime_error("no phase " + name);
}

}  // namespace rlhf::testing
