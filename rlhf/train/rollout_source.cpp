#include "rlhf/train/rollout_source.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/generate/interrupted.h"
#include "rlhf/math/advantages.h"

namespace rlhf {
namespace {

constexpr const char* kLog = "completions.jsonl";
constexpr int64_t kWarnEvery = 20;  // rollouts without a signal

OrderOptions order_options(const RolloutOptions& options, const TrainingOptions& training) {
  return {.strategy = options.shuffle_dataset ? OrderStrategy::random : OrderStrategy::sequential,
          .rows_per_step = prompts_per_generation(options, training),
          .micro_batch_rows = prompts_per_generation(options, training),
          .drop_last = true,
          .seed = static_cast<uint64_t>(training.data_seed.value_or(training.seed))};
}

template <class Fn>
void for_each_sample(const std::vector<Group>& groups, Fn fn) {
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) fn(group, sample);
  }
}

/// mean, min and max of lengths; zeros where there are none, as in TRL.
void add_lengths(Metrics& metrics, const std::string& prefix, const std::string& which,
                 const std::vector<double>& lengths) {
  const bool none = lengths.empty();
  const double sum = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  metrics.emplace_back(prefix + "completions/mean" + which,
                       none ? 0.0 : sum / static_cast<double>(lengths.size()));
  metrics.emplace_back(prefix + "completions/min" + which,
                       none ? 0.0 : *std::min_element(lengths.begin(), lengths.end()));
  metrics.emplace_back(prefix + "completions/max" + which,
                       none ? 0.0 : *std::max_element(lengths.begin(), lengths.end()));
}

void add_moments(Metrics& metrics, const std::string& mean, const std::string& deviation,
                 const OptionalRewards& rewards) {
  const auto moments = reward_moments(rewards);
  if (moments.mean) metrics.emplace_back(mean, *moments.mean);
  if (moments.deviation) metrics.emplace_back(deviation, *moments.deviation);
}

/// What says which completions a step trains on.
Json batches_of_run(const RolloutOptions& options, const TrainingOptions& training,
                    const PolicyGradientMethod& method) {
  if (!method.batches.is_null()) return method.batches;
  return {{"per_device_train_batch_size", training.per_device_train_batch_size},
          {"gradient_accumulation_steps", training.gradient_accumulation_steps},
          {"steps_per_generation", options.steps_per_generation.value_or(1)},
          {"num_iterations", options.num_iterations},
          {"num_generations", options.num_generations}};
}

/// Why a rollout teaches nothing.
std::string cause_of_silence(const Rollout& rollout) {
  OptionalRewards rewards;
  for_each_sample(rollout.groups,
                  [&](const Group&, const Sample& sample) { rewards.push_back(sample.reward); });
  const auto moments = reward_moments(rewards);
  if (!moments.mean) {
    return "no completion got a reward. HINT: look at the column of solutions, and at `failures` "
           "in completions.jsonl.";
  }
  if (moments.deviation && *moments.deviation == 0.0) {
    return fmt::format(
        "every completion got the reward {}. HINT: look at completions.jsonl: the task is too hard "
        "or too easy for this model, answers end before they are complete (max_completion_length), "
        "or "
        "the reward does not read their form.",
        *moments.mean);
  }
  return "the completions of each prompt all got the same reward. HINT: raise num_generations or "
         "temperature, or set dynamic_sampling.";
}

}  // namespace

int64_t steps_per_epoch(const RolloutOptions& options, const TrainingOptions& training,
                        int64_t prompts) {
  const int64_t rollouts = prompts / prompts_per_generation(options, training);
  const int64_t slices =
      rollouts * options.steps_per_generation.value_or(1) * options.num_iterations;
  const int64_t per_step = training.gradient_accumulation_steps;
  return std::max<int64_t>(1, (slices + per_step - 1) / per_step);
}

// Other batches would train on other completions than the steps so far: the run that goes on would
// be neither the old one nor a new one.
void check_same_batches(const Json& state, const RolloutOptions& options,
                        const TrainingOptions& training, const PolicyGradientMethod& method) {
  const Json now = batches_of_run(options, training, method);
  Problems problems;
  for (const auto& [key, value] : state.at("batches").items()) {
    if (now.at(key) == value) continue;
    problems.add(key,
                 fmt::format("{} as in the run that is resumed was expected, got {}.", value.dump(),
                             now.at(key).dump()),
                 "start a new run from the checkpoint's model to train with other batches.");
  }
  problems.throw_if_any();
}

