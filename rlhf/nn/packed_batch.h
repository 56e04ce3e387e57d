// The one form in which every method feeds the model: a flat run of tokens, no padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "rlhf/core/segments.h"

namespace rlhf {

/// One row as the trainer wants it scored: tokens, and which of them are supervised.
struct PackRow {
  std::span<const int32_t> ids;
  std::span<const uint8_t>
      supervised;   ///< same length; token 0 cannot be predicted and is never scored
  int64_t row = 0;  ///< the caller's number of the row, kept in PackedBatch::row_of
};

/// A prompt with the answers to it. Every token of an answer is scored, the first from the
/// prompt's last hidden row (an answer without a prompt has nothing to predict its first token
/// from).
struct PackPrompt {
  struct Answer {
    std::span<const int32_t> ids;  ///< at least one token
    int64_t row = 0;               ///< the caller's number of the answer
  };
  std::span<const int32_t> ids;  ///< may be empty
  std::vector<Answer> answers;
  int64_t scored_as = -1;  ///< the prompt's own tokens are scored, too, under this number; -1: not

  /// Tokens of the longest answer behind the prompt.
  int64_t longest() const;
  /// Whether the prompt is computed once: it has several answers, and none behind it is longer than
  /// `share_limit`.
  bool shares(int64_t share_limit) const;
  /// Tokens that the prompt and its answers take in a batch.
  int64_t tokens(int64_t share_limit) const;
};

/// T tokens of several rows. Each scored position r predicts targets[r] from the hidden row rows[r]
/// (the token before it).
struct PackedBatch {
  at::Tensor ids;        ///< (T) int64
  at::Tensor positions;  ///< (T) int64, from 0 in every row; a segment with a prefix goes on
                         ///< from the prefix's length
  SegmentTable segments;
  at::Tensor rows;              ///< (R) int64 into [0, T): hidden rows wanted from the head
  at::Tensor targets;           ///< (R) int64
  std::vector<int64_t> row_of;  ///< (R) caller's row number of each scored position
  std::vector<int64_t>
      row_begin;                 ///< first index into [0, R) of each row in order, and R at the end
  std::vector<int64_t> row_end;  ///< the last token of each row in order, an index into [0, T)

  int64_t tokens() const { return ids.defined() ? ids.size(0) : 0; }
  int64_t scored() const { return targets.defined() ? targets.size(0) : 0; }
};

/// Lays rows side by side, one segment each.
PackedBatch batch_rows(std::span<const PackRow> rows);

/// Lays prompts and their answers side by side. A prompt with several answers is one segment and
/// the prefix of theirs, unless a row would be longer than `share_limit`
/// (DecoderConfig::shared_prefix_limit(): above it sharing would not be exact); then, and for a
/// single answer, each answer is one segment with the prompt before it. A row of the batch is an
/// answer, or a prompt that is scored itself, which comes before its answers.
PackedBatch batch_prompts(std::span<const PackPrompt> prompts,
                          int64_t share_limit = std::numeric_limits<int64_t>::max());

/// The numbers as a tensor (N) int64 on the CPU.
at::Tensor index_tensor(std::span<const int64_t> values);

/// Cuts rows 0..n-1 of the given lengths, in order, into runs of at most `max_tokens` tokens (a
/// longer row stands alone). Returns the first row of each run and n at the end. The cut never
/// changes a result, only the memory used.
std::vector<int64_t> cut_by_tokens(std::span<const int64_t> lengths, int64_t max_tokens);

}  // namespace rlhf
