// Draws completions on the trained weights as they stand, and has them judged.
//
// The sampler is the trainer's own decoder: no copy, no second engine. The random stream of a
// sample is named by (seed, generation, prompt, sample): neither the batch nor the number of
// threads is part of it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "rlhf/config/rollout_options.h"
#include "rlhf/data/prompts.h"
#include "rlhf/generate/engine.h"
#include "rlhf/train/judges.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/rollout.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// Seconds of the last draw.
struct RolloutSeconds {
  double sampling = 0.0;
  double rewards = 0.0;
};

/// Which completions are drawn. `draw` and `round` name the random streams.
struct Draw {
  int64_t generations = 1;  ///< of each prompt
  uint64_t draw = 0;
  uint64_t round = 0;
  int64_t step = 0;     ///< optimizer steps done; judges outside are told
  bool greedy = false;  ///< the most likely token at each place, in place of sampling
};

constexpr double kGibibyte = 1073741824.0;
inline int64_t rollout_cache_bytes(const RolloutOptions& options) {
  return static_cast<int64_t>(options.rollout_cache_gib * kGibibyte);
}

class RolloutMaker {
 public:
  /// Keeps references to all of them.
  RolloutMaker(const RolloutOptions& options, uint64_t seed, const Policy& policy,
               const TextSide& text, const Judges& judges);

  /// Completions of each of the prompts `rows`, judged. Interrupted when `should_stop` (may be empty)
  /// asks for an end while they are drawn.
  std::vector<Group> groups(const PromptDataset& prompts, std::span<const int64_t> rows,
                            const Draw& draw, const std::function<bool()>& should_stop = {});

  const RolloutSeconds& seconds() const { return seconds_; }

 private:
  const RolloutOptions& options_;
  uint64_t seed_;
  const Policy& policy_;
  const TextSide& text_;
  std::vector<int32_t> stop_ids_;
  Engine engine_;
  RolloutSeconds seconds_;
  Judging judging_;
};

}  // namespace rlhf