Metrics rollout_metrics(const std::vector<Group>& groups, const std::vector<std::string>& judges,
                        const std::vector<bool>& no_spread, const std::string& prefix) {
  std::vector<double> lengths;
  std::vector<double> ended;
  std::vector<OptionalRewards> columns(judges.size());
  OptionalRewards rewards;
  double duplicates = 0.0;
  for (const auto& group : groups) {
    std::set<std::vector<int32_t>> distinct;
    for (const auto& sample : group.samples) {
      lengths.push_back(static_cast<double>(sample.tokens()));
      if (!sample.truncated) ended.push_back(lengths.back());
      for (size_t k = 0; k < judges.size(); ++k) columns[k].push_back(sample.rewards.at(k));
      rewards.push_back(sample.reward);
      duplicates += distinct.insert(sample.ids).second ? 0.0 : 1.0;
    }
  }
  const double count = std::max(1.0, static_cast<double>(lengths.size()));
  Metrics metrics;
  add_lengths(metrics, prefix, "_length", lengths);
  metrics.emplace_back(prefix + "completions/clipped_ratio",
                       1.0 - static_cast<double>(ended.size()) / count);
  add_lengths(metrics, prefix, "_terminated_length", ended);
  metrics.emplace_back(prefix + "completions/duplicate_ratio", duplicates / count);
  for (size_t k = 0; k < judges.size(); ++k) {
    const std::string name = prefix + "rewards/" + judges[k];
    add_moments(metrics, name + "/mean", name + "/std", columns[k]);
  }
  add_moments(metrics, prefix + "reward", prefix + "reward_std", rewards);
  metrics.emplace_back(
      prefix + "frac_reward_zero_std",
      static_cast<double>(std::count(no_spread.begin(), no_spread.end(), true)) / count);
  FailedCompletions failed;
  failed.add(groups);
  if (failed.failed > 0) metrics.emplace_back(prefix + "rewards/failed_ratio", failed.share());
  for (const auto& found : count_failures(groups, judges)) {
    const std::string name = prefix + "rewards/" + found.judge;
    metrics.emplace_back(name + "/errors", static_cast<double>(found.errors));
    metrics.emplace_back(name + "/timeouts", static_cast<double>(found.timeouts));
  }
  return metrics;
}

RolloutSource::RolloutSource(RolloutParts parts, const fs::path& run_folder, const Json& state,
                             const std::optional<fs::path>& checkpoint)
    : parts_(std::move(parts)), log_(run_folder / kLog) {
  if (parts_.prompts != nullptr)
    order_.emplace(parts_.prompts->rows(), order_options(parts_.options, parts_.training));
  if (state.is_null()) {
    write_file(log_, "");
    return;
  }
  cursor_ = state.at("cursor").get<int64_t>();
  silent_ = state.at("silent").get<int64_t>();
  // Lines that a killed run wrote after its last checkpoint would stand there twice.
  cut_log(state.at("completions_bytes").get<uint64_t>());
  if (checkpoint && fs::exists(*checkpoint / kFile))
    live_.push_back(read_rollout(*checkpoint / kFile));
}

uint64_t RolloutSource::log_bytes() const { return fs::exists(log_) ? fs::file_size(log_) : 0; }

void RolloutSource::cut_log(uint64_t bytes) const {
  if (log_bytes() > bytes) fs::resize_file(log_, bytes);
}

int64_t RolloutSource::period() const {
  return parts_.options.steps_per_generation.value_or(1) * parts_.options.num_iterations;
}

std::vector<Slice> RolloutSource::take(int64_t step, Metrics& metrics, int64_t& tokens) {
  const int64_t cursor = cursor_;
  const int64_t silent = silent_;
  const int64_t newest = live_.empty() ? -1 : live_.back().number;
  const uint64_t bytes = log_bytes();
  const Json method = parts_.method.state ? parts_.method.state() : Json();
  try {
    return slices_of(step, metrics, tokens);
  } catch (const Interrupted&) {
    cursor_ = cursor;
    silent_ = silent;
    while (!live_.empty() && live_.back().number > newest) live_.pop_back();
    cut_log(bytes);
    if (parts_.method.set_state) parts_.method.set_state(method);
    throw;
  }
}

