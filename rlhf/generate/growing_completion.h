// What the batch engine (engine.h) and the session of one sequence (session.h) share: a completion
// that grows token by token, and what is wrong with a prompt.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/random.h"
#include "rlhf/generate/engine.h"
#include "rlhf/generate/sampler.h"

namespace rlhf {

/// Sample `sample` of a prompt, with its random stream. Both calls keep to this order: choose() the
/// next token, then accept() it.
class GrowingCompletion {
 public:
  /// Keeps a reference to `options`.
  GrowingCompletion(const Prompt& prompt, int64_t sample, const SamplingOptions& options);

  /// `logits` (V) are overwritten.
  ChosenToken choose(Sampler& sampler, std::span<float> logits);
  /// Appends the token. `on_token` may be empty; true from it ends the completion, as a stop token
  /// does.
  void accept(const ChosenToken& token,
              const std::function<bool(std::span<const int32_t> ids)>& on_token);

  bool done() const { return done_; }
  const std::vector<int32_t>& ids() const { return completion_.ids; }
  Completion take() { return std::move(completion_); }

 private:
  const SamplingOptions& options_;
  Random random_;
  std::vector<int32_t> seen_;  // distinct, ascending; kept only for a repetition penalty
  Completion completion_;
  bool done_ = false;
};

/// Adds a prompt without a token, and ids outside the vocabulary.
void check_prompt_ids(const Prompt& prompt, const std::string& where, const DecoderConfig& config,
                      Problems& problems);

}  // namespace rlhf
