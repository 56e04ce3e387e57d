// Completions that were drawn together, what was said of them, and their way through checkpoints.
//
// A rollout is P prompts with G completions each. Its completions are numbered 0 … P·G − 1, group
// by group; training takes them in this order, in slices of per_device_train_batch_size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/math/token_advantages.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

/// A judge that could not judge a completion.
struct JudgeFailure {
  std::string judge;
  std::string reason;
  bool timed_out = false;

  std::string text() const { return judge + ": " + reason; }
};

struct Sample {
  // What training needs; part of a checkpoint.
  std::vector<int32_t> ids;         ///< stop token included; never empty
  bool truncated = false;           ///< it reached the longest length, no stop ended it
  std::vector<float> advantages;    ///< one a token
  std::vector<float> old_logprobs;  ///< of the weights that drew it; empty: not known yet
  std::vector<float> ref_logprobs;  ///< of the reference; empty: none is needed
  std::vector<float> values;        ///< of the critic as it stood; empty: there is none
  std::vector<float> returns;       ///< what the critic learns; likewise

  // What people and judges read.
  std::string text;
  std::vector<std::optional<double>> rewards;  ///< by judge; none: it does not apply, or failed
  std::optional<double> reward;                ///< weighted sum; none: it leaves the statistics
  std::vector<JudgeFailure> failures;
  /// Of a process reward model, whose mean is the last of `rewards`; empty without one.
  std::vector<StepReward> steps;

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
  /// Whether training reads it (`mask_truncated_completions` leaves out what is truncated).
  bool counts(bool mask_truncated) const { return !(mask_truncated && truncated); }
};

struct Group {
  int64_t row = -1;             ///< of the prompts' data set
  std::vector<int32_t> prompt;  ///< ids; never empty
  std::vector<Sample> samples;
  std::optional<double> greedy_reward;  ///< of the greedy completion, where it is asked for
};

struct Rollout {
  int64_t number = 0;  ///< how many came before it
  int64_t step = 0;    ///< optimizer steps done when it was drawn: the version of the weights
  std::vector<Group> groups;

  int64_t samples() const;
  /// Completion tokens; with `mask_truncated` those of truncated completions do not count.
  int64_t completion_tokens(bool mask_truncated) const;
};

/// One completion of a rollout.
struct RolloutRow {
  const Group* group;
  Sample* sample;
};
/// Completions [begin, end).
std::vector<RolloutRow> rows_of(Rollout& rollout, int64_t begin, int64_t end);

/// What a checkpoint keeps of a rollout that is not used up, and back.
std::vector<NamedTensor> to_tensors(const Rollout& rollout);
Rollout read_rollout(const fs::path& file);

}  // namespace rlhf