std::vector<Slice> RolloutSource::slices_of(int64_t step, Metrics& metrics, int64_t& tokens) {
  const int64_t micro = parts_.training.per_device_train_batch_size;
  const int64_t per_step = parts_.training.gradient_accumulation_steps;
  const int64_t slices_of_rollout = parts_.options.steps_per_generation.value_or(1);
  const int64_t first = step * per_step;
  while (!live_.empty() && live_.front().number < first / period()) live_.pop_front();
  std::vector<Slice> slices;
  for (int64_t m = first; m < first + per_step; ++m) {
    const int64_t number = m / period();
    if (live_.empty() || live_.back().number < number) {
      // Of its slices, those behind this step's end are first used with other weights.
      const int64_t used_now = std::min(slices_of_rollout, first + per_step - m);
      live_.push_back(draw(number, step, used_now * micro, metrics));
      for_each_sample(live_.back().groups, [&](const Group& group, const Sample& sample) {
        tokens += std::ssize(group.prompt) + sample.tokens();
      });
    }
    Rollout& rollout = live_.back();
    const int64_t begin = m % slices_of_rollout * micro;
    slices.push_back(
        {.rollout = &rollout, .rows = slice_of(rollout, m / slices_of_rollout, begin)});
  }
  return slices;
}

std::vector<RolloutRow> RolloutSource::slice_of(Rollout& rollout, int64_t pass,
                                                int64_t begin) const {
  const int64_t micro = parts_.training.per_device_train_batch_size;
  // A replay is trained in the order of its lines, which is how other trainers are compared.
  if (!parts_.method.shuffles || parts_.replay != nullptr)
    return rows_of(rollout, begin, begin + micro);
  const auto all = rows_of(rollout, 0, rollout.samples());
  RowOrder order(rollout.samples(), {.strategy = OrderStrategy::random,
                                     .rows_per_step = micro,
                                     .seed = static_cast<uint64_t>(parts_.training.seed)});
  const auto& numbers = order.epoch(pass);
  std::vector<RolloutRow> rows;
  for (int64_t i = begin; i < begin + micro; ++i)
    rows.push_back(all[static_cast<size_t>(numbers[static_cast<size_t>(i)])]);
  return rows;
}

Rollout RolloutSource::draw(int64_t number, int64_t step, int64_t first_later, Metrics& metrics) {
  Rollout rollout{.number = number, .step = step, .groups = {}};
  if (parts_.replay != nullptr) {
    const int64_t groups = prompts_per_generation(parts_.options, parts_.training);
    const int64_t whole = parts_.replay->groups() / groups;
    rollout.groups = parts_.replay->take(number % whole * groups, groups);
    weigh_groups(rollout.groups, parts_.weights);
  } else {
    rollout.groups = sampled(number, step, metrics);
  }
  parts_.add_logprobs(rollout, first_later, metrics);
  parts_.method.set_advantages(rollout.groups, parts_.weights, metrics);
  append(rollout);
  note(rollout, parts_.method.without_spread(rollout.groups, parts_.weights), metrics);
  return rollout;
}

std::vector<Group> RolloutSource::sampled(int64_t number, int64_t step, Metrics& metrics) {
  const auto& options = parts_.options;
  const int64_t wanted = prompts_per_generation(options, parts_.training);
  const int64_t rounds = options.dynamic_sampling ? options.dynamic_sampling_rounds : 1;
  std::vector<Group> kept;
  std::vector<Group> flat;
  RolloutSeconds seconds;
  const auto drawn = [&](const std::vector<int64_t>& rows, const Draw& draw) {
    auto groups = parts_.maker->groups(*parts_.prompts, rows, draw, parts_.should_stop);
    seconds.sampling += parts_.maker->seconds().sampling;
    seconds.rewards += parts_.maker->seconds().rewards;
    return groups;
  };
  int64_t round = 0;
  for (; round < rounds && std::ssize(kept) < wanted; ++round) {
    const auto rows = order_->batch(cursor_++);
    Draw draw{.generations = options.num_generations,
              .draw = static_cast<uint64_t>(number),
              .round = static_cast<uint64_t>(round),
              .step = step};
    auto groups = drawn(rows, draw);
    if (parts_.method.greedy_baseline) {
      draw.greedy = true;
      draw.generations = 1;
      const auto greedy = drawn(rows, draw);
      for (size_t g = 0; g < groups.size(); ++g)
        groups[g].greedy_reward = greedy[g].samples.front().reward;
    }
    for (auto& group : groups) {
      const bool drop =
          options.dynamic_sampling && parts_.method.without_spread({group}, parts_.weights).front();
      (drop ? flat : kept).push_back(std::move(group));
    }
  }
  metrics.emplace_back("time/rollout", seconds.sampling);
  metrics.emplace_back("time/reward", seconds.rewards);
  if (options.dynamic_sampling) {
    metrics.emplace_back("sampling/rounds", static_cast<double>(round));
    metrics.emplace_back("sampling/dropped_groups", static_cast<double>(flat.size()));
  }
  // Where the rounds did not fill the batch, groups that teach nothing keep its size.
  for (auto& group : flat) {
    if (std::ssize(kept) < wanted) kept.push_back(std::move(group));
  }
  kept.resize(static_cast<size_t>(wanted));
  return kept;
}

