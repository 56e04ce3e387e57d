#include "rlhf/train/rollout_maker.h"

#include <chrono>
#include <cmath>
#include <map>
#include <utility>

#include "rlhf/core/error.h"
#include "rlhf/generate/score.h"
#include "rlhf/math/advantages.h"
#include "rlhf/rewards/external_options.h"
#include "rlhf/rewards/http_judge.h"
#include "rlhf/rewards/worker_pool.h"
#include "rlhf/text/stop_strings.h"
#include "rlhf/text/tokenizer_json.h"
#include "rlhf/train/judge_model.h"
#include "rlhf/train/run.h"
#include "rlhf/train/stop_ids.h"

namespace rlhf {
namespace {

constexpr uint64_t kRoundShift = 40;  // rows are fewer than 2^40

/// The reward model's own tokenizer must be the policy's: it is asked in ids.
void check_same_tokenizer(const char* key, const fs::path& folder, const TextSide& text) {
  if (read_tokenizer_json(text_folder(folder)) == read_tokenizer_json(text.folder)) return;
  throw UserError(
      key,
      fmt::format("a reward model with the policy's tokenizer was expected, {} has another.",
                  folder.string()),
      "train the reward model from the same base (rlhf reward, rlhf prm).");
}

std::unique_ptr<ExternalJudge> open_judge(const OutsideEntry& entry,
                                          const RolloutOptions& options) {
  if (entry.command.empty())
    return open_http_judge(entry.url, options.reward_workers, options.reward_timeout);
  return std::make_unique<WorkerPool>(WorkerPoolOptions{.name = entry.name,
                                                        .command = entry.command,
                                                        .workers = options.reward_workers,
                                                        .timeout = options.reward_timeout});
}

/// Starts workers and opens services; what does not start is a problem beside the others.
void open_outside(const RewardEntries& entries, const RolloutOptions& options, Judges& judges,
                  Problems& problems) {
  for (const auto& entry : entries.outside) {
    if (entry.command.empty() == entry.url.empty()) continue;  // named already
    try {
      judges.outside.push_back({.place = entry.judge, .judge = open_judge(entry, options)});
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
}

/// What judges outside are asked of a completion; rows of messages are asked in messages. `columns`
/// is the whole row.
Json question_of(int64_t id, const Group& group, const Sample& sample, const Json& columns,
                 const Tokenizer& tokenizer, int64_t step) {
  Json question = {{"id", id}, {"name", ""}, {"prompt", columns.value("prompt", Json())}};
  if (question["prompt"].is_null())  // a row of ids
    question["prompt"] = tokenizer.decode(group.prompt, /*skip_special_tokens=*/false);
  question["completion"] = sample.text;
  if (question["prompt"].is_array())
    question["completion"] = Json::array({{{"role", "assistant"}, {"content", sample.text}}});
  question["prompt_ids"] = group.prompt;
  question["completion_ids"] = sample.ids;
  question["step"] = step;
  Json rest = columns;
  rest.erase("prompt");
  rest.erase("prompt_ids");
  question["columns"] = std::move(rest);
  return question;
}

SamplingOptions sampling_options(const RolloutOptions& options, const Draw& draw,
                                 const std::vector<int32_t>& stop_ids, uint64_t seed) {
  return {.temperature = draw.greedy ? 0.0 : options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .min_p = options.min_p.value_or(0.0),
          .repetition_penalty = options.repetition_penalty,
          .max_new_tokens = options.max_completion_length,
          .num_generations = draw.generations,
          .stop_ids = stop_ids,
          .seed = seed,
          .step = draw.draw};
}

}  // namespace

std::vector<std::vector<std::string>> Judges::required_columns() const {
  std::vector<std::vector<std::string>> columns;
  for (const auto& rule : rules) {
    if (!rule.columns.empty()) columns.push_back(rule.columns);
  }
  return columns;
}

Judges read_judges(const RolloutOptions& options, const TextSide* text, const Policy* policy) {
  Judges judges;
  Problems problems;
  auto entries = split_reward_funcs(options.reward_funcs.value_or(std::vector<Json>{}), problems);
  judges.rules = read_reward_rules(entries.rules, options.max_completion_length, problems);
  judges.rule_places = entries.rule_judges;
  open_outside(entries, options, judges, problems);
  judges.names = std::move(entries.names);
  if (options.reward_model_name_or_path) {
    const fs::path folder = *options.reward_model_name_or_path;
    try {
      if (text != nullptr) check_same_tokenizer("reward_model_name_or_path", folder, *text);
      judges.model.emplace(load_reward_model(folder, policy));
    } catch (const UserError& error) {
      problems.add(error);
    }
    judges.model_place = judges.names.size();
    judges.names.push_back(fs::weakly_canonical(folder).filename().string());
  }
  if (options.process_reward_model_name_or_path) {
    const fs::path folder = *options.process_reward_model_name_or_path;
    try {
      if (text != nullptr) check_same_tokenizer("process_reward_model_name_or_path", folder, *text);
      judges.steps.emplace(load_step_judge(folder, policy), options.step_separator);
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

void RolloutMaker::judge_by_rules(const Group& group, const Json& columns, Sample& sample) const {
  for (size_t i = 0; i < judges_.rules.size(); ++i) {
    const auto& rule = judges_.rules[i];
    std::optional<double> value;
    try {
      value = rule.score(
          {.text = sample.text, .ids = sample.ids, .columns = columns, .prompt_ids = group.prompt});
    } catch (const Error& error) {
      sample.failures.push_back({.judge = rule.name, .reason = error.what()});
    }
    const bool finite = !value || std::isfinite(*value);
    if (!finite) sample.failures.push_back({.judge = rule.name, .reason = fmt::to_string(*value)});
    sample.rewards[judges_.rule_places[i]] = finite ? value : std::nullopt;
  }
}

void RolloutMaker::hear_outside(int64_t first, const std::vector<Sample*>& asked) const {
  for (const auto& [place, judge] : judges_.outside) {
    for (auto& answer : judge->collect()) {
      if (answer.id < first) continue;  // of a draw that was broken off
      Sample& sample = *asked.at(static_cast<size_t>(answer.id - first));
      sample.rewards[place] = answer.reward;
      if (!answer.failure.empty())
        sample.failures.push_back({.judge = judges_.names[place],
                                   .reason = std::move(answer.failure),
                                   .timed_out = answer.timed_out});
    }
  }
}

void RolloutMaker::judge_by_model(std::vector<Group>& groups) const {
  if (!judges_.model) return;
  const ScoreOptions passes;
  std::vector<PackPrompt> prompts;
  for (const auto& group : groups) {
    // A large group is several: what one pass takes stays bounded.
    int64_t tokens = passes.max_tokens;
    for (const auto& sample : group.samples) {
      if (tokens + sample.tokens() > passes.max_tokens) {
        prompts.push_back({.ids = group.prompt, .answers = {}});
        tokens = std::ssize(group.prompt);
      }
      auto& answers = prompts.back().answers;
      answers.push_back({.ids = sample.ids, .row = std::ssize(answers)});
      tokens += sample.tokens();
    }
  }
  const auto scores = rlhf::rewards(judges_.model->decoder, prompts, passes);
  size_t next = 0;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      const double score = scores.at(next++);
      const bool finite = std::isfinite(score);
      if (!finite)
        sample.failures.push_back(
            {.judge = judges_.names[judges_.model_place], .reason = fmt::to_string(score)});
      sample.rewards[judges_.model_place] = finite ? std::optional(score) : std::nullopt;
    }
  }
}

std::vector<Group> RolloutMaker::groups(const PromptDataset& prompts, std::span<const int64_t> rows,
                                        const Draw& draw) {
  std::vector<Group> groups;
  std::vector<Prompt> requests;
  std::vector<Json> columns;
  for (const int64_t row : rows) {
    const auto ids = prompts.prompt(row);
    groups.push_back(
        {.row = row, .prompt = {ids.begin(), ids.end()}, .samples = {}, .greedy_reward = {}});
    groups.back().samples.resize(static_cast<size_t>(draw.generations));
    requests.push_back({.ids = groups.back().prompt,
                        .key = (draw.round << kRoundShift) | static_cast<uint64_t>(row),
                        .where = prompts.source(row)});
    columns.push_back(prompts.columns(row));
  }
  const auto start = std::chrono::steady_clock::now();
  seconds_ = {};
  const int64_t first_question = questions_;
  std::vector<Sample*> asked;
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
    auto& group = groups[static_cast<size_t>(prompt)];
    auto& sample = group.samples[static_cast<size_t>(index)];
    sample.ids = completion.ids;
    sample.truncated = completion.finish_reason == FinishReason::length;
    const auto watch = watches.find({prompt, index});
    const auto cut = watch == watches.end() ? std::nullopt : watch->second.cut_text();
    sample.text = cut ? *cut : text_.tokenizer.decode(sample.ids, /*skip_special_tokens=*/true);
    const auto judging = std::chrono::steady_clock::now();
    const Json& row = columns[static_cast<size_t>(prompt)];
    sample.rewards.resize(judges_.names.size());
    judge_by_rules(group, row, sample);
    if (!judges_.outside.empty()) {
      Json question = question_of(questions_++, group, sample, row, text_.tokenizer, draw.step);
      for (const auto& [place, judge] : judges_.outside) {
        question["name"] = judges_.names[place];
        judge->submit(question);
      }
      asked.push_back(&sample);
    }
    seconds_.rewards += seconds_since(judging);
  };
  Engine engine(policy_.decoder(),
                {.cache_bytes = rollout_cache_bytes(options_), .max_rows = options_.rollout_rows});
  engine.generate(requests, sampling_options(options_, draw, stop_ids_, seed_), callbacks);
  seconds_.sampling = seconds_since(start) - seconds_.rewards;
  const auto judging = std::chrono::steady_clock::now();
  hear_outside(first_question, asked);
  judge_by_model(groups);
  if (judges_.steps) judges_.steps->judge(text_.tokenizer, judges_.names.back(), groups);
  seconds_.rewards += seconds_since(judging);
  return groups;
}

}  // namespace rlhf
