#include "cli/eval_measures.h"

#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/train/judge_model.h"

namespace rlhf::cli {
namespace {

void check_vocabulary(const Model& reference, const Model& policy, Problems& problems) {
  const int64_t wanted = policy.decoder.config().vocab_size;
  const int64_t got = reference.decoder.config().vocab_size;
  if (got >= wanted) return;
  problems.add("--ref_model",
               fmt::format("a model with the {} tokens of --model was expected, {} has {}.", wanted,
                           reference.folder.string(), got),
               "the two must share a tokenizer.");
}

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

Json to_json(const Estimate& estimate) {
  return {{"value", estimate.mean},
          {"interval", {estimate.interval.low, estimate.interval.high}},
          {"method", estimate.method}};
}

void declare(OptionSet& set, MeasureOptions& options) {
  set.group("Other models");
  set.add("ref_model", options.ref_model,
          "Folder of a reference: samples get their KL divergence from it, preference data its "
          "part of the implicit reward.");
  set.add("reward_model", options.reward_model,
          "Folder of a reward model that scores the samples.");
  set.add("max_tokens", options.max_tokens, "Tokens of one forward pass: memory, never results.")
      .at_least(1);
}

Measures::Measures(const MeasureOptions& options, const InferenceOptions& inference,
                   const LoadedModel& loaded, double temperature)
    : how_{.temperature = temperature, .max_tokens = options.max_tokens} {
  Problems problems;
  if (options.ref_model && temperature == 0) {
    problems.add("--ref_model", "a temperature above 0 was expected, got 0.",
                 "greedy samples have no distribution to measure.");
  }
  if (options.ref_model) {
    try {
      reference_ = load_other(inference, *options.ref_model, ModelTask::language_model);
      check_vocabulary(*reference_, loaded.model, problems);
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  if (options.reward_model) {
    constexpr const char* kKey = "--reward_model";
    try {
      check_same_tokenizer(kKey, *options.reward_model, loaded.text->folder);
      judge_ = load_reward_model(*options.reward_model, &loaded.model, kKey);
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  problems.throw_if_any();
}

void Measures::add(const PromptRow& row, std::span<const TextCompletion> samples) {
  if (!reference_ && !judge_) return;
  Held held{.prompt = row.prompt.ids, .answers = {}, .logprobs = {}};
  for (const TextCompletion& sample : samples) {
    const Completion& one = sample.completion;
    const auto& logprobs = one.sampling_logprobs.empty() ? one.logprobs : one.sampling_logprobs;
    held.answers.push_back(one.ids);
    held.logprobs.push_back(std::accumulate(logprobs.begin(), logprobs.end(), 0.0));
    held_tokens_ += std::ssize(held.prompt) + std::ssize(one.ids);
  }
  held_.push_back(std::move(held));
  if (held_tokens_ >= how_.max_tokens) measure();
}

void Measures::measure() {
  std::vector<PackPrompt> prompts;
  for (const Held& held : held_) {
    PackPrompt& prompt = prompts.emplace_back(PackPrompt{.ids = held.prompt, .answers = {}});
    for (const auto& answer : held.answers) prompt.answers.push_back({.ids = answer});
  }
  if (reference_) {
    const std::vector<double> theirs = answer_logprobs(reference_->decoder, prompts, how_);
    auto next = theirs.begin();
    for (const Held& held : held_) {
      std::vector<double> ratios;
      for (const double own : held.logprobs) ratios.push_back(own - *next++);
      kl_.push_back(mean(ratios));
    }
  }
  if (judge_) {
    const auto found = rewards(judge_->decoder, prompts, {.max_tokens = how_.max_tokens});
    auto next = found.begin();
    for (const Held& held : held_) {
      const auto end = next + std::ssize(held.answers);
      rewards_.push_back(mean(std::vector<double>(next, end)));
      next = end;
    }
  }
  held_.clear();
  held_tokens_ = 0;
}

Json Measures::summary() {
  measure();
  Json out = Json::object();
  if (!kl_.empty()) out["kl"] = to_json(estimate(kl_));
  if (!rewards_.empty()) out["reward_model"] = to_json(estimate(rewards_));
  return out;
}

}  // namespace rlhf::cli
