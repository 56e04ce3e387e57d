// Where the completions of a run come from: drawn when they are needed, used as often as the
// options say, kept across checkpoints; and what is said of them.
//
// A step takes gradient_accumulation_steps slices of per_device_train_batch_size completions. Slice
// m of the run (counted over all steps) belongs to rollout m / (steps_per_generation ·
// num_iterations) and is its slice m mod steps_per_generation.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/config/rollout_options.h"
#include "rlhf/data/order.h"
#include "rlhf/train/grpo_step.h"
#include "rlhf/train/policy_gradient.h"
#include "rlhf/train/replay.h"
#include "rlhf/train/rollout_maker.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// What a rollout is made of. All referred objects must outlive the source.
struct RolloutParts {
  const RolloutOptions& options;
  const TrainingOptions& training;
  const TextSide& text;
  const std::vector<std::string>& judges;  ///< names of the rewards
  const std::vector<double>& weights;
  RolloutMaker* maker = nullptr;           ///< absent with a replay
  const PromptDataset* prompts = nullptr;  ///< likewise
  const Replay* replay = nullptr;
  const PolicyGradientMethod& method;
  /// What a fresh rollout needs from models: reference log-probabilities, those of slices that are
  /// first used after other updates (the completions from `first` on). Metrics of it go there.
  std::function<void(Rollout&, int64_t first, Metrics&)> add_logprobs;
  std::function<bool()> should_stop;  ///< asked while completions are drawn; may be empty
};

/// Steps of an epoch over `prompts` prompts, each taken once.
int64_t steps_per_epoch(const RolloutOptions& options, const TrainingOptions& training,
                        int64_t prompts);
/// UserError where a run would go on with other batches than `state`, of its checkpoint's source.
void check_same_batches(const Json& state, const RolloutOptions& options,
                        const TrainingOptions& training, const PolicyGradientMethod& method);
/// Prompts drawn at once.
inline int64_t prompts_per_generation(const RolloutOptions& options,
                                      const TrainingOptions& training) {
  return completions_per_generation(options, training) / options.num_generations;
}

class RolloutSource {
 public:
  /// Goes on from `state` (what state() gave) and the rollout in `checkpoint`, where a run resumes.
  /// Completions are appended to completions.jsonl of `run_folder`.
  RolloutSource(RolloutParts parts, const fs::path& run_folder, const Json& state,
                const std::optional<fs::path>& checkpoint);

  /// The slices of the step behind `step` updates; metrics and tokens of what was drawn for it.
  /// Interrupted when parts.should_stop asks for an end: source, completions.jsonl and the method
  /// are then what they were before the call.
  std::vector<Slice> take(int64_t step, Metrics& metrics, int64_t& tokens);

  /// Whether completions of the step will be used again after it.
  bool reused() const { return parts_.options.num_iterations > 1; }
  /// The newest completions as a text for people.
  std::string shown() const;

  Json state() const;
  /// Of the rollout that later steps need, where `step` updates are done; else none.
  std::vector<NamedTensor> tensors(int64_t step) const;
  static constexpr const char* kFile = "rollout.safetensors";

 private:
  std::vector<Slice> slices_of(int64_t step, Metrics& metrics, int64_t& tokens);
  Rollout draw(int64_t number, int64_t step, int64_t first_later, Metrics& metrics);
  std::vector<Group> sampled(int64_t number, int64_t step, Metrics& metrics);
  /// Completions [begin, begin + per_device_train_batch_size) of a pass over the rollout; passes are
  /// counted over the run.
  std::vector<RolloutRow> slice_of(Rollout& rollout, int64_t pass, int64_t begin) const;
  void note(const Rollout& rollout, const std::vector<bool>& no_spread, Metrics& metrics);
  void append(const Rollout& rollout);
  int64_t period() const;
  /// Of completions.jsonl, which its owner may have moved away.
  uint64_t log_bytes() const;
  void cut_log(uint64_t bytes) const;

  RolloutParts parts_;
  fs::path log_;
  std::optional<RowOrder> order_;
  int64_t cursor_ = 0;  // batches of prompts taken from order_
  int64_t silent_ = 0;  // rollouts in a row that taught nothing
  bool warned_of_failures_ = false;
  std::list<Rollout> live_;
};

/// Metrics of judged groups, each name behind `prefix`: TRL's of completions and rewards, and what
/// judges failed on.
Metrics rollout_metrics(const std::vector<Group>& groups, const std::vector<std::string>& judges,
                        const std::vector<bool>& no_spread, const std::string& prefix);

}  // namespace rlhf
