#include "rlhf/train/sft.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>
#include <sstream>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/data/order.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/models/folder.h"
#include "rlhf/nn/attention_backend.h"
#include "rlhf/train/checkpoint.h"
#include "rlhf/train/optimizer.h"
#include "rlhf/train/run_state.h"
#include "rlhf/train/schedule.h"
#include "rlhf/train/sft_batch.h"

namespace rlhf {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Tokens of a micro-batch where the configuration leaves the choice: matrix products no longer
/// gain from more rows, and the activations of so many tokens stay small beside weights and
/// moments.
constexpr int64_t kMicrobatchTokens = 1024;

/// Sums over the scored tokens of a step (or of an evaluation); divided once, by the count over all
/// of it.
struct TokenSums {
  double loss = 0.0;  ///< objective of all tokens, not divided
  double entropy = 0.0;
  double correct = 0.0;
  int64_t scored = 0;

  void add(const SupervisedLoss& part, double loss_sum) {
    loss += loss_sum;
    entropy += part.entropy.sum(torch::kFloat64).item<double>();
    correct += static_cast<double>(part.top1.sum().item<int64_t>());
    scored += part.logprobs.numel();
  }
};

class SftRun {
 public:
  SftRun(SftConfig config, const TrainHooks& hooks) : config_(std::move(config)), hooks_(hooks) {}
  TrainResult run();

 private:
  void read_data();
  void load_weights();
  void check_rows_fit();
  void warn_of_changed_options() const;
  void start();
  void resume();
  SftRows encode(const DataSpec& spec, bool packing, const char* title);
  TrainEnd train();
  TokenSums accumulate_gradients(std::span<const PackRow> pieces);
  void log_step(const TokenSums& sums, double gradient_norm, double learning_rate, int64_t tokens,
                double seconds);
  void write_line(Json line);
  bool evaluate();
  CheckpointParts checkpoint_parts();
  fs::path checkpoint_path(int64_t step) const {
    return run_->path() / fmt::format("checkpoint-{}", step);
  }
  void save();
  void finish(TrainEnd end);

