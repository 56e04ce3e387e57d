// What GRPO's family and RLOO's have in common: a run that learns from its own samples.
//
//   1. Draw G completions of each of P prompts with the weights as they stand, and have them judged.
//   2. Turn rewards into advantages: here the methods differ.
//   3. Descend the clipped surrogate on these advantages, num_iterations times
//      (losses/policy_loss.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "rlhf/config/grpo_config.h"
#include "rlhf/train/critic.h"
#include "rlhf/train/grpo_step.h"
#include "rlhf/train/rollout.h"
#include "rlhf/train/run.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// Where the term that holds the policy near its reference stands.
enum class KlTerm { none, loss, reward };

/// What one method says of a run.
struct PolicyGradientMethod {
  std::string name;          ///< as the command is called
  std::string config_table;  ///< the resolved configuration for people
  /// The same as YAML, with the model options as set-up resolved them.
  std::function<std::string(const CommonConfig&)> config_yaml;
  KlTerm kl = KlTerm::none;  ///< in the reward: old log-probabilities are known before advantages
  std::optional<CriticOptions> critic = std::nullopt;
  bool shuffles = false;  ///< each pass over a rollout takes its completions in another order
  bool greedy_baseline = false;  ///< each prompt's greedy completion is drawn and judged too
  /// The options that say which completions a step trains on, under the user's names: a resumed run
  /// must have the same. Null: TRL's batch keys.
  Json batches = {};

  /// Fills the advantages of groups whose rewards, and where `kl` asks for them log-probabilities,
  /// are known. `weights`: of the judges. Metrics of it go there.
  std::function<void(std::vector<Group>&, const std::vector<double>& weights, Metrics&)>
      set_advantages;
  /// What is logged of a step; empty: GRPO's.
  std::function<Metrics(const GrpoStepResult&)> step_metrics = {};
  /// β of the KL term in the loss, where it moves: asked at every step, behind set_advantages; empty:
  /// the surrogate's own.
  std::function<double()> kl_weight = {};
  /// Reads what it needs beside model and data; a UserError is reported with all others. Empty:
  /// nothing.
  std::function<void()> read = {};
  /// What to do where there are fewer prompts than are drawn at once.
  const char* fewer_prompts =
      "lower prompts_per_step (or per_device_train_batch_size and steps_per_generation).";
  /// State of its own, for checkpoints, and back; empty: none.
  std::function<Json()> state = {};
  std::function<void(const Json&)> set_state = {};
  /// Which completions stand in a group whose rewards have no spread.
  std::function<std::vector<bool>(const std::vector<Group>&, const std::vector<double>& weights)>
      without_spread;
};

/// Trains and leaves a run folder behind; `config` holds the surrogate and how completions are
/// drawn. UserError, with nothing written, when data, model or options are at fault.
TrainResult train_policy_gradient(GrpoConfig config, const PolicyGradientMethod& method,
                                  const TrainHooks& hooks);

/// config_yaml of a method: `config` with what set-up resolved.
template <class Config>
std::function<std::string(const CommonConfig&)> yaml_of(Config config) {
  return [config = std::move(config)](const CommonConfig& resolved) mutable {
    config.model = resolved.model;
    config.lora = resolved.lora;
    return resolved_yaml(config);
  };
}

/// The weighted sums of groups' rewards, completion by completion.
OptionalRewards rewards_of(const std::vector<Group>& groups);

}  // namespace rlhf
