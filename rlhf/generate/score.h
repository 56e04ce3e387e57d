// What a model says of given tokens: log-probabilities of a language model, rewards of a reward
// model, scores of steps. What `rlhf score` and `rlhf eval` print and rewards, references and
// checks of the sampler use.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rlhf/models/decoder.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {

struct ScoreOptions {
  double temperature = 1.0;  ///< T > 0: log-softmax of z / T
  int64_t max_tokens =
      8192;  ///< of one forward pass; a longer row has one alone. Changes memory, not results
};

/// Per row, in order, the log-probability of each supervised token but the row's first, which
/// nothing predicts. Rows are packed without padding and cut by max_tokens. No gradients. Error
/// where an id is outside the vocabulary.
std::vector<std::vector<float>> score_rows(const Decoder& decoder, std::span<const PackRow> rows,
                                           const ScoreOptions& options = {});

/// Per answer, in order of prompts and of their answers, the sum of its tokens' log-probabilities
/// (without the first token of an answer that has no prompt). A prompt is computed once for its
/// answers. No gradients.
std::vector<double> answer_logprobs(const Decoder& decoder, std::span<const PackPrompt> prompts,
                                    const ScoreOptions& options = {});

/// Per answer, in order of prompts and of their answers, a reward model's score at its last token:
/// the position comes from lengths, so that no id is special. A prompt is computed once for its
/// answers. No gradients. UserError unless the model is a sequence classifier with one label.
std::vector<float> rewards(const Decoder& decoder, std::span<const PackPrompt> prompts,
                           const ScoreOptions& options = {});

/// A row of which some tokens end a step.
struct StepsRow {
  std::span<const int32_t> ids;
  std::vector<int64_t> ends;  ///< positions in the row, rising
};

/// Per row and step what a process reward model gives at the step's end: with two labels the
/// probability of label 1 (the step is right), with one label the score. No gradients. UserError
/// unless the model is a token classifier with one or two labels.
std::vector<std::vector<float>> step_rewards(const Decoder& decoder, std::span<const StepsRow> rows,
                                             const ScoreOptions& options = {});

}  // namespace rlhf
