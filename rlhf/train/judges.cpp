#include "rlhf/train/judges.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "rlhf/core/error.h"
#include "rlhf/generate/interrupted.h"
#include "rlhf/generate/score.h"
#include "rlhf/math/advantages.h"
#include "rlhf/rewards/external_options.h"
#include "rlhf/rewards/http_judge.h"
#include "rlhf/rewards/worker_pool.h"
#include "rlhf/train/judge_model.h"
#include "rlhf/train/policy.h"

namespace rlhf {
namespace {

/// UserError where a judge with a table of positions has too few of them.
void check_positions(int64_t tokens, const DecoderConfig& judge) {
  if (judge.rope.width > 0 || tokens <= judge.context) return;
  throw UserError("reward_model_name_or_path",
                  fmt::format("at most {} tokens were expected, got {}.", judge.context, tokens));
}

/// Adds a model, called as its folder is, to the judges: logs tell judges apart by their names.
void add_model_name(const fs::path& folder, std::vector<std::string>& names, Problems& problems) {
  const std::string name = fs::weakly_canonical(folder).filename().string();
  if (std::find(names.begin(), names.end(), name) != names.end()) {
    problems.add(folder.string(),
                 fmt::format("judges of different names were expected, two are called {}.", name),
                 "a model is called as its folder is: rename the folder.");
  }
  names.push_back(name);
}

std::unique_ptr<ExternalJudge> open_judge(const OutsideEntry& entry, const JudgeOptions& options) {
  if (entry.command.empty())
    return open_http_judge(entry.url, options.reward_workers, options.reward_timeout);
  return std::make_unique<WorkerPool>(WorkerPoolOptions{.name = entry.name,
                                                        .command = entry.command,
                                                        .workers = options.reward_workers,
                                                        .timeout = options.reward_timeout});
}

/// Starts workers and opens services; what does not start is a problem beside the others.
void open_outside(const RewardEntries& entries, const JudgeOptions& options, Judges& judges,
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

/// What the reward model reads of the samples of a draw: completions behind prompts that they share.
std::vector<PackPrompt> shared_prompts(std::vector<Group>& groups, int64_t max_tokens,
                                       std::vector<Sample*>& samples) {
  std::vector<PackPrompt> prompts;
  for (auto& group : groups) {
    // A large group is several: what one pass takes stays bounded.
    int64_t tokens = max_tokens;
    for (auto& sample : group.samples) {
      if (tokens + sample.tokens() > max_tokens) {
        prompts.push_back({.ids = group.prompt, .answers = {}});
        tokens = std::ssize(group.prompt);
      }
      auto& answers = prompts.back().answers;
      answers.push_back({.ids = sample.ids, .row = std::ssize(answers)});
      tokens += sample.tokens();
      samples.push_back(&sample);
    }
  }
  return prompts;
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

}  // namespace

std::vector<std::vector<std::string>> Judges::required_columns() const {
  std::vector<std::vector<std::string>> columns;
  for (const auto& rule : rules) {
    if (!rule.columns.empty()) columns.push_back(rule.columns);
  }
  return columns;
}

Judges read_judges(const JudgeOptions& options, int64_t longest, const TextSide* text,
                   const Model* policy, Problems& problems) {
  Judges judges;
  auto entries = split_reward_funcs(options.reward_funcs.value_or(std::vector<Json>{}), problems);
  judges.rules = read_reward_rules(entries.rules, longest, problems);
  judges.rule_places = entries.rule_judges;
  open_outside(entries, options, judges, problems);
  judges.names = std::move(entries.names);
  if (options.reward_model_name_or_path) {
    const fs::path folder = *options.reward_model_name_or_path;
    try {
      if (options.reward_model_reencode) {
        judges.text.emplace(text_folder(folder));
      } else if (text != nullptr) {
        check_same_tokenizer("reward_model_name_or_path", folder, text->folder,
                             ", or set reward_model_reencode: true, which asks it in text");
      }
      judges.model.emplace(load_reward_model(folder, policy));
    } catch (const UserError& error) {
      problems.add(error);
    }
    judges.model_place = judges.names.size();
    add_model_name(folder, judges.names, problems);
  }
  if (options.process_reward_model_name_or_path) {
    const fs::path folder = *options.process_reward_model_name_or_path;
    try {
      if (text != nullptr)
        check_same_tokenizer("process_reward_model_name_or_path", folder, text->folder);
      judges.steps.emplace(load_step_judge(folder, policy), options.step_separator);
    } catch (const UserError& error) {
      problems.add(error);
    }
    add_model_name(folder, judges.names, problems);
  }
  judges.weights = options.reward_weights.value_or(std::vector<double>(judges.names.size(), 1.0));
  if (judges.weights.size() != judges.names.size()) {
    problems.add("reward_weights",
                 fmt::format("one weight for each of {} rewards was expected, got {}.",
                             judges.names.size(), judges.weights.size()),
                 judges.names.empty() ? "remove the key."
                                      : fmt::format("give one each, in this order: {}.",
                                                    fmt::join(judges.names, ", ")));
  }
  return judges;
}

std::optional<Problem> missing_template(const Judges& judges, const Json& columns,
                                        const std::string& where) {
  if (!judges.text || judges.text->has_template()) return std::nullopt;
  if (!columns.value("prompt", Json()).is_array()) return std::nullopt;
  return Problem{.where = where,
                 .what =
                     "a reward model with a chat template was expected, since the prompt is a "
                     "conversation and reward_model_reencode is set.",
                 .hint = "give the reward model's folder a chat_template.jinja."};
}

Judging::Judging(const Judges& judges, const Tokenizer& tokenizer)
    : judges_(judges), tokenizer_(tokenizer) {}

void Judging::begin() {
  first_ = questions_;
  asked_.clear();
  texts_.clear();
}

void Judging::add(const Group& group, const Json& columns, int64_t step, Sample& sample) {
  sample.rewards.resize(judges_.names.size());
  judge_by_rules(group, columns, sample);
  if (judges_.text) encode_for_model(group, columns, sample);
  if (judges_.outside.empty()) return;
  Json question = question_of(questions_++, group, sample, columns, tokenizer_, step);
  for (const auto& [place, judge] : judges_.outside) {
    question["name"] = judges_.names[place];
    judge->submit(question);
  }
  asked_.push_back(&sample);
}

void Judging::finish(std::vector<Group>& groups, const std::function<bool()>& should_stop) {
  hear_outside(should_stop);
  judge_by_model(groups);
  if (judges_.steps) judges_.steps->judge(tokenizer_, judges_.names.back(), groups);
  weigh_groups(groups, judges_.weights);
}

void Judging::judge_by_rules(const Group& group, const Json& columns, Sample& sample) const {
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

void Judging::hear_outside(const std::function<bool()>& should_stop) {
  for (const auto& [place, judge] : judges_.outside) {
    if (!judge->settle(should_stop)) throw Interrupted();
    for (auto& answer : judge->collect()) {
      if (answer.id < first_) continue;  // of a draw that was broken off
      Sample& sample = *asked_.at(static_cast<size_t>(answer.id - first_));
      sample.rewards[place] = answer.reward;
      if (!answer.failure.empty())
        sample.failures.push_back({.judge = judges_.names[place],
                                   .reason = std::move(answer.failure),
                                   .timed_out = answer.timed_out});
    }
  }
}

void Judging::encode_for_model(const Group& group, const Json& columns, Sample& sample) {
  try {
    auto ids = judges_.text->ids_of(columns, tokenizer_, group, sample);
    check_positions(std::ssize(ids), judges_.model->decoder.config());
    texts_.emplace_back(&sample, std::move(ids));
  } catch (const UserError& error) {
    sample.failures.push_back(
        {.judge = judges_.names[judges_.model_place], .reason = error.what()});
  }
}

void Judging::judge_by_model(std::vector<Group>& groups) const {
  if (!judges_.model) return;
  const ScoreOptions passes;
  std::vector<PackPrompt> prompts;
  std::vector<Sample*> samples;
  if (judges_.text) {
    for (const auto& [sample, ids] : texts_) {
      prompts.push_back({.ids = {}, .answers = {{.ids = ids, .row = 0}}});
      samples.push_back(sample);
    }
  } else {
    prompts = shared_prompts(groups, passes.max_tokens, samples);
  }
  const auto scores = rlhf::rewards(judges_.model->decoder, prompts, passes);
  for (size_t i = 0; i < samples.size(); ++i) {
    const double score = scores.at(i);
    const bool finite = std::isfinite(score);
    if (!finite) {
      samples[i]->failures.push_back(
          {.judge = judges_.names[judges_.model_place], .reason = fmt::to_string(score)});
    }
    samples[i]->rewards[judges_.model_place] = finite ? std::optional(score) : std::nullopt;
  }
}

void weigh_groups(std::vector<Group>& groups, const std::vector<double>& weights) {
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      const auto sum = weigh_rewards(std::span(&sample.rewards, 1), weights);
      sample.reward = sample.failures.empty() ? sum.front() : std::nullopt;
    }
  }
}

std::vector<JudgeFailures> count_failures(const std::vector<Group>& groups,
                                          const std::vector<std::string>& judges) {
  std::vector<JudgeFailures> found;
  for (const auto& judge : judges) {
    JudgeFailures own{.judge = judge, .errors = 0, .timeouts = 0, .example = {}};
    for (const auto& group : groups) {
      for (const auto& sample : group.samples) {
        for (const auto& failure : sample.failures) {
          if (failure.judge != judge) continue;
          ++(failure.timed_out ? own.timeouts : own.errors);
          if (own.example.empty()) own.example = failure.reason;
        }
      }
    }
    if (own.errors + own.timeouts > 0) found.push_back(std::move(own));
  }
  return found;
}

void FailedCompletions::add(const std::vector<Group>& groups) {
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) {
      ++all;
      if (sample.failures.empty()) continue;
      ++failed;
      example = sample.failures.front().text();
    }
  }
}

void FailedCompletions::check(double limit) const {
  if (share() <= limit) return;
  fail("rewards",
       fmt::format("{:.0f}% of the completions got no reward for errors, such as {}.",
                   100.0 * share(), example),
       "mend the reward, or raise reward_failure_limit.");
}

Json rewards_json(const Sample& sample, const std::vector<std::string>& judges) {
  Json rewards = Json::object();
  for (size_t k = 0; k < judges.size(); ++k)
    rewards[judges[k]] = sample.rewards[k] ? Json(*sample.rewards[k]) : Json(nullptr);
  return rewards;
}

Json steps_json(const std::vector<StepReward>& steps) {
  Json line = {{"last_tokens", Json::array()}, {"rewards", Json::array()}};
  for (const auto& step : steps) {
    line["last_tokens"].push_back(step.last_token);
    line["rewards"].push_back(step.reward ? Json(*step.reward) : Json(nullptr));
  }
  return line;
}

}  // namespace rlhf