  SftConfig config_;
  const TrainHooks& hooks_;
  torch::Device device_ = torch::kCPU;
  std::optional<TextSide> text_;
  std::optional<SftRows> train_rows_;
  std::optional<SftRows> eval_rows_;
  std::optional<fs::path> resume_;  // the checkpoint to go on from
  std::optional<LoadedCheckpoint> checkpoint_;
  std::optional<Model> model_;
  std::optional<Optimizer> optimizer_;
  std::optional<Schedule> schedule_;
  std::optional<RowOrder> order_;
  std::optional<Cadence> cadence_;
  std::optional<RunFolder> run_;
  RunState state_;
  SaveOptions save_options_;
  int64_t total_steps_ = 0;
  int64_t saved_step_ = -1;
  std::string data_fingerprint_;
  Json last_line_ = Json::object();
};

SchedulePlan schedule_plan(const TrainingOptions& options, int64_t total_steps) {
  return {.type = options.lr_scheduler_type,
          .kwargs = options.lr_scheduler_kwargs,
          .learning_rate = options.learning_rate,
          .warmup_steps = warmup_steps_of(options, total_steps),
          .total_steps = total_steps,
          .greater_is_better = options.greater_is_better.value_or(false)};
}

OptimizerOptions optimizer_options(const TrainingOptions& options) {
  OptimizerOptions made{.beta1 = options.adam_beta1,
                        .beta2 = options.adam_beta2,
                        .epsilon = options.adam_epsilon,
                        .weight_decay = options.weight_decay};
  if (options.optim == OptimizerChoice::adafactor) made.kind = OptimizerKind::adafactor;
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

OrderOptions order_options(const TrainingOptions& options) {
  OrderOptions made{
      .rows_per_step = options.per_device_train_batch_size * options.gradient_accumulation_steps,
      .micro_batch_rows = options.per_device_train_batch_size,
      .drop_last = options.dataloader_drop_last,
      .seed = static_cast<uint64_t>(options.data_seed.value_or(options.seed))};
  switch (options.train_sampling_strategy) {
    case SamplingStrategy::random:
      made.strategy = OrderStrategy::random;
      break;
    case SamplingStrategy::sequential:
      made.strategy = OrderStrategy::sequential;
      break;
    case SamplingStrategy::group_by_length:
      made.strategy = OrderStrategy::group_by_length;
      break;
  }
  return made;
}

PackStrategy pack_strategy(PackingChoice choice) {
  switch (choice) {
    case PackingChoice::bfd:
      return PackStrategy::bfd;
    case PackingChoice::bfd_split:
      return PackStrategy::bfd_split;
    case PackingChoice::wrapped:
      return PackStrategy::wrapped;
  }
  return PackStrategy::bfd;
}

std::optional<torch::Dtype> torch_dtype(std::optional<Dtype> dtype) {
  if (!dtype) return std::nullopt;
  return *dtype == Dtype::bfloat16  ? torch::kBFloat16
         : *dtype == Dtype::float16 ? torch::kHalf
                                    : torch::kFloat32;
}

SftRows SftRun::encode(const DataSpec& spec, bool packing, const char* title) {
  const auto& sft = config_.sft;
  EncodeOptions options{.max_length = sft.max_length,
                        .truncation_mode = sft.truncation_mode == TruncationChoice::keep_end
                                               ? TruncationMode::keep_end
                                               : TruncationMode::keep_start,
                        .completion_only_loss = sft.completion_only_loss,
                        .assistant_only_loss = sft.assistant_only_loss,
                        .eos_token = text_->eos_token,
                        .stop_ids = {},
                        .chat_template_kwargs = Json::object(),
                        .on_bad_row = config_.data.on_bad_row == BadRowPolicy::drop
                                          ? OnBadRow::drop
                                          : OnBadRow::error};
  // Packing does its own cutting: a row longer than max_length is split or cut by the strategy.
  if (packing) options.max_length.reset();
  Statistics statistics;
  const fs::path folder = *config_.model.model_name_or_path;
  auto data = prepare_sft_data(spec, text_->tokenizer, text_->chat,
                               text_fingerprint(folder, text_->template_text), options,
                               cache_folder(config_.data), &statistics);
  std::optional<PackPlan> plan;
  if (packing) {
    plan =
        data.pack({.max_length = *sft.max_length, .strategy = pack_strategy(sft.packing_strategy)},
                  &statistics);
  }
  SftRows rows(std::move(data), std::move(plan));
  if (rows.size() == 0) {
    throw UserError(fmt::format("{} data", title), "no row is left to train on.",
                    statistics.table());
  }
  if (hooks_.on_text) hooks_.on_text(fmt::format("{} data\n{}", title, statistics.table()));
  return rows;
}

void SftRun::read_data() {
  const auto specs = data_specs(config_.data, static_cast<uint64_t>(config_.training.seed));
  train_rows_ = encode(specs.train, config_.sft.packing, "training");
  if (config_.training.eval_strategy == Interval::no && !config_.training.eval_on_start) return;
  if (!specs.eval) {
    throw UserError("eval_strategy",
                    "evaluation is asked for and there are no rows to evaluate on.",
                    fmt::format("give dataset_name a folder with {}.jsonl, or set test_split_size.",
                                config_.data.dataset_test_split));
  }
  eval_rows_ =
      encode(*specs.eval, config_.sft.eval_packing.value_or(config_.sft.packing), "evaluation");
}

void SftRun::load_weights() {
  const auto dtype = choose_dtype(config_.model, config_.training.bf16, device_);
  // Written to config.yaml, so that a resumed run does not measure again.
  config_.model.dtype = dtype == torch::kBFloat16 ? Dtype::bfloat16 : Dtype::float32;
  save_options_.dtype = torch_dtype(config_.model.save_dtype);
  if (config_.model.from_scratch && !save_options_.dtype) save_options_.dtype = dtype;
  LoadOptions options{.dtype = dtype,
                      .device = device_,
                      .trainable = true,
                      .from_scratch = config_.model.from_scratch,
                      .seed = static_cast<uint64_t>(config_.training.seed)};
  if (resume_) {
    options.from_scratch = false;
    checkpoint_ = load_checkpoint(*resume_, options);
    model_ = std::move(checkpoint_->model);
  } else {
    model_ = load_model(*config_.model.model_name_or_path, options);
  }
  model_->decoder.set_requires_grad(true);
}

void SftRun::check_rows_fit() {
  const auto content = train_rows_->content();
  data_fingerprint_ = content.fingerprint;
  const int64_t vocabulary = model_->decoder.config().vocab_size;
  int32_t largest = content.largest;
  if (eval_rows_) largest = std::max(largest, eval_rows_->content().largest);
  if (content.least < 0 || largest >= vocabulary) {
    throw UserError("data",
                    fmt::format("ids below the model's vocabulary of {} were expected, got {}.",
                                vocabulary, content.least < 0 ? content.least : largest),
                    "the tokenizer and the model must belong together.");
  }
  const int64_t longest = train_rows_->longest_piece();
  const DecoderConfig& model = model_->decoder.config();
  if (longest <= model.context) return;
  const std::string what =
      fmt::format("rows of up to {} tokens for a model made for {}.", longest, model.context);
  // A table of positions ends; rotary positions go on, at the price of what the model has not seen.
  if (model.rope.width == 0) {
    throw UserError("max_length", what,
                    fmt::format("set max_length to {} or less.", model.context));
  }
  log_warning("[max_length] {}", what);
}

void SftRun::start() {
  const auto& training = config_.training;
  const auto order = order_options(training);
  order_.emplace(train_rows_->size(), order,
                 order.strategy == OrderStrategy::group_by_length ? train_rows_->lengths()
                                                                  : std::vector<int64_t>{});
  const double epochs = training.num_train_epochs * static_cast<double>(order_->steps_per_epoch());
  total_steps_ =
      training.max_steps > 0 ? training.max_steps : static_cast<int64_t>(std::ceil(epochs));
  cadence_.emplace(training, order_->steps_per_epoch(), total_steps_);
  optimizer_.emplace(optimizer_options(training), model_->decoder.tensors());
  schedule_.emplace(schedule_plan(training, total_steps_));
  if (checkpoint_) resume();
  const bool tensorboard =
      std::any_of(training.report_to.begin(), training.report_to.end(),
                  [](const auto& name) { return name == "tensorboard" || name == "all"; });
  run_.emplace(fs::path(*training.output_dir), state_.step, tensorboard);
  write_file(run_->path() / "config.yaml", resolved_yaml(config_));
}

/// A resumed run may change its options; what changed is said, line by line of the two resolved
/// configurations.
void SftRun::warn_of_changed_options() const {
  const fs::path path = *resume_ / "config.yaml";
  if (!fs::exists(path)) return;
  const auto lines_of = [](const std::string& text) {
    std::map<std::string, std::string> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos && line[0] != ' ' && line[0] != '#')
        lines[line.substr(0, colon)] = line.substr(colon + 2);
    }
    return lines;
  };
  const auto before = lines_of(read_file(path));
  const auto after = lines_of(resolved_yaml(config_));
  for (const auto& [key, now] : after) {
    const auto found = before.find(key);
    if (key == "resume_from_checkpoint" || found == before.end() || found->second == now) continue;
    log_warning("[resume] {} was {} and is {} now.", key, found->second, now);
  }
}

