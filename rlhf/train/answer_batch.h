// Pairs and answers as packed batches, and what one pass of a model says of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "rlhf/data/answers.h"
#include "rlhf/data/pairs.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/models/decoder.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {

/// Rows of a data set that go through the model together. Their answers are numbered in order:
/// of pairs, 2k is the chosen answer of row k of the batch and 2k + 1 the rejected one.
struct AnswerBatch {
  PackedBatch packed;
  std::vector<int64_t> rows;  ///< rows of the data set

  int64_t size() const { return std::ssize(rows); }
};

/// The prompt of a pair, once, with both answers; or, where truncation left them different prompts,
/// each with its own. `number` is the row's number in its batch. With `score_prompt_as` at 0 or
/// above the chosen answer's prompt is scored under that number.
std::vector<PackPrompt> pack_pair(const PairDataset& data, int64_t row, int64_t number,
                                  int64_t score_prompt_as = -1);

/// Tokens of the pair that takes most of them in a batch.
int64_t longest_pair(const PairDataset& data, int64_t share_limit);
/// The largest share of a pair's tokens in a batch that are its answers'.
double largest_answer_share(const PairDataset& data, int64_t share_limit);

/// `rows` cut into batches of at most `max_tokens` tokens, in order. `share_limit` is the model's
/// (DecoderConfig::shared_prefix_limit). With `score_prompts` the prompt of row k of a batch of n
/// is scored as answer 2n + k.
std::vector<AnswerBatch> pair_batches(const PairDataset& data, std::span<const int64_t> rows,
                                      int64_t max_tokens, int64_t share_limit,
                                      bool score_prompts = false);

/// An unpaired row: its prompt with its one answer, numbered `number`.
PackPrompt pack_answer(const AnswerDataset& data, int64_t row, int64_t number);

/// `rows` cut into batches of at most `max_tokens` tokens, in order; `pack(row, number)` gives a
/// row with one answer, `number` being its number in the batch.
template <class Pack>
std::vector<AnswerBatch> answer_batches(std::span<const int64_t> rows, int64_t max_tokens,
                                        Pack pack) {
  std::vector<int64_t> lengths;
  for (const int64_t row : rows) lengths.push_back(pack(row, 0).longest());
  const auto cuts = cut_by_tokens(lengths, max_tokens);
  std::vector<AnswerBatch> batches;
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    const auto begin = static_cast<size_t>(cuts[cut]);
    const auto some = rows.subspan(begin, static_cast<size_t>(cuts[cut + 1]) - begin);
    std::vector<PackPrompt> prompts;
    for (const int64_t row : some) prompts.push_back(pack(row, std::ssize(prompts)));
    batches.push_back({.packed = batch_prompts(prompts), .rows = {some.begin(), some.end()}});
  }
  return batches;
}

/// (R) int64 on `device`: the answer of each scored position.
at::Tensor sequence_of(const PackedBatch& batch, at::Device device);

/// Log-probabilities of the scored positions of a batch, and what else is asked for, in one pass.
/// Differentiable where gradients are on.
RowLogprobs batch_logprobs(const Decoder& decoder, const PackedBatch& batch,
                           const LogprobOptions& options, const ForwardOptions& forward = {});

}  // namespace rlhf
