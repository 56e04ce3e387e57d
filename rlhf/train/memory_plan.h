// How much memory a run will take, before anything of it is allocated. Pure arithmetic: numbers in,
// bytes out. docs/memory.md has the formulas, their sources and what was measured.
//
// A run goes through phases: models are loaded, a reference is asked, completions are drawn, weights
// are updated. Some parts stay through all of them (weights, moments), others come and go (a graph's
// activations, keys and values). The peak is the largest phase, not the sum of all parts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/train/memory_model.h"
#include "rlhf/train/microbatches.h"
#include "rlhf/train/optimizer.h"

namespace rlhf {

/// How far a plan may be from the measured peak, as a share of it.
inline constexpr double kPlanError = 0.10;

/// What reads the hidden rows.
enum class HeadUse {
  scores,      ///< a score head: nothing beside the rows
  supervised,  ///< the gradient is made in the forward pass (math/supervised_loss.cpp)
  logprobs,    ///< logits wait for the backward, or are met again (math/linear_logprobs.cpp)
};

/// A model of the run with where its numbers come from.
struct HeldModel {
  ModelMemory memory;
  int64_t stored = 4;           ///< bytes of a number in its folder
  bool random = false;          ///< from scratch: no file is read
  bool shares_base = false;     ///< it stands on frozen weights that another role holds
  bool comes_and_goes = false;  ///< a reference that is in memory while it is asked alone
};

/// How completions are drawn.
struct RolloutMemory {
  int64_t prompt_tokens = 0;  ///< of the longest prompt
  int64_t new_tokens = 0;     ///< of the longest completion
  int64_t prompts = 0;        ///< of one draw
  int64_t generations = 1;    ///< of a prompt
  int64_t rows = 0;           ///< most that decode together
  int64_t cache_bytes = 0;    ///< most that keys and values may take
};

/// What decides the memory of a run.
struct MemoryRequest {
  int64_t text_bytes = 0;  ///< of tokenizer.json
  int64_t data_bytes = 0;  ///< of encoded rows, which are mapped
  HeldModel policy;
  HeadUse head = HeadUse::supervised;
  OptimizerOptions optimizer;
  bool checkpointing = false;  ///< gradient_checkpointing
  MicrobatchSize size;         ///< how a step is cut for the policy
  MicrobatchSize critic_size;
  int64_t row_tokens = 1;         ///< of the longest row, which no cut divides
  int64_t step_tokens = 0;        ///< of a step
  double scored_share = 1.0;      ///< of the micro-batch's tokens, those that reach the head
  int64_t keep_logits_bytes = 0;  ///< run.h's kKeepLogitsBytes
  bool asks_reference = false;    ///< the policy's own base or start answers within the run
  std::optional<HeldModel> reference = std::nullopt;  ///< a model of its own, asked all the run
  std::optional<HeldModel> table_reference =
      std::nullopt;                                    ///< the same, gone before the first step
  std::optional<HeldModel> judge = std::nullopt;       ///< the reward model
  std::optional<HeldModel> step_judge = std::nullopt;  ///< the process reward model
  std::optional<HeldModel> critic = std::nullopt;
  std::optional<RolloutMemory> rollout = std::nullopt;
};

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};

/// One phase at its largest moment.
struct MemoryPhase {
  std::string name;
  std::vector<MemoryPart> parts;  ///< none of 0 bytes

  int64_t bytes() const;
};

struct MemoryPlan {
  std::vector<MemoryPhase> phases;  ///< in order of the run

  /// The phase with the most bytes.
  const MemoryPhase& peak() const;
  int64_t bytes() const { return peak().bytes(); }
};

MemoryPlan plan_memory(const MemoryRequest& request);

/// The policy's largest micro-batches, of a step of `step_tokens` or of a smaller one. Rows are taken
/// to fill them, but for the longest, which stays whole. `others`: 0 where there are none.
StepTokenLimits planned_microbatches(const MemoryRequest& request);

/// By how many tokens the first micro-batch of a step may be larger than `tokens` without asking
/// for more memory than one of `tokens` that meets the step's gradients; at most `tokens`.
int64_t head_start(const MemoryRequest& request, const ModelMemory& model, HeadUse head,
                   int64_t tokens);

/// The most tokens of a micro-batch with which a plan stays within `available` bytes; 0: none does.
int64_t largest_microbatch(MemoryRequest request, int64_t available);

}  // namespace rlhf
