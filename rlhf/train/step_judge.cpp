#include "rlhf/train/step_judge.h"

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/generate/score.h"

namespace rlhf {
namespace {

Model load_judge(const fs::path& folder, torch::Device device) {
  const DecoderConfig config = load_decoder_config(folder);
  if (config.task != ModelTask::token_classification || config.labels > 2) {
    throw UserError("process_reward_model_name_or_path",
                    fmt::format("a process reward model's folder (token classification, at most "
                                "two labels) was expected, {} is none.",
                                folder.string()),
                    "train one with rlhf prm.");
  }
  return load_model(folder, {.dtype = torch::kFloat32, .device = device});
}

/// Takes over what the judge said of the steps of one completion.
void note_steps(Sample& sample, std::span<const int64_t> ends, std::span<const float> rewards,
                const std::string& name) {
  sample.steps.clear();
  double sum = 0.0;
  for (size_t i = 0; i < ends.size(); ++i) {
    const auto reward = static_cast<double>(rewards[i]);
    if (!std::isfinite(reward)) {
      sample.failures.push_back(fmt::format("{}: {} at step {}", name, reward, i + 1));
      sample.rewards.push_back(std::nullopt);
      sample.steps.clear();
      return;
    }
    sample.steps.push_back({.last_token = ends[i], .reward = reward});
    sum += reward;
  }
  sample.rewards.push_back(sum / static_cast<double>(ends.size()));
}

}  // namespace

std::vector<int64_t> step_ends(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                               const std::string& separator) {
  StreamDecoder decoder(tokenizer, /*skip_special_tokens=*/true);
  std::vector<int64_t> ends;
  std::string open;  // text of the step that has not ended
  for (size_t t = 0; t < ids.size(); ++t) {
    open += decoder.push(ids[t]);
    const size_t found = open.rfind(separator);
    const bool last = t + 1 == ids.size();
    if (found == std::string::npos && !last) continue;
    ends.push_back(static_cast<int64_t>(t));
    open = found == std::string::npos ? "" : open.substr(found + separator.size());
  }
  return ends;
}

StepJudge::StepJudge(const fs::path& folder, std::string separator, torch::Device device)
    : model_(load_judge(folder, device)), separator_(std::move(separator)) {}

void StepJudge::judge(const Tokenizer& tokenizer, const std::string& name,
                      std::vector<Group>& groups) const {
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<int64_t>> ends;
  for (const auto& group : groups) {
    for (const auto& sample : group.samples) {
      ends.push_back(step_ends(tokenizer, sample.ids, separator_));
      ids.push_back(group.prompt);
      ids.back().insert(ids.back().end(), sample.ids.begin(), sample.ids.end());
    }
  }
  std::vector<StepsRow> rows;
  size_t next = 0;
  for (const auto& group : groups) {
    for (size_t i = 0; i < group.samples.size(); ++i, ++next) {
      StepsRow row{.ids = ids[next], .ends = ends[next]};
      for (int64_t& end : row.ends) end += std::ssize(group.prompt);
      rows.push_back(std::move(row));
    }
  }
  const auto rewards = step_rewards(model_.decoder, rows);
  next = 0;
  for (auto& group : groups) {
    for (auto& sample : group.samples) {
      note_steps(sample, ends[next], rewards[next], name);
      ++next;
    }
  }
}

}  // namespace rlhf