void SftRun::resume() {
  const Json& saved = checkpoint_->state;
  if (saved.at("data") != data_fingerprint_ || saved.at("rows") != train_rows_->size()) {
    throw UserError(resume_->string(),
                    "it was written over other training rows, or the same encoded otherwise.",
                    "resume with the data, the tokenizer and the data options of the run.");
  }
  if (saved.at("optim") != static_cast<int>(config_.training.optim)) {
    throw UserError("optim", "the checkpoint holds the state of another optimizer.",
                    "resume with the optim of the run.");
  }
  warn_of_changed_options();
  warn_if_machine_differs(saved.at("machine"));
  state_ = RunState::from_json(saved.at("run"));
  schedule_->set_state(saved.at("schedule"));
  if (saved.at("optimizer_saved") == true) {
    optimizer_->set_state(checkpoint_->optimizer, state_.step);
  } else {
    log_warning("[resume] {} was written with save_only_model: the optimizer starts anew.",
                resume_->string());
  }
  if (state_.step > total_steps_) {
    throw UserError("max_steps",
                    fmt::format("the checkpoint is at step {}, the run would end at {}.",
                                state_.step, total_steps_),
                    "raise max_steps or num_train_epochs.");
  }
  checkpoint_.reset();
  saved_step_ = state_.step;
  log_info("[resume] going on from {} at step {} of {}.", resume_->string(), state_.step,
           total_steps_);
}

