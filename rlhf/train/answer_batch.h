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
#include "rlhf/train/microbatches.h"

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

/// `rows` cut into batches. `share_limit` is the model's (DecoderConfig::shared_prefix_limit). With
/// `score_prompts` the prompt of row k of a batch of n is scored as answer 2n + k.
std::vector<AnswerBatch> pair_batches(const PairDataset& data, std::span<const int64_t> rows,
                                      const MicrobatchSize& size, int64_t share_limit,
                                      bool score_prompts = false);

/// An unpaired row: its prompt with its one answer, numbered `number`.
PackPrompt pack_answer(const AnswerDataset& data, int64_t row, int64_t number);

/// `rows` cut into batches; `pack(row, number)` gives a row with one answer, `number` being its
/// number in the batch.
template <class Pack>
std::vector<AnswerBatch> answer_batches(std::span<const int64_t> rows, const MicrobatchSize& size,
                                        Pack pack) {
  std::vector<int64_t> lengths;
  for (const int64_t row : rows) lengths.push_back(pack(row, 0).longest());
  std::vector<AnswerBatch> batches;
  for (const auto& some : cut_rows(lengths, size)) {
    AnswerBatch batch;
    std::vector<PackPrompt> prompts;
    for (const int64_t i : some) {
      batch.rows.push_back(rows[static_cast<size_t>(i)]);
      prompts.push_back(pack(batch.rows.back(), std::ssize(prompts)));
    }
    batch.packed = batch_prompts(prompts);
    batches.push_back(std::move(batch));
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
