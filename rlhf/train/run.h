// What every trained method does around its own step: the order of rows, clipping and the update,
// logging, evaluation, checkpoints, resuming. A trainer reads top to bottom in its own file and
// calls these; there is no base class.
//
//   TrainRun run(parts, policy);
//   while (!run.over()) {
//     const auto rows = run.begin_step();            // 1. rows of this step
//     …gradients of the step's loss…                 // 2.
//     run.update(loss, metrics, tokens);             // 3. clip, update, log
//     if (run.evaluation_is_due()) run.note_evaluation(…);   // 4.
//     run.end_step();                                // 5. save; stop when asked
//   }
//   run.finish();
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/config/rollout_options.h"
#include "rlhf/config/training_options.h"
#include "rlhf/core/json.h"
#include "rlhf/data/order.h"
#include "rlhf/report/run_folder.h"
#include "rlhf/train/optimizer.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/run_state.h"
#include "rlhf/train/schedule.h"
#include "rlhf/train/setup.h"

namespace rlhf {

struct TrainResult {
  TrainEnd end = TrainEnd::done;
  int64_t steps = 0;
  Json metrics;  ///< of the last logged line and the last evaluation
};

/// Metrics of one step, in the order in which they are logged.
using Metrics = std::vector<std::pair<std::string, double>>;

/// Tokens of a micro-batch: `max_tokens_per_microbatch`, or the default where it leaves the choice.
int64_t microbatch_tokens(const TrainingOptions& options);
/// The same of every model that reads a rollout's completions. The default is larger where several of
/// them share a prompt, which goes through the model once for every micro-batch that has one of them.
int64_t microbatch_tokens(const TrainingOptions& options, const RolloutOptions& rollout);

/// How the run's optimizer, and that of any other model it trains, updates.
OptimizerOptions optimizer_options(const TrainingOptions& options);

/// The metric of the seconds that a step's forward and backward passes took. A method that does more
/// in a step gives it itself; else it is all of the step before its update.
inline constexpr const char* kTimeUpdate = "time/update";

/// Logits of a micro-batch up to this size wait for the backward in place of being computed twice.
inline constexpr int64_t kKeepLogitsBytes = int64_t{256} << 20;

/// What a run needs to know beside its model. The referred options and hooks must outlive it.
struct RunParts {
  std::string method;  ///< as the command is called; a checkpoint of another method is refused
  const TrainingOptions& training;
  const TrainHooks& hooks;
  const TextSide& text;
  std::string config_yaml;       ///< the resolved configuration
  int64_t rows = 0;              ///< training rows
  std::string data_fingerprint;  ///< of their content: resuming over other rows is refused
  std::vector<int64_t> lengths;  ///< tokens of each row; read by group_by_length alone
  /// Of methods that draw their rows themselves: begin_step() gives none then.
  std::optional<int64_t> steps_per_epoch = std::nullopt;
  /// UserError where the run cannot go on from what set_extra_state() gave; before anything is
  /// written. Empty: it always can.
  std::function<void(const Json& extra)> check_resumed = {};
};

/// Tokens of a step.
struct StepTokens {
  int64_t fresh;    ///< that no step before had read: samples are read once and trained on often
  int64_t trained;  ///< what the step computed gradients of

  StepTokens(int64_t both) : fresh(both), trained(both) {}
  StepTokens(int64_t read, int64_t of_gradients) : fresh(read), trained(of_gradients) {}
};

class TrainRun {
 public:
  /// Creates the run folder, or goes on in it: what the checkpoint of `policy.resumed` holds is
  /// taken over. `policy` must outlive the run. UserError when the checkpoint does not belong to
  /// this run.
  TrainRun(RunParts parts, Policy& policy);

  bool over() const { return end_.has_value(); }
  /// Optimizer steps done.
  int64_t step() const { return state_.step; }
  int64_t total_steps() const { return total_steps_; }
  /// Whether the last update was logged.
  bool logged() const { return state_.step > 0 && cadence_->logs(state_.step); }
  const fs::path& folder() const { return folder_->path(); }

  /// The rows of the step that begins, as indices into the training rows: a function of the step.
  std::vector<int64_t> begin_step();
  /// The rows of any step, from 0.
  std::vector<int64_t> rows_of_step(int64_t step) { return order_->batch(step); }
  /// Every row that the whole run reads, sorted, each once.
  std::vector<int64_t> rows_of_run();

