// Draws completions on the trained weights as they stand, and has them judged.
//
// The sampler is the trainer's own decoder: no copy, no second engine. The random stream of a
// sample is named by (seed, generation, prompt, sample): neither the batch nor the number of
// threads is part of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/rollout_options.h"
#include "rlhf/data/prompts.h"
#include "rlhf/generate/engine.h"
#include "rlhf/rewards/external_judge.h"
#include "rlhf/rewards/rules.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/rollout.h"
#include "rlhf/train/setup.h"
#include "rlhf/train/step_judge.h"

namespace rlhf {

/// A judge outside the program and its place among all judges.
struct OutsideJudge {
  size_t place;
  std::unique_ptr<ExternalJudge> judge;
};

/// What judges completions: those of reward_funcs in their order, then a reward model, then a
/// process reward model.
struct Judges {
  std::vector<RewardRule> rules;
  std::vector<size_t> rule_places;  ///< of each rule among all judges
  std::vector<OutsideJudge> outside;
  std::optional<Model> model;
  size_t model_place = 0;          ///< of the reward model among all judges
  std::optional<StepJudge> steps;  ///< the last of all judges
  std::vector<std::string> names;  ///< of all
  std::vector<double> weights;     ///< of all

  /// Of each list a data row must have one column.
  std::vector<std::vector<std::string>> required_columns() const;
};
/// Starts reward workers. UserError with everything wrong: unknown rewards, weights that do not fit,
/// commands that do not start, a folder that holds no reward model or one with another tokenizer.
/// Models are read as judge_model.h says. `text` and `policy` may be null where they could not be
/// read.
Judges read_judges(const RolloutOptions& options, const TextSide* text, const Policy* policy);

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

  /// Completions of each of the prompts `rows`, judged.
  std::vector<Group> groups(const PromptDataset& prompts, std::span<const int64_t> rows,
                            const Draw& draw);

  const RolloutSeconds& seconds() const { return seconds_; }
  /// Ids that end a completion.
  const std::vector<int32_t>& stop_ids() const { return stop_ids_; }

 private:
  void judge_by_rules(const Group& group, const Json& columns, Sample& sample) const;
  /// Waits for what the judges outside say of the questions that began with `first`.
  void hear_outside(int64_t first, const std::vector<Sample*>& asked) const;
  void judge_by_model(std::vector<Group>& groups) const;

  const RolloutOptions& options_;
  uint64_t seed_;
  const Policy& policy_;
  const TextSide& text_;
  const Judges& judges_;
  std::vector<int32_t> stop_ids_;
  RolloutSeconds seconds_;
  int64_t questions_ = 0;  // asked so far; each is asked of every judge outside
};

}  // namespace rlhf
