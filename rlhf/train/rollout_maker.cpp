#include "rlhf/train/rollout_maker.h"

#include <chrono>
#include <cmath>
#include <map>
#include <utility>

#include "rlhf/core/error.h"
#include "rlhf/generate/score.h"
#include "rlhf/math/advantages.h"
#include "rlhf/text/stop_strings.h"
#include "rlhf/text/tokenizer_json.h"
#include "rlhf/train/run.h"
#include "rlhf/train/stop_ids.h"

namespace rlhf {
namespace {

constexpr double kGibibyte = 1073741824.0;
constexpr uint64_t kRoundShift = 40;  // rows are fewer than 2^40

/// The reward model's own tokenizer must be the policy's: it is asked in ids.
void check_same_tokenizer(const fs::path& folder, const TextSide& text) {
  if (read_tokenizer_json(folder) == read_tokenizer_json(text.folder)) return;
  throw UserError(
      "reward_model_name_or_path",
      fmt::format("a reward model with the policy's tokenizer was expected, {} has another.",
                  folder.string()),
      "train the reward model from the same base (rlhf reward).");
}

Model load_reward_model(const fs::path& folder, torch::Device device) {
  const DecoderConfig config = load_decoder_config(folder);
  if (config.task != ModelTask::sequence_classification || config.labels != 1) {
    throw UserError("reward_model_name_or_path",
                    fmt::format("a reward model's folder (sequence classification, one label) was "
                                "expected, {} is none.",
                                folder.string()),
                    "train one with rlhf reward.");
  }
  return load_model(folder, {.dtype = torch::kFloat32, .device = device});
}

SamplingOptions sampling_options(const RolloutOptions& options, int64_t generations,
                                 const std::vector<int32_t>& stop_ids, uint64_t seed,
                                 uint64_t draw) {
  return {.temperature = options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .min_p = options.min_p.value_or(0.0),
          .repetition_penalty = options.repetition_penalty,
          .max_new_tokens = options.max_completion_length,
          .num_generations = generations,
          .stop_ids = stop_ids,
          .seed = seed,
          .step = draw};
}

}  // namespace

std::vector<std::vector<std::string>> Judges::required_columns() const {
  std::vector<std::vector<std::string>> columns;
  for (const auto& rule : rules) {
    if (!rule.columns.empty()) columns.push_back(rule.columns);
  }
  return columns;
}

Judges read_judges(const RolloutOptions& options, const TextSide* text, torch::Device device) {
  Judges judges;
  Problems problems;
  judges.rules = read_reward_rules(Json(options.reward_funcs.value_or(std::vector<Json>{})),
                                   options.max_completion_length, problems);
  for (const auto& rule : judges.rules) judges.names.push_back(rule.name);
  if (options.reward_model_name_or_path) {
    const fs::path folder = *options.reward_model_name_or_path;
    try {
      if (text != nullptr) check_same_tokenizer(folder, *text);
      judges.model.emplace(load_reward_model(folder, device));
    } catch (const UserError& error) {
      problems.add(error);
    }
    judges.names.push_back(fs::weakly_canonical(folder).filename().string());
  }
  judges.weights = options.reward_weights.value_or(std::vector<double>(judges.names.size(), 1.0));
  if (judges.weights.size() != judges.names.size()) {
    problems.add("reward_weights",
                 fmt::format("one weight for each of {} rewards was expected, got {}.",
                             judges.names.size(), judges.weights.size()));
  }
  problems.throw_if_any();
  return judges;
}

RolloutMaker::RolloutMaker(const RolloutOptions& options, uint64_t seed, const Policy& policy,
                           const TextSide& text, const Judges& judges)
    : options_(options),
      seed_(seed),
      policy_(policy),
      text_(text),
      judges_(judges),
      stop_ids_(find_stop_ids(policy.model, &text.tokenizer)) {}

void RolloutMaker::judge_by_rules(const Json& columns, Sample& sample) const {
  for (const auto& rule : judges_.rules) {
    std::optional<double> value;
    try {
      value = rule.score({.text = sample.text, .ids = sample.ids, .columns = columns});
    } catch (const Error& error) {
      sample.failures.push_back(fmt::format("{}: {}", rule.name, error.what()));
    }
    const bool finite = !value || std::isfinite(*value);
    if (!finite) sample.failures.push_back(fmt::format("{}: {}", rule.name, *value));
    sample.rewards.push_back(finite ? value : std::nullopt);
  }
}

void RolloutMaker::judge_by_model(std::vector<Group>& groups) const {
  if (!judges_.model) return;
  std::vector<PackPrompt> prompts;
  for (const auto& group : groups) {
    PackPrompt prompt{.ids = group.prompt, .answers = {}};
    for (const auto& sample : group.samples)
      prompt.answers.push_back({.ids = sample.ids, .row = std::ssize(prompt.answers)});
    prompts.push_back(std::move(prompt));
  }
  const auto scores = rlhf::rewards(judges_.model->decoder, prompts);
  size_t next = 0;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      const double score = scores.at(next++);
      const bool finite = std::isfinite(score);
      if (!finite) sample.failures.push_back(fmt::format("{}: {}", judges_.names.back(), score));
      sample.rewards.push_back(finite ? std::optional(score) : std::nullopt);
    }
  }
}

