// What judges completions, and how a draw's completions go through it: in training (rollout_maker.h)
// and in `rlhf generate`.
//
//   1. as each completion ends   rules judge it, and judges outside the program are asked of it, so
//                                that they work while other completions still grow
//   2. when the draw is over     the answers of those outside are heard; reward models judge all
//                                completions in packed passes
//   3. the weighted sum          Σ weight · reward over the judges that apply; none where a judge
//                                failed or none applies
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/config/judge_options.h"
#include "rlhf/models/folder.h"
#include "rlhf/rewards/external_judge.h"
#include "rlhf/rewards/rules.h"
#include "rlhf/train/judge_text.h"
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
  std::optional<JudgeText> text;   ///< where the reward model is asked in text
  std::optional<StepJudge> steps;  ///< the last of all judges
  std::vector<std::string> names;  ///< of all
  std::vector<double> weights;     ///< of all

  /// Whether every completion is judged when it ends.
  bool at_once() const { return outside.empty() && !model && !steps; }
  /// Of each list a data row must have one column.
  std::vector<std::vector<std::string>> required_columns() const;
};
/// Starts reward workers. Adds everything wrong to `problems`: unknown rewards, weights that do not
/// fit, commands that do not start, a folder that holds no reward model or one with another
/// tokenizer; what can be read is read all the same. `longest`: the most tokens of a completion.
/// `policy`: whose completions are judged; its device is the judges' (judge_model.h). `text` and
/// `policy` may be null where they could not be read.
Judges read_judges(const JudgeOptions& options, int64_t longest, const TextSide* text,
                   const Model* policy, Problems& problems);

/// What is wrong with a data row `columns` of the place `where` if the reward model is asked in text:
/// the row is a conversation and the model has no chat template.
std::optional<Problem> missing_template(const Judges& judges, const Json& columns,
                                        const std::string& where);

/// Takes the completions of one draw after another to the judges.
class Judging {
 public:
  /// Keeps references.
  Judging(const Judges& judges, const Tokenizer& tokenizer);

  /// A draw begins; what judges outside still say of one that was broken off is not heard.
  void begin();
  /// A completion with `ids` and `text`, of a data row `columns`; `step`: optimizer steps done. The
  /// sample must stay where it is until finish().
  void add(const Group& group, const Json& columns, int64_t step, Sample& sample);
  /// Waits for all judges of `groups`, whose samples are those that were added, and fills `rewards`,
  /// `reward`, `failures` and `steps`. The next draw may begin. Interrupted when `should_stop` (may
  /// be empty) asks for an end while those outside are waited for.
  void finish(std::vector<Group>& groups, const std::function<bool()>& should_stop = {});

 private:
  void judge_by_rules(const Group& group, const Json& columns, Sample& sample) const;
  void hear_outside(const std::function<bool()>& should_stop);
  void encode_for_model(const Group& group, const Json& columns, Sample& sample);
  void judge_by_model(std::vector<Group>& groups) const;

  const Judges& judges_;
  const Tokenizer& tokenizer_;
  int64_t questions_ = 0;       // asked so far; each is asked of every judge outside
  int64_t first_ = 0;           // question of this draw
  std::vector<Sample*> asked_;  // by question of this draw
  std::vector<std::pair<Sample*, std::vector<int32_t>>> texts_;  // of this draw, for the model
};

/// Weighted sums of rewards into `reward`; a sample with a failure has none.
void weigh_groups(std::vector<Group>& groups, const std::vector<double>& weights);

/// How often a judge failed.
struct JudgeFailures {
  std::string judge;
  int64_t errors = 0;     ///< for any cause but time
  int64_t timeouts = 0;   ///< for want of time
  std::string example{};  ///< why, the first time
};
/// Of each judge that failed on any of the completions, in order of `judges`.
std::vector<JudgeFailures> count_failures(const std::vector<Group>& groups,
                                          const std::vector<std::string>& judges);

/// Completions that a judge failed on.
struct FailedCompletions {
  int64_t failed = 0;
  int64_t all = 0;
  std::string example{};  ///< what the last of them says; empty: none failed

  double share() const {
    return all == 0 ? 0.0 : static_cast<double>(failed) / static_cast<double>(all);
  }
  void add(const std::vector<Group>& groups);
  /// Error where more than `limit` (a share) failed.
  void check(double limit) const;
};

/// Rewards by judge's name, null where a judge does not apply or failed: `{"accuracy": 1.0}`.
Json rewards_json(const Sample& sample, const std::vector<std::string>& judges);
/// `{"last_tokens": [4, 9], "rewards": [0.9, 0.4]}`.
Json steps_json(const std::vector<StepReward>& steps);

}  // namespace rlhf