TokenSums SftRun::accumulate_gradients(std::span<const PackRow> pieces) {
  const auto& training = config_.training;
  const int64_t supervised = count_supervised(pieces);
  const int64_t budget = training.max_tokens_per_microbatch > 0 ? training.max_tokens_per_microbatch
                                                                : kMicrobatchTokens;
  const auto objective =
      config_.sft.loss_type == SftLoss::dft ? RowObjective::dft : RowObjective::nll;
  TokenSums sums;
  int64_t first_piece = 0;
  for (const auto& batch : cut_into_batches(pieces, budget)) {
    ForwardOptions forward{.checkpoint_layers = training.gradient_checkpointing,
                           .on_embeddings = {}};
    if (training.neftune_noise_alpha) {
      forward.on_embeddings = [&, first_piece](const torch::Tensor& embeddings) {
        return add_neftune_noise(embeddings, batch.segments, *training.neftune_noise_alpha,
                                 static_cast<uint64_t>(training.seed), state_.step, first_piece);
      };
    }
    first_piece += std::ssize(batch.segments);
    if (batch.scored() == 0) continue;
    PackedAttention attention(batch.segments);
    const auto hidden = model_->decoder.forward(batch.ids.to(device_), batch.positions.to(device_),
                                                attention, batch.rows.to(device_), forward);
    const auto weights =
        torch::full({batch.scored()}, 1.0 / static_cast<double>(std::max<int64_t>(1, supervised)),
                    torch::TensorOptions(torch::kFloat32).device(device_));
    const auto part = linear_supervised_loss(
        hidden, model_->decoder.head(), batch.targets.to(device_), weights, objective,
        training.label_smoothing_factor, {.entropy = true, .top1 = true});
    part.loss.backward();
    sums.add(part, part.loss.item<double>());
  }
  return sums;
}

void SftRun::write_line(Json line) {
  Json entry = line;
  entry["step"] = state_.step;
  state_.log_history.push_back(std::move(entry));
  last_line_.update(line);
  run_->log(state_.step, line);
  if (hooks_.on_log) hooks_.on_log(state_.step, line);
}

void SftRun::log_step(const TokenSums& sums, double gradient_norm, double learning_rate,
                      int64_t tokens, double seconds) {
  const double scored = std::max(1.0, static_cast<double>(sums.scored));
  const bool countable = std::isfinite(sums.loss) || !config_.training.logging_nan_inf_filter;
  if (countable) state_.window.add("loss", sums.loss);
  state_.window.add("entropy", sums.entropy / scored);
  state_.window.add("mean_token_accuracy", sums.correct / scored);
  state_.window_seconds += seconds;
  state_.window_tokens += tokens;
  if (!cadence_->logs(state_.step)) return;

  Json means = state_.window.take();
  Json line = {{"epoch", cadence_->epoch_of(state_.step)},
               {"loss", means.value("loss", Json(nullptr))},
               {"grad_norm", gradient_norm},
               {"learning_rate", learning_rate},
               {"num_tokens", state_.tokens_seen}};
  for (const auto& [name, value] : means.items()) line[name] = value;
  if (config_.training.include_num_input_tokens_seen != TokensSeen::no)
    line["num_input_tokens_seen"] = state_.tokens_seen;
  const auto& history = state_.log_history;
  int64_t last = 0;
  for (const auto& entry : history) {
    if (entry.contains("loss")) last = entry.at("step").get<int64_t>();
  }
  line["step_time"] =
      state_.window_seconds / static_cast<double>(std::max<int64_t>(1, state_.step - last));
  line["tokens_per_second"] =
      static_cast<double>(state_.window_tokens) / std::max(1e-9, state_.window_seconds);
  line["peak_memory"] = peak_memory_bytes();
  state_.window_seconds = 0.0;
  state_.window_tokens = 0;
  write_line(std::move(line));
}

