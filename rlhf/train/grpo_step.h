// The gradients of one GRPO step, from completions and their advantages.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "rlhf/config/grpo_config.h"
#include "rlhf/losses/policy_loss.h"
#include "rlhf/train/microbatches.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/reference.h"
#include "rlhf/train/rollout.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// Completions of a step that were drawn together.
struct Slice {
  Rollout* rollout;
  std::vector<RolloutRow> rows;
};

/// The weight of the entropy bonus, and how it moves (`use_adaptive_entropy`): part of a run's
/// state.
struct EntropyControl {
  double coefficient = 0.0;
  /// Of the step before; the adaptive bonus is off above entropy_target, and before the first step,
  /// when nothing is known.
  std::optional<double> last_entropy = std::nullopt;

  /// The weight that the next step uses.
  double weight(const GrpoOptions& options) const;
  void follow(const GrpoOptions& options, double entropy);

  Json to_json() const;
  static EntropyControl from_json(const Json& json);
};

struct GrpoStepResult {
  double loss = 0.0;
  Metrics metrics;
  double entropy = 0.0;  ///< mean over the tokens that the bonus acts on
  PolicyMetrics sums;    ///< what `metrics` are made of
};

/// Adds the gradients of the step's loss, micro-batch by micro-batch; any cut gives the same. Rows
/// whose advantages are all 0 have no backward where neither a KL term nor an entropy bonus needs
/// it; where no row has one the gradient is 0. Log-probabilities of rollouts drawn in this step
/// (`step` updates done) are noted in their samples where `keep_old` says that they are used again.
GrpoStepResult accumulate_gradients(const GrpoConfig& config, const Policy& policy,
                                    const MicrobatchSize& size, std::vector<Slice>& slices,
                                    int64_t step, bool keep_old, double entropy_weight);

/// Fills ref_logprobs of every sample.
void add_reference(const GrpoConfig& config, const Policy& policy, const Reference& reference,
                   Rollout& rollout);
/// Fills old_logprobs of the samples `rows` with the policy as it stands.
void add_old_logprobs(const GrpoConfig& config, const Policy& policy, std::vector<RolloutRow> rows);

}  // namespace rlhf