  /// Clips the gradients by their norm over all trained tensors, updates, and logs when it is time.
  /// `loss` is the step's. Error when the gradient is not finite: nothing
  /// is updated then.
  /// With `hold` the weights stay as they are and no optimizer step is counted.
  void update(double loss, const Metrics& metrics, StepTokens tokens, bool hold = false);
  /// Of the step that follows.
  double learning_rate() const { return schedule_->learning_rate(state_.step); }

  /// Asked after update(), and once before the first step (`eval_on_start`).
  bool evaluation_is_due() const;
  /// Takes an evaluation's metrics (names begin with `eval_`) into the log, the best model and the
  /// schedule. `seconds` and `rows` give eval_runtime and eval_samples_per_second.
  void note_evaluation(const Metrics& metrics, double seconds, int64_t rows);

  /// Saves when it is time, and ends the run at its last step, on an early stop or an interruption.
  void end_step();

  /// Loads the best model where that is asked for; finish() does so by itself. For what is to be
  /// measured on the final model before it is written, or belongs to it. Returns the checkpoint of
  /// the best step; nothing where the model is that of the last step, and after an interruption.
  std::optional<fs::path> load_best();
  /// Writes the final model. Not after an interruption.
  TrainResult finish();
  bool interrupted() const { return end_ == TrainEnd::interrupted; }

  /// Further state of the method for its checkpoints, asked when one is written; and, on resuming,
  /// what it was (null in a new run).
  void set_extra_state(std::function<Json()> extra) { extra_state_ = std::move(extra); }
  const Json& resumed_extra() const { return resumed_extra_; }
  /// Whether the optimizer went on from a checkpoint: not after one of save_only_model.
  bool optimizer_resumed() const { return optimizer_resumed_; }

  /// Further tensors for the method's checkpoints, in a file of that name, asked for when one is
  /// written; no file where there are none.
  void add_tensors(const std::string& file, std::function<std::vector<NamedTensor>()> tensors);

  /// Ends the run where it stands: hooks.should_stop asked for it before the first step, or in a step
  /// before anything was changed. The steps done so far are saved.
  void interrupt();

 private:
  using Clock = std::chrono::steady_clock;

  void resume(CheckpointState& checkpoint);
  void note_phases(const Metrics& metrics, Clock::time_point update_begin);
  void log_window(double gradient_norm, double learning_rate);
  void write_line(Json line);
  void report_progress(double loss, int64_t tokens);
  CheckpointParts checkpoint_parts() const;
  fs::path checkpoint_path(int64_t step) const;
  void save();

  RunParts parts_;
  Policy& policy_;
  std::optional<RowOrder> order_;  // absent where the method draws its rows itself
  int64_t total_steps_ = 0;
  std::optional<Cadence> cadence_;
  std::optional<Optimizer> optimizer_;
  std::optional<Schedule> schedule_;
  std::optional<RunFolder> folder_;
  RunState state_;
  std::optional<TrainEnd> end_;
  bool best_so_far_ = false;  // the evaluation of this step is the best of the run
  bool best_loaded_ = false;
  int64_t first_step_ = 0;
  int64_t saved_step_ = -1;
  Clock::time_point run_begin_;
  Clock::time_point step_begin_;
  Json last_line_ = Json::object();
  std::function<Json()> extra_state_;
  Json resumed_extra_;
  bool optimizer_resumed_ = false;
  std::vector<std::pair<std::string, std::function<std::vector<NamedTensor>()>>> extra_tensors_;
};

/// Seconds since `start`.
double seconds_since(std::chrono::steady_clock::time_point start);

/// Runs the parts of a set-up and gathers what is wrong with any of them, so that everything is
/// reported at once.
class SetupChecks {
 public:
  /// Whether it went well.
  template <class Part>
  bool attempt(Part part) {
    try {
      part();
      return true;
    } catch (const UserError& error) {
      problems_.add(error);
    } catch (const fs::filesystem_error& error) {
      problems_.add(refused_path(error));
    }
    return false;
  }
  void throw_if_any() { problems_.throw_if_any(); }

 private:
  Problems problems_;
};

struct RunMemory;

/// What every method reads first. Parts that could not be read are absent.
struct Prepared {
  std::optional<TextSide> text;
  std::optional<Policy> policy;
};

/// Fixes threads, then reads what needs no data; what is wrong goes into `checks`. `request` is asked
/// once the tokenizer has been read, with null where that failed. A run that `memory` says cannot fit
/// ends here, with what was found wrong so far, before weights of any role are read
/// (check_least_memory).
Prepared prepare_run(CommonConfig& config, const RunMemory& memory,
                     const std::function<PolicyRequest(const TextSide*)>& request,
                     SetupChecks& checks);

}  // namespace rlhf