void RolloutSource::note(const Rollout& rollout, const std::vector<bool>& no_spread,
                         Metrics& metrics) {
  for (auto& metric : rollout_metrics(rollout.groups, parts_.judges, no_spread, ""))
    metrics.push_back(std::move(metric));
  FailedCompletions failed;
  failed.add(rollout.groups);
  failed.check(parts_.options.reward_failure_limit);
  if (failed.failed > 0 && !warned_of_failures_) {
    warned_of_failures_ = true;
    log_warning(
        "[rollout {}] {} of {} completions miss a reward: {}. HINT: `failures` in "
        "completions.jsonl says which; rewards/failed_ratio counts them from here on.",
        rollout.number, failed.failed, failed.all, failed.example);
  }
  bool teaches = false;
  for_each_sample(rollout.groups, [&](const Group&, const Sample& sample) {
    teaches = teaches || std::any_of(sample.advantages.begin(), sample.advantages.end(),
                                     [](float value) { return value != 0.0F; });
  });
  silent_ = teaches ? 0 : silent_ + 1;
  if (silent_ % kWarnEvery == 1)
    log_warning("[rollout {}] nothing can be learned from it: {}", rollout.number,
                cause_of_silence(rollout));
}

void RolloutSource::append(const Rollout& rollout) {
  std::string lines;
  for_each_sample(rollout.groups, [&](const Group& group, const Sample& sample) {
    Json line = {{"step", rollout.step + 1},
                 {"weight_version", rollout.step},
                 {"generation", rollout.number},
                 {"prompt", parts_.text.tokenizer.decode(group.prompt, false)},
                 {"completion", sample.text},
                 {"rewards", rewards_json(sample, parts_.judges)},
                 {"reward", sample.reward ? Json(*sample.reward) : Json(nullptr)},
                 {"advantage", sample.advantages.empty() ? 0.0 : sample.advantages.front()},
                 {"finish_reason", sample.truncated ? "length" : "stop"},
                 {"prompt_ids", group.prompt},
                 {"completion_ids", sample.ids}};
    if (parts_.prompts != nullptr) line["row"] = parts_.prompts->source(group.row);
    for (const auto& failure : sample.failures) line["failures"].push_back(failure.text());
    if (!sample.steps.empty()) line["steps"] = steps_json(sample.steps);
    lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
  });
  append_file(log_, lines);
}

std::string RolloutSource::shown() const {
  if (live_.empty()) return "";
  const auto& options = parts_.options;
  int64_t left = options.num_completions_to_print.value_or(live_.back().samples());
  std::string text;
  for (const auto& group : live_.back().groups) {
    for (const auto& sample : group.samples) {
      if (left-- <= 0) return text;
      text += fmt::format("prompt      {}\ncompletion  {}\nreward      {}  advantage {:.3f}\n\n",
                          parts_.text.tokenizer.decode(group.prompt, true),
                          parts_.text.tokenizer.decode(sample.ids, true),
                          sample.reward ? fmt::format("{:.4g}", *sample.reward) : "none",
                          sample.advantages.empty() ? 0.0F : sample.advantages.front());
      if (options.log_unique_prompts) break;
    }
  }
  return text;
}

Json RolloutSource::state() const {
  return {{"batches", batches_of_run(parts_.options, parts_.training, parts_.method)},
          {"cursor", cursor_},
          {"silent", silent_},
          {"completions_bytes", log_bytes()}};
}

std::vector<NamedTensor> RolloutSource::tensors(int64_t step) const {
  const int64_t next = step * parts_.training.gradient_accumulation_steps;
  const bool needed =
      !live_.empty() && next % period() != 0 && live_.back().number == next / period();
  return needed ? to_tensors(live_.back()) : std::vector<NamedTensor>{};
}

}  // namespace rlhf