bool SftRun::evaluate() {
  const auto start = Clock::now();
  const torch::NoGradGuard no_grad;
  const int64_t budget = config_.training.max_tokens_per_microbatch > 0
                             ? config_.training.max_tokens_per_microbatch
                             : kMicrobatchTokens;
  TokenSums sums;
  int64_t tokens = 0;
  const int64_t rows_at_once = std::max<int64_t>(1, config_.training.per_device_eval_batch_size);
  for (int64_t first = 0; first < eval_rows_->size(); first += rows_at_once) {
    std::vector<int64_t> rows(
        static_cast<size_t>(std::min(rows_at_once, eval_rows_->size() - first)));
    std::iota(rows.begin(), rows.end(), first);
    const auto pieces = eval_rows_->pieces(rows);
    for (const auto& batch : cut_into_batches(pieces, budget)) {
      tokens += batch.tokens();
      if (batch.scored() == 0) continue;
      PackedAttention attention(batch.segments);
      const auto hidden = model_->decoder.forward(
          batch.ids.to(device_), batch.positions.to(device_), attention, batch.rows.to(device_));
      const auto part = linear_logprobs(hidden, model_->decoder.head(), batch.targets.to(device_),
                                        {.entropy = true, .top1 = true});
      sums.loss -= part.logprobs.sum(torch::kFloat64).item<double>();
      sums.entropy += part.entropy.sum(torch::kFloat64).item<double>();
      sums.correct += static_cast<double>(part.top1.sum().item<int64_t>());
      sums.scored += batch.scored();
    }
  }
  const double seconds = seconds_since(start);
  const double scored = std::max(1.0, static_cast<double>(sums.scored));
  const auto rows = static_cast<double>(eval_rows_->size());
  const Json line = {{"epoch", cadence_->epoch_of(state_.step)},
                     {"eval_loss", sums.loss / scored},
                     {"eval_entropy", sums.entropy / scored},
                     {"eval_mean_token_accuracy", sums.correct / scored},
                     {"eval_num_tokens", tokens},
                     {"eval_runtime", seconds},
                     {"eval_samples_per_second", rows / std::max(1e-9, seconds)}};
  write_line(line);
  if (schedule_->follows_metric()) {
    std::string name = config_.training.metric_for_best_model.value_or("eval_loss");
    if (!name.starts_with("eval_")) name = "eval_" + name;
    if (line.contains(name)) schedule_->observe(line.at(name).get<double>());
  }
  return note_evaluation(config_.training, line, state_);
}

CheckpointParts SftRun::checkpoint_parts() {
  const std::string best = state_.best_metric ? checkpoint_path(state_.best_step).string() : "";
  CheckpointParts parts{
      .model = &*model_,
      .save = save_options_,
      .optimizer = config_.training.save_only_model ? nullptr : &*optimizer_,
      .state = {{"format", 1},
                {"method", "sft"},
                {"rows", train_rows_->size()},
                {"data", data_fingerprint_},
                {"optim", static_cast<int>(config_.training.optim)},
                {"total_steps", total_steps_},
                {"seed", config_.training.seed},
                {"optimizer_saved", !config_.training.save_only_model},
                {"machine", machine_fingerprint()},
                {"schedule", schedule_->state()},
                {"run", state_.to_json()}},
      .trainer_state = trainer_state_json(config_.training, state_, *cadence_, total_steps_, best),
      .files = text_->files};
  return parts;
}

void SftRun::save() {
  if (saved_step_ == state_.step) return;
  auto parts = checkpoint_parts();
  parts.files.emplace_back("config.yaml", resolved_yaml(config_));
  save_checkpoint(checkpoint_path(state_.step), parts);
  saved_step_ = state_.step;
  if (!config_.training.save_total_limit) return;
  std::optional<fs::path> best;
  if (config_.training.load_best_model_at_end && state_.best_metric)
    best = checkpoint_path(state_.best_step);
  rotate_checkpoints(run_->path(), *config_.training.save_total_limit, best);
}

