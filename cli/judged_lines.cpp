#include "cli/judged_lines.h"

#include "rlhf/core/log.h"

namespace rlhf::cli {
namespace {

/// Completions that are judged together where a judge does not answer at once.
constexpr int64_t kJudgedTogether = 512;

Group group_of(const PromptRow& row, const std::vector<TextCompletion>& samples) {
  Group group{.row = 0, .prompt = row.prompt.ids, .samples = {}, .greedy_reward = {}};
  for (const TextCompletion& one : samples) {
    Sample& sample = group.samples.emplace_back();
    sample.ids = one.completion.ids;
    sample.text = *one.text;
    sample.truncated = one.completion.finish_reason == FinishReason::length;
  }
  return group;
}

SampledRows rows_of(const JudgedOutput& output, const Json& row, const Group& group) {
  std::vector<JudgedSample> samples;
  for (const Sample& one : group.samples)
    samples.push_back({one.text, one.ids, one.reward, one.truncated});
  return output.format == OutputFormat::best_of_n
             ? best_of_n_row(row, samples, output.min_reward)
             : pair_rows(row, samples, output.pairs_per_prompt, output.min_reward);
}

const char* meaning_of(NoRow reason) {
  switch (reason) {
    case NoRow::no_reward:
      return "no completion has a reward";
    case NoRow::one_completion:
      return "one judged completion, or the same each time";
    case NoRow::equal_rewards:
      return "all rewards are equal";
    case NoRow::low_reward:
      return "no completion has min_reward";
  }
  return "";
}

}  // namespace

JudgedLines::JudgedLines(const Judges& judges, const Tokenizer& tokenizer,
                         const JudgedOutput& output, JsonLines& lines)
    : judges_(judges), output_(output), lines_(lines), judging_(judges, tokenizer) {
  judging_.begin();
}

void JudgedLines::add(const PromptRow& row, std::vector<TextCompletion>& samples) {
  static_assert(std::is_nothrow_move_constructible_v<Group>);  // samples stay where they are judged
  waiting_.push_back(&row);
  Group& group = groups_.emplace_back(group_of(row, samples));
  completions_.push_back(std::move(samples));
  for (Sample& sample : group.samples) judging_.add(group, row.record.row, /*step=*/0, sample);
  waiting_completions_ += std::ssize(group.samples);
  if (judges_.at_once() || waiting_completions_ >= kJudgedTogether) judge_and_write();
}

void JudgedLines::judge_and_write() {
  judging_.finish(groups_);
  note_failures();
  for (size_t i = 0; i < groups_.size(); ++i) {
    const Json& row = waiting_[i]->record.row;
    if (output_.format == OutputFormat::completions) {
      write_completions(row, groups_[i], completions_[i]);
    } else {
      write_rows(row, groups_[i]);
    }
  }
  prompts_ += std::ssize(groups_);
  waiting_.clear();
  groups_.clear();
  completions_.clear();
  waiting_completions_ = 0;
  judging_.begin();
}

void JudgedLines::write_completions(const Json& row, const Group& group,
                                    const std::vector<TextCompletion>& samples) {
  Json out = row;
  out["completions"] = Json::array();
  for (size_t i = 0; i < samples.size(); ++i) {
    const Sample& judged = group.samples[i];
    Json one = to_json(samples[i]);
    one["rewards"] = rewards_json(judged, judges_.names);
    one["reward"] = judged.reward ? Json(*judged.reward) : Json(nullptr);
    for (const auto& failure : judged.failures) one["failures"].push_back(failure.text());
    if (!judged.steps.empty()) one["steps"] = steps_json(judged.steps);
    out["completions"].push_back(std::move(one));
  }
  lines_.write(out);
}

void JudgedLines::write_rows(const Json& row, const Group& group) {
  const SampledRows made = rows_of(output_, row, group);
  for (const Json& line : made.rows) lines_.write(line);
  rows_ += std::ssize(made.rows);
  truncated_ += made.truncated;
  if (made.none) ++without_row_[*made.none];
}

void JudgedLines::note_failures() {
  failed_.add(groups_);
  for (const auto& found : count_failures(groups_, judges_.names)) {
    JudgeFailures& all = failures_[found.judge];
    all.errors += found.errors;
    all.timeouts += found.timeouts;
    if (all.example.empty()) all.example = found.example;
  }
  // A judge that has gone away is not asked of every other completion first.
  if (failed_.all >= kJudgedTogether) failed_.check(output_.failure_limit);
}

void JudgedLines::finish() {
  if (!groups_.empty()) judge_and_write();
  failed_.check(output_.failure_limit);
  if (output_.format != OutputFormat::completions) log_rows();
  for (const auto& [judge, found] : failures_) {
    log_warning("[rewards] {} failed on {} of {} completions ({} for want of time), such as {}.",
                judge, found.errors + found.timeouts, failed_.all, found.timeouts, found.example);
  }
}

void JudgedLines::log_rows() const {
  std::string text =
      fmt::format("{} {} of {} prompts", rows_,
                  output_.format == OutputFormat::pairs ? "pairs" : "rows", prompts_);
  for (const auto& [reason, count] : without_row_)
    text += fmt::format("; {} gave none: {}", count, meaning_of(reason));
  if (rows_ == 0) {
    log_warning(
        "[generate] {}. HINT: raise num_generations or temperature, and look at the rewards "
        "with --output_format completions.",
        text);
    return;
  }
  log_info("[generate] {}.", text);
  if (truncated_ > 0) {
    log_warning(
        "[generate] {} rows hold a completion that max_new_tokens cut: read as text, it is "
        "learned as if it ended there. HINT: raise max_new_tokens.",
        truncated_);
  }
}

}  // namespace rlhf::cli
