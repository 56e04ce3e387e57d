#include "rlhf/train/step_judge.h"

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/generate/score.h"

namespace rlhf {
namespace {

/// Takes over what the judge said of the steps of one completion.
void note_steps(Sample& sample, std::span<const float> rewards, const std::string& name) {
  double sum = 0.0;
  for (size_t i = 0; i < rewards.size(); ++i) {
    const auto reward = static_cast<double>(rewards[i]);
    if (!std::isfinite(reward)) {
      sample.failures.push_back(
          {.judge = name, .reason = fmt::format("{} at step {}", reward, i + 1)});
      sample.steps.clear();
      return;
    }
    sample.steps[i].reward = reward;
    sum += reward;
  }
  sample.rewards.back() = sum / static_cast<double>(rewards.size());
}

}  // namespace

Steps find_steps(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                 const std::string& separator) {
  StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/true);
  Steps steps;
  std::string open;  // text of the step that has not ended
  for (size_t t = 0; t < ids.size(); ++t) {
    const size_t from = open.size() >= separator.size() ? open.size() - separator.size() + 1 : 0;
    open += decoder.push(ids[t]);
    // What the decoder still holds back belongs to this token, too.
    StreamDecoder held = decoder;
    const std::string tail = open.substr(from) + held.flush();
    const size_t last = tail.rfind(separator);  // a token that ends several steps ends them as one
    if (last == std::string::npos) continue;
    steps.ends.push_back(static_cast<int64_t>(t));
    open = tail.substr(last + separator.size());
    decoder = StreamDecoder(tokenizer, /*skip_special_tokens=*/true);
  }
  open += decoder.flush();
  steps.open = !open.empty() || steps.ends.empty();
  return steps;
}

StepJudge::StepJudge(Model model, std::string separator)
    : model_(std::move(model)), separator_(std::move(separator)) {}

void StepJudge::judge(const Tokenizer& tokenizer, const std::string& name,
                      std::vector<Group>& groups) const {
  const auto closing = tokenizer.encode(separator_, /*add_special_tokens=*/false);
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<int64_t>> ends;  // in the row
  std::vector<Sample*> samples;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      const Steps steps = find_steps(tokenizer, sample.ids, separator_);
      std::vector<int32_t> row = group.prompt;
      row.insert(row.end(), sample.ids.begin(), sample.ids.end());
      ends.push_back(steps.ends);
      for (int64_t& end : ends.back()) end += std::ssize(group.prompt);
      if (steps.open) {
        // The judge knows a step by the separator behind it.
        const auto last = std::span(sample.ids).last(1);
        if (!sample.truncated && tokenizer.decode(last, /*skip_special_tokens=*/true).empty())
          row.pop_back();
        row.insert(row.end(), closing.begin(), closing.end());
        ends.back().push_back(std::ssize(row) - 1);
      }
      ids.push_back(std::move(row));
      samples.push_back(&sample);
      sample.steps.clear();
      for (const int64_t end : steps.ends)
        sample.steps.push_back({.last_token = end, .reward = {}});
      if (steps.open) sample.steps.push_back({.last_token = sample.tokens() - 1, .reward = {}});
    }
  }
  std::vector<StepsRow> rows;
  for (size_t i = 0; i < ids.size(); ++i) rows.push_back({.ids = ids[i], .ends = ends[i]});
  const auto rewards = step_rewards(model_.decoder, rows);
  for (size_t i = 0; i < samples.size(); ++i) note_steps(*samples[i], rewards[i], name);
}

}  // namespace rlhf