TrainEnd SftRun::train() {
  const auto& training = config_.training;
  const auto begin = Clock::now();
  const int64_t first_step = state_.step;
  if (training.eval_on_start && state_.step == 0) evaluate();

  while (state_.step < total_steps_) {
    const auto start = Clock::now();
    // 1. The rows of this step: a function of the step alone.
    const auto pieces = train_rows_->pieces(order_->batch(state_.step));
    int64_t tokens = 0;
    for (const auto& piece : pieces) tokens += std::ssize(piece.ids);

    // 2. Gradients of the mean over all supervised tokens of the step, micro-batch by micro-batch.
    const TokenSums sums = accumulate_gradients(pieces);

    // 3. Clip by the norm over all tensors, then update.
    const double norm = optimizer_->gradient_norm();
    if (!std::isfinite(norm)) {
      // Before the update: the weights and the last checkpoint are still whole.
      fail("train",
           fmt::format("the gradient's norm at step {} is {}, the loss {}.", state_.step + 1, norm,
                       sums.loss),
           "lower learning_rate, look at the rows of this step, or check the model's weights for "
           "NaN.");
    }
    const double limit = training.max_grad_norm;
    const double scale = limit > 0.0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
    const double learning_rate = schedule_->learning_rate(state_.step);
    optimizer_->step(learning_rate, scale);
    ++state_.step;
    state_.tokens_seen += tokens;

    // 4. Say what happened.
    log_step(sums, norm, learning_rate, tokens, seconds_since(start));
    if (hooks_.on_progress) {
      const double per_step = seconds_since(begin) / static_cast<double>(state_.step - first_step);
      hooks_.on_progress(
          {.step = state_.step,
           .total_steps = total_steps_,
           .loss = sums.loss,
           .tokens_per_second = static_cast<double>(tokens) / std::max(1e-9, seconds_since(start)),
           .seconds_left = per_step * static_cast<double>(total_steps_ - state_.step)});
    }

    // 5. Evaluate and save when it is time; stop when asked.
    bool best = false;
    if (cadence_->evaluates(state_.step)) best = evaluate();
    if (cadence_->saves(state_.step) || (best && training.save_strategy == SaveInterval::best))
      save();
    if (hooks_.should_stop && hooks_.should_stop() && state_.step < total_steps_) {
      save();
      return TrainEnd::interrupted;
    }
    if (state_.stop_early) return TrainEnd::stopped_early;
  }
  return TrainEnd::done;
}

void SftRun::finish(TrainEnd end) {
  if (end == TrainEnd::interrupted) return;
  const fs::path best = checkpoint_path(state_.best_step);
  if (config_.training.load_best_model_at_end && state_.best_metric &&
      state_.best_step != state_.step) {
    if (!fs::exists(best)) {
      throw UserError("load_best_model_at_end",
                      fmt::format("the best checkpoint {} is gone.", best.string()));
    }
    log_info("[best model] {} of step {} goes to the top of the run folder.",
             *config_.training.metric_for_best_model, state_.best_step);
    auto loaded = load_checkpoint(
        best, {.dtype = model_->decoder.dtype(), .device = device_, .trainable = true});
    model_ = std::move(loaded.model);
  }
  save_final_model(run_->path(), checkpoint_parts());
}

TrainResult SftRun::run() {
  fix_threads(config_.training.threads);
  if (hooks_.on_text) hooks_.on_text(resolved_table(config_));
  // Everything that can be wrong is looked at before anything is written, and reported together.
  Problems problems;
  const auto attempt = [&](const std::function<void()>& part) {
    try {
      part();
    } catch (const UserError& error) {
      problems.add(error);
    }
  };
  attempt([&] { device_ = choose_device(config_.model.device, config_.training.use_cpu); });
  attempt([&] { resume_ = checkpoint_to_resume(config_.training); });
  attempt([&] { check_output_folder(config_.training, resume_.has_value()); });
  attempt([&] { text_ = load_text_side(*config_.model.model_name_or_path, config_.tokenizer); });
  if (text_) attempt([&] { read_data(); });
  attempt([&] { load_weights(); });
  if (train_rows_ && model_) attempt([&] { check_rows_fit(); });
  problems.throw_if_any();
  start();
  const TrainEnd end = train();
  finish(end);
  return {.end = end, .steps = state_.step, .metrics = last_line_};
}

}  // namespace

TrainResult train_sft(SftConfig config, const TrainHooks& hooks) {
  return SftRun(std::move(config), hooks).run();
}

}  // namespace rlhf
