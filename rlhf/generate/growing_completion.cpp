#include "rlhf/generate/growing_completion.h"

#include <algorithm>

namespace rlhf {

GrowingCompletion::GrowingCompletion(const Prompt& prompt, int64_t sample,
                                     const SamplingOptions& options)
    : options_(options),
      random_(options.seed,
              {kRandomSampling, options.step, prompt.key, static_cast<uint64_t>(sample)}) {
  if (options.repetition_penalty != 1.0) {
    seen_ = prompt.ids;
    std::sort(seen_.begin(), seen_.end());
    seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
  }
}

ChosenToken GrowingCompletion::choose(Sampler& sampler, std::span<float> logits) {
  return sampler.choose(logits, seen_, options_, random_.uniform());
}

void GrowingCompletion::accept(const ChosenToken& token,
                               const std::function<bool(std::span<const int32_t> ids)>& on_token) {
  completion_.ids.push_back(token.id);
  completion_.logprobs.push_back(token.logprob);
  if (options_.filters()) {
    completion_.sampling_logprobs.push_back(token.sampling_logprob);
  }
  if (options_.repetition_penalty != 1.0) {
    const auto place = std::lower_bound(seen_.begin(), seen_.end(), token.id);
    if (place == seen_.end() || *place != token.id) {
      seen_.insert(place, token.id);
    }
  }
  bool stops = !options_.ignore_eos && std::find(options_.stop_ids.begin(), options_.stop_ids.end(),
                                                 token.id) != options_.stop_ids.end();
  if (on_token) {
    stops = on_token(completion_.ids) || stops;
  }
  completion_.finish_reason = stops ? FinishReason::stop : FinishReason::length;
  done_ = stops || std::ssize(completion_.ids) == options_.max_new_tokens;
}

void check_prompt_ids(const Prompt& prompt, const std::string& where, const DecoderConfig& config,
                      Problems& problems) {
  if (prompt.ids.empty()) {
    problems.add(where, "expected at least one token, got none.",
                 "use a chat template, or a tokenizer that adds a BOS token");
  }
  const auto outside = std::find_if(prompt.ids.begin(), prompt.ids.end(),
                                    [&](int32_t id) { return id < 0 || id >= config.vocab_size; });
  if (outside != prompt.ids.end()) {
    problems.add(
        where,
        fmt::format("expected ids below the vocabulary's {}, got {}.", config.vocab_size, *outside),
        "tokenizer and model must belong together");
  }
}

}  // namespace rlhf
