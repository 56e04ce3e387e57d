#include "rlhf/train/answer_batch.h"

#include <algorithm>

#include "rlhf/models/packed_forward.h"

namespace rlhf {
namespace {

/// What a pair takes in a batch.
int64_t pair_tokens(const PairDataset& data, int64_t row, int64_t share_limit) {
  int64_t tokens = 0;
  for (const auto& prompt : pack_pair(data, row, 0)) tokens += prompt.tokens(share_limit);
  return tokens;
}

}  // namespace

std::vector<PackPrompt> pack_pair(const PairDataset& data, int64_t row, int64_t number,
                                  int64_t score_prompt_as) {
  const PackPrompt::Answer chosen{data.chosen(row), 2 * number};
  const PackPrompt::Answer rejected{data.rejected(row), 2 * number + 1};
  const auto before_chosen = data.chosen_prompt(row);
  const auto before_rejected = data.rejected_prompt(row);
  if (before_chosen.size() == before_rejected.size())
    return {{before_chosen, {chosen, rejected}, score_prompt_as}};
  return {{before_chosen, {chosen}, score_prompt_as}, {before_rejected, {rejected}}};
}

int64_t longest_pair(const PairDataset& data, int64_t share_limit) {
  int64_t longest = 0;
  for (int64_t row = 0; row < data.rows(); ++row)
    longest = std::max(longest, pair_tokens(data, row, share_limit));
  return longest;
}

double largest_answer_share(const PairDataset& data, int64_t share_limit) {
  double largest = 0.0;
  for (int64_t row = 0; row < data.rows(); ++row) {
    const auto answers = static_cast<double>(data.chosen(row).size() + data.rejected(row).size());
    const auto tokens = static_cast<double>(pair_tokens(data, row, share_limit));
    largest = std::max(largest, answers / std::max(1.0, tokens));
  }
  return largest;
}

std::vector<AnswerBatch> pair_batches(const PairDataset& data, std::span<const int64_t> rows,
                                      const MicrobatchSize& size, int64_t share_limit,
                                      bool score_prompts) {
  std::vector<int64_t> lengths;
  for (const int64_t row : rows) lengths.push_back(pair_tokens(data, row, share_limit));
  std::vector<AnswerBatch> batches;
  for (const auto& some : cut_rows(lengths, size)) {
    AnswerBatch batch;
    std::vector<PackPrompt> prompts;
    for (const int64_t i : some) {
      const int64_t k = batch.size();
      const int64_t prompt_as = score_prompts ? 2 * std::ssize(some) + k : -1;
      batch.rows.push_back(rows[static_cast<size_t>(i)]);
      for (auto& prompt : pack_pair(data, batch.rows.back(), k, prompt_as))
        prompts.push_back(std::move(prompt));
    }
    batch.packed = batch_prompts(prompts, share_limit);
    batches.push_back(std::move(batch));
  }
  return batches;
}

PackPrompt pack_answer(const AnswerDataset& data, int64_t row, int64_t number) {
  return {.ids = data.prompt(row), .answers = {{data.completion(row), number}}};
}

at::Tensor sequence_of(const PackedBatch& batch, at::Device device) {
  return index_tensor(batch.row_of).to(device);
}

RowLogprobs batch_logprobs(const Decoder& decoder, const PackedBatch& batch,
                           const LogprobOptions& options, const ForwardOptions& forward) {
  return linear_logprobs(packed_forward(decoder, batch, batch.rows, forward), decoder.head(),
                         batch.targets.to(decoder.device()), options);
}

}  // namespace rlhf
