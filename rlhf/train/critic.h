// PPO's critic: a second model with a score head that says of every token what reward is still to
// come, trained beside the policy with an optimizer of its own.
//
// V_t is its score of the position before token t, where the policy decides on t. With an adapter
// it stands on the policy's own base, or a reward model's, where it starts from the same folder:
// what it adds to memory is its adapter and its score head.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/config/rollout_options.h"
#include "rlhf/losses/value_loss.h"
#include "rlhf/train/grpo_step.h"
#include "rlhf/train/optimizer.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/run.h"
#include "rlhf/train/setup.h"

namespace rlhf {

struct CriticOptions {
  std::string folder;              ///< it starts from: a critic, a reward model, a language model
  double vf_coef = 0.1;            ///< weight of its loss
  double cliprange_value = 0.2;    ///< 0: none
  double learning_rate_scale = 1;  ///< times the policy's, at every step
  int64_t warmup = 0;              ///< steps in which it alone learns
};

class Critic {
 public:
  /// `config` and `rollout` are the policy's: dtype, adapter options but for dropout, of which it has
  /// none, training options and micro-batches are the critic's too. `judge`: the reward model, or null. UserError where the
  /// folder does not fit the policy.
  Critic(const CommonConfig& config, const RolloutOptions& rollout, CriticOptions options,
         const TextSide& text, const Policy& policy, const Model* judge);

  const Model& model() const { return model_.model; }

  /// Goes on from a checkpoint of the run, with `steps` updates done; the optimizer anew unless the
  /// checkpoint holds its `moments`.
  void resume(const fs::path& checkpoint, int64_t steps, bool moments);
  /// Gives it the weights of another checkpoint of the run, and leaves its moments as they are.
  void restore(const fs::path& checkpoint);

  bool warms_up(int64_t step) const { return step < options_.warmup; }

  /// Fills `values` of the samples.
  void add_values(const std::vector<RolloutRow>& rows) const;

  /// Adds the gradients of the step's loss; any cut gives the same. Returns vf_coef times the loss;
  /// metrics of it go there.
  double accumulate_gradients(const std::vector<Slice>& slices, const MicrobatchSize& size,
                              bool mask_truncated, int64_t step, Metrics& metrics);
  /// Clips the gradients by their own norm and updates. `learning_rate` is the policy's. Error when
  /// the gradient is not finite.
  void update(double learning_rate, Metrics& metrics);

  /// Weights and, unless `save_only_model`, moments for a checkpoint.
  std::vector<NamedTensor> tensors() const;
  static constexpr const char* kFile = "critic.safetensors";
  /// Writes it as a model folder of its own, `critic` within the run's: what
  /// value_model_name_or_path finds again.
  void save(const fs::path& run_folder) const;

 private:
  std::vector<NamedTensor> with_moments() const;
  at::Tensor values_of(const PackedBatch& batch, const ForwardOptions& forward) const;

  CommonConfig config_;
  int64_t max_tokens_;  // of a micro-batch
  CriticOptions options_;
  TextSide text_;
  Policy model_;
  Optimizer optimizer_;
};

}  // namespace rlhf
