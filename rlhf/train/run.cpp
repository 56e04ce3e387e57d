#include "rlhf/train/run.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/train/checkpoint.h"
#include "rlhf/train/memory_run.h"

namespace rlhf {
namespace {

constexpr int kStateFormat = 2;

/// Matrix products no longer gain from more rows, and the activations of so many tokens stay small
/// beside weights and moments.
constexpr int64_t kMicrobatchTokens = 768;
constexpr int64_t kGroupTokens = 1152;  // of answers that share prompts

SchedulePlan schedule_plan(const TrainingOptions& options, int64_t total_steps) {
  return {.type = options.lr_scheduler_type,
          .kwargs = options.lr_scheduler_kwargs,
          .learning_rate = options.learning_rate,
          .warmup_steps = warmup_steps_of(options, total_steps),
          .total_steps = total_steps,
          .greater_is_better = options.greater_is_better.value_or(false)};
}

OrderStrategy order_strategy(SamplingStrategy strategy) {
  switch (strategy) {
    case SamplingStrategy::random:
      return OrderStrategy::random;
    case SamplingStrategy::sequential:
      return OrderStrategy::sequential;
    case SamplingStrategy::group_by_length:
      return OrderStrategy::group_by_length;
  }
  return OrderStrategy::random;
}

OrderOptions order_options(const TrainingOptions& options) {
  return {
      .strategy = order_strategy(options.train_sampling_strategy),
      .rows_per_step = options.per_device_train_batch_size * options.gradient_accumulation_steps,
      .micro_batch_rows = options.per_device_train_batch_size,
      .drop_last = options.dataloader_drop_last,
      .seed = static_cast<uint64_t>(options.data_seed.value_or(options.seed))};
}

/// `key: value` lines of a resolved configuration.
std::map<std::string, std::string> config_lines(const std::string& yaml) {
  std::map<std::string, std::string> lines;
  std::istringstream in(yaml);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos && line[0] != ' ' && line[0] != '#')
      lines[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return lines;
}

/// A resumed run may change its options; what changed is said.
void warn_of_changed_options(const fs::path& checkpoint, const std::string& config_yaml) {
  const fs::path path = checkpoint / "config.yaml";
  if (!fs::exists(path)) return;
  const auto before = config_lines(read_file(path));
  for (const auto& [key, now] : config_lines(config_yaml)) {
    const auto found = before.find(key);
    if (key == "resume_from_checkpoint" || found == before.end() || found->second == now) continue;
    log_warning("[resume] {} was {} and is {} now.", key, found->second, now);
  }
}

}  // namespace

OptimizerOptions optimizer_options(const TrainingOptions& options) {
  OptimizerOptions made{.beta1 = options.adam_beta1,
                        .beta2 = options.adam_beta2,
                        .epsilon = options.adam_epsilon,
                        .weight_decay = options.weight_decay};
  if (options.optim == OptimizerChoice::adafactor) made.kind = OptimizerKind::adafactor;
  if (options.optim == OptimizerChoice::adamw_8bit) made.kind = OptimizerKind::adamw_8bit;
  if (options.optim == OptimizerChoice::sgd) {
    Problems problems;
    const SgdOptions sgd = sgd_options(options, problems);
    problems.throw_if_any();
    made.kind = OptimizerKind::sgd;
    made.momentum = sgd.momentum;
    made.dampening = sgd.dampening;
    made.nesterov = sgd.nesterov;
    made.weight_decay = sgd.weight_decay.value_or(options.weight_decay);
  }
  return made;
}

int64_t microbatch_tokens(const TrainingOptions& options) {
  const int64_t asked = options.max_tokens_per_microbatch;
  return asked > 0 ? asked : kMicrobatchTokens;
}

int64_t microbatch_tokens(const TrainingOptions& options, const RolloutOptions& rollout) {
  const bool groups = options.max_tokens_per_microbatch == 0 && rollout.num_generations > 1;
  return groups ? kGroupTokens : microbatch_tokens(options);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

Prepared prepare_run(CommonConfig& config, const RunMemory& memory,
                     const std::function<PolicyRequest(const TextSide*)>& request,
                     SetupChecks& checks) {
  Prepared prepared;
  at::Device device = at::kCPU;
  std::optional<fs::path> checkpoint;
  const auto& training = config.training;
  checks.attempt([&] { fix_threads(training.threads); });
  const bool placed =
      checks.attempt([&] { device = choose_device(config.model.device, training.use_cpu); });
  checks.attempt([&] { checkpoint = checkpoint_to_resume(training); });
  checks.attempt([&] { check_output_folder(training, checkpoint.has_value()); });
  checks.attempt([&] {
    if (!config.tokenizer.tokenizer_name_or_path)
      require_model_folder(*config.model.model_name_or_path);
    prepared.text = load_text_side(text_folder(config.tokenizer.tokenizer_name_or_path.value_or(
                                       *config.model.model_name_or_path)),
                                   config.tokenizer);
  });
  const bool fits = checks.attempt([&] { check_least_memory(memory, placed && device.is_cpu()); });
  if (!fits) checks.throw_if_any();
  checks.attempt([&] {
    const auto wanted = request(prepared.text ? &*prepared.text : nullptr);
    prepared.policy.emplace(load_policy(config, wanted, device, checkpoint));
    if (!prepared.text) return;
    if (const auto eos = prepared.text->eos_id()) align_eos(prepared.policy->model, *eos);
  });
  return prepared;
}

TrainRun::TrainRun(RunParts parts, Policy& policy)
    : parts_(std::move(parts)), policy_(policy), run_begin_(Clock::now()) {
  const auto& training = parts_.training;
  if (!parts_.steps_per_epoch)
    order_.emplace(parts_.rows, order_options(training), std::move(parts_.lengths));
  const int64_t per_epoch = order_ ? order_->steps_per_epoch() : *parts_.steps_per_epoch;
  const double epochs = training.num_train_epochs * static_cast<double>(per_epoch);
  total_steps_ =
      training.max_steps > 0 ? training.max_steps : static_cast<int64_t>(std::ceil(epochs));
  cadence_.emplace(training, per_epoch, total_steps_);
  optimizer_.emplace(optimizer_options(training), policy_.decoder().trainable());
  schedule_.emplace(schedule_plan(training, total_steps_));
  if (policy_.resumed) resume(*policy_.resumed);
  policy_.resumed.reset();
  const bool tensorboard =
      std::any_of(training.report_to.begin(), training.report_to.end(),
                  [](const auto& name) { return name == "tensorboard" || name == "all"; });
  folder_.emplace(fs::path(*training.output_dir), state_.step, tensorboard);
  // What a run that this one replaces had sampled would pass for this one's.
  if (!policy_.resumed_from) fs::remove(folder_->path() / "completions.jsonl");
  first_step_ = state_.step;
  if (state_.step >= total_steps_) end_ = TrainEnd::done;
  // A run without a step left was trained with the options that stand there.
  const fs::path config = folder_->path() / "config.yaml";
  if (!over() || !fs::exists(config)) write_file(config, parts_.config_yaml);
}

void TrainRun::resume(CheckpointState& checkpoint) {
  const Json& saved = checkpoint.state;
  const fs::path& folder = *policy_.resumed_from;
  if (saved.value("format", 0) != kStateFormat) {
    throw UserError(folder.string(),
                    fmt::format("a checkpoint of format {} was expected, got {}.", kStateFormat,
                                saved.value("format", 0)),
                    "resume with the version of the program that wrote it.");
  }
  if (saved.at("method") != parts_.method) {
    throw UserError(folder.string(),
                    fmt::format("a checkpoint of rlhf {} was expected, got one of rlhf {}.",
                                parts_.method, saved.at("method").get<std::string>()),
                    "name its final model as model_name_or_path to train on from it.");
  }
  if (saved.at("data") != parts_.data_fingerprint || saved.at("rows") != parts_.rows) {
    throw UserError(folder.string(),
                    "it was written over other training rows, or the same encoded otherwise.",
                    "resume with the data, the tokenizer and the data options of the run.");
  }
  if (saved.at("optim") != static_cast<int>(parts_.training.optim)) {
    throw UserError("optim", "the checkpoint holds the state of another optimizer.",
                    "resume with the optim of the run.");
  }
  if (parts_.check_resumed) parts_.check_resumed(saved.at("extra"));
  warn_of_changed_options(folder, parts_.config_yaml);
  warn_if_machine_differs(saved.at("machine"));
  state_ = RunState::from_json(saved.at("run"));
  schedule_->set_state(saved.at("schedule"));
  resumed_extra_ = saved.at("extra");
  optimizer_resumed_ = saved.at("optimizer_saved").get<bool>();
  if (optimizer_resumed_) {
    optimizer_->set_state(checkpoint.optimizer, saved.value("optimizer_steps", state_.step));
  } else {
    log_warning("[resume] {} was written with save_only_model: the optimizer starts anew.",
                folder.string());
  }
  if (state_.step > total_steps_) {
    throw UserError("max_steps",
                    fmt::format("the checkpoint is at step {}, the run would end at {}.",
                                state_.step, total_steps_),
                    "raise max_steps or num_train_epochs.");
  }
  saved_step_ = state_.step;
  log_info("[resume] going on from {} at step {} of {}.", folder.string(), state_.step,
           total_steps_);
}

void TrainRun::add_tensors(const std::string& file,
                           std::function<std::vector<NamedTensor>()> tensors) {
  extra_tensors_.emplace_back(file, std::move(tensors));
}

std::vector<int64_t> TrainRun::begin_step() {
  step_begin_ = Clock::now();
  best_so_far_ = false;
  return order_ ? order_->batch(state_.step) : std::vector<int64_t>{};
}

std::vector<int64_t> TrainRun::rows_of_run() {
  std::set<int64_t> rows;
  for (int64_t step = 0; step < total_steps_ && std::ssize(rows) < parts_.rows; ++step) {
    const auto batch = order_->batch(step);
    rows.insert(batch.begin(), batch.end());
  }
  return {rows.begin(), rows.end()};
}

void TrainRun::update(double loss, const Metrics& metrics, StepTokens tokens, bool hold) {
  const auto& training = parts_.training;
  const auto update_begin = Clock::now();
  const double norm = optimizer_->gradient_norm();
  if (!std::isfinite(norm)) {
    // Before the update: the weights and the last checkpoint are still whole.
    fail("train",
         fmt::format("the gradient's norm at step {} is {}, the loss {}.", state_.step + 1, norm,
                     loss),
         "lower learning_rate, look at the rows of this step, or check the model's weights for "
         "NaN.");
  }
  const double limit = training.max_grad_norm;
  const double scale = limit > 0.0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
  const double learning_rate = schedule_->learning_rate(state_.step);
  if (!hold) optimizer_->step(learning_rate, scale);
  ++state_.step;
  state_.tokens_seen += tokens.fresh;

  if (std::isfinite(loss) || !training.logging_nan_inf_filter) state_.window.add("loss", loss);
  for (const auto& [name, value] : metrics) state_.window.add(name, value);
  note_phases(metrics, update_begin);
  state_.window_seconds += seconds_since(step_begin_);
  state_.window_tokens += tokens.trained;
  ++state_.window_steps;
  if (cadence_->logs(state_.step)) log_window(norm, learning_rate);
  report_progress(loss, tokens.trained);
}

void TrainRun::note_phases(const Metrics& metrics, Clock::time_point update_begin) {
  const bool timed = std::any_of(metrics.begin(), metrics.end(),
                                 [](const auto& metric) { return metric.first == kTimeUpdate; });
  if (!timed) {
    state_.window.add(kTimeUpdate,
                      std::chrono::duration<double>(update_begin - step_begin_).count());
  }
  state_.window.add("time/optimizer", seconds_since(update_begin));
}

void TrainRun::log_window(double gradient_norm, double learning_rate) {
  Json means = state_.window.take();
  Json line = {{"epoch", cadence_->epoch_of(state_.step)},
               {"loss", means.value("loss", Json(nullptr))},
               {"grad_norm", gradient_norm},
               {"learning_rate", learning_rate},
               {"num_tokens", state_.tokens_seen}};
  for (const auto& [name, value] : means.items()) line[name] = value;
  if (parts_.training.include_num_input_tokens_seen != TokensSeen::no)
    line["num_input_tokens_seen"] = state_.tokens_seen;
  line["step_time"] = state_.window_seconds / static_cast<double>(state_.window_steps);
  line["tokens_per_second"] =
      static_cast<double>(state_.window_tokens) / std::max(1e-9, state_.window_seconds);
  line["peak_memory"] = peak_memory_bytes();
  state_.window_seconds = 0.0;
  state_.window_tokens = 0;
  state_.window_steps = 0;
  write_line(std::move(line));
}

void TrainRun::write_line(Json line) {
  Json entry = line;
  entry["step"] = state_.step;
  state_.log_history.push_back(std::move(entry));
  last_line_.update(line);
  folder_->log(state_.step, line);
  if (parts_.hooks.on_log) parts_.hooks.on_log(state_.step, total_steps_, line);
}

void TrainRun::report_progress(double loss, int64_t tokens) {
  if (!parts_.hooks.on_progress) return;
  const double per_step =
      seconds_since(run_begin_) / static_cast<double>(state_.step - first_step_);
  parts_.hooks.on_progress(
      {.step = state_.step,
       .total_steps = total_steps_,
       .loss = loss,
       .tokens_per_second =
           static_cast<double>(tokens) / std::max(1e-9, seconds_since(step_begin_)),
       .seconds_left = per_step * static_cast<double>(total_steps_ - state_.step)});
}

bool TrainRun::evaluation_is_due() const {
  if (!evaluates(parts_.training)) return false;
  if (state_.step == first_step_) return parts_.training.eval_on_start && state_.step == 0;
  return cadence_->evaluates(state_.step);
}

void TrainRun::note_evaluation(const Metrics& metrics, double seconds, int64_t rows) {
  Json line = {{"epoch", cadence_->epoch_of(state_.step)}};
  for (const auto& [name, value] : metrics) line[name] = value;
  line["eval_num_tokens"] = state_.tokens_seen;  // as in TRL: those of training
  line["eval_runtime"] = seconds;
  line["eval_samples_per_second"] = static_cast<double>(rows) / std::max(1e-9, seconds);
  write_line(line);
  if (schedule_->follows_metric()) {
    std::string name = parts_.training.metric_for_best_model.value_or("eval_loss");
    if (!name.starts_with("eval_")) name = "eval_" + name;
    if (line.contains(name)) schedule_->observe(line.at(name).get<double>());
  }
  best_so_far_ = note_evaluation_of(parts_.training, line, state_);
}

void TrainRun::end_step() {
  const bool best = best_so_far_ && parts_.training.save_strategy == SaveInterval::best;
  if (cadence_->saves(state_.step) || best) save();
  const bool last = state_.step >= total_steps_;
  if (!last && parts_.hooks.should_stop && parts_.hooks.should_stop()) {
    interrupt();
  } else if (state_.stop_early) {
    end_ = TrainEnd::stopped_early;
  } else if (last) {
    end_ = TrainEnd::done;
  }
}

void TrainRun::interrupt() {
  if (state_.step > 0) save();
  end_ = TrainEnd::interrupted;
}

fs::path TrainRun::checkpoint_path(int64_t step) const {
  return folder_->path() / fmt::format("checkpoint-{}", step);
}

CheckpointParts TrainRun::checkpoint_parts() const {
  const auto& training = parts_.training;
  const std::string best = state_.best_metric ? checkpoint_path(state_.best_step).string() : "";
  std::vector<std::pair<std::string, std::vector<NamedTensor>>> tensors;
  for (const auto& [file, ask] : extra_tensors_) {
    if (auto asked = ask(); !asked.empty()) tensors.emplace_back(file, std::move(asked));
  }
  return {.model = &policy_.model,
          .save = policy_.save,
          .optimizer = training.save_only_model ? nullptr : &*optimizer_,
          .state = {{"format", kStateFormat},
                    {"method", parts_.method},
                    {"rows", parts_.rows},
                    {"data", parts_.data_fingerprint},
                    {"optim", static_cast<int>(training.optim)},
                    {"total_steps", total_steps_},
                    {"seed", training.seed},
                    {"optimizer_saved", !training.save_only_model},
                    {"optimizer_steps", optimizer_->steps()},
                    {"machine", machine_fingerprint()},
                    {"schedule", schedule_->state()},
                    {"extra", extra_state_ ? extra_state_() : Json()},
                    {"run", state_.to_json()}},
          .trainer_state = trainer_state_json(training, state_, *cadence_, total_steps_, best),
          .files = parts_.text.files,
          .tensors = std::move(tensors)};
}

void TrainRun::save() {
  if (saved_step_ == state_.step) return;
  auto parts = checkpoint_parts();
  parts.files.emplace_back("config.yaml", parts_.config_yaml);
  save_checkpoint(checkpoint_path(state_.step), parts);
  saved_step_ = state_.step;
  if (!parts_.training.save_total_limit) return;
  std::optional<fs::path> best;
  if (parts_.training.load_best_model_at_end && state_.best_metric)
    best = checkpoint_path(state_.best_step);
  rotate_checkpoints(folder_->path(), *parts_.training.save_total_limit, best);
}

std::optional<fs::path> TrainRun::load_best() {
  const bool wanted = parts_.training.load_best_model_at_end && state_.best_metric &&
                      state_.best_step != state_.step;
  if (!wanted || interrupted()) return std::nullopt;
  fs::path best = checkpoint_path(state_.best_step);
  if (best_loaded_) return best;
  if (!fs::exists(best)) {
    throw UserError("load_best_model_at_end",
                    fmt::format("the best checkpoint {} is gone.", best.string()));
  }
  log_info("[best model] {} of step {} goes to the top of the run folder.",
           *parts_.training.metric_for_best_model, state_.best_step);
  policy_.restore(best);
  best_loaded_ = true;
  return best;
}

TrainResult TrainRun::finish() {
  load_best();
  if (!interrupted()) save_final_model(folder_->path(), checkpoint_parts());
  return {.end = *end_, .steps = state_.step, .metrics = last_line_};
}

}  // namespace rlhf