std::vector<Group> RolloutMaker::groups(const PromptDataset& prompts, std::span<const int64_t> rows,
                                        int64_t generations, uint64_t draw, uint64_t round) {
  std::vector<Group> groups;
  std::vector<Prompt> requests;
  std::vector<Json> columns;
  for (const int64_t row : rows) {
    const auto ids = prompts.prompt(row);
    groups.push_back({.row = row, .prompt = {ids.begin(), ids.end()}, .samples = {}});
    groups.back().samples.resize(static_cast<size_t>(generations));
    requests.push_back({.ids = groups.back().prompt,
                        .key = (round << kRoundShift) | static_cast<uint64_t>(row),
                        .where = prompts.source(row)});
    columns.push_back(prompts.columns(row));
  }
  const auto start = std::chrono::steady_clock::now();
  seconds_ = {};
  std::map<std::pair<int64_t, int64_t>, StopStrings> watches;
  GenerateCallbacks callbacks;
  if (!options_.stop.empty()) {
    callbacks.on_token = [&](const TokenEvent& event) {
      const auto [watch, fresh] =
          watches.try_emplace({event.prompt, event.sample}, text_.tokenizer, options_.stop);
      return watch->second.push(event.ids.back());
    };
  }
  callbacks.on_finished = [&](int64_t prompt, int64_t index, const Completion& completion) {
    auto& sample = groups[static_cast<size_t>(prompt)].samples[static_cast<size_t>(index)];
    sample.ids = completion.ids;
    sample.truncated = completion.finish_reason == FinishReason::length;
    const auto watch = watches.find({prompt, index});
    const auto cut = watch == watches.end() ? std::nullopt : watch->second.cut_text();
    sample.text = cut ? *cut : text_.tokenizer.decode(sample.ids, /*skip_special_tokens=*/true);
    const auto judging = std::chrono::steady_clock::now();
    judge_by_rules(columns[static_cast<size_t>(prompt)], sample);
    seconds_.rewards += seconds_since(judging);
  };
  Engine engine(policy_.decoder(),
                {.cache_bytes = static_cast<int64_t>(options_.rollout_cache_gib * kGibibyte),
                 .max_rows = options_.rollout_rows});
  engine.generate(requests, sampling_options(options_, generations, stop_ids_, seed_, draw),
                  callbacks);
  seconds_.sampling = seconds_since(start) - seconds_.rewards;
  const auto judging = std::chrono::steady_clock::now();
  judge_by_model(groups);
  seconds_.rewards += seconds_since(judging);
  return groups;
}

}  // namespace rlhf
