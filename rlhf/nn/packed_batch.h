// The one form in which every method feeds the model: a flat run of tokens, no padding.
#pragma once

#include <torch/types.h>

#include <cstdint>
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

/// T tokens of several rows. Each scored position r predicts targets[r] from the hidden row rows[r]
/// (the token before it).
struct PackedBatch {
  torch::Tensor ids;        ///< (T) int64
  torch::Tensor positions;  ///< (T) int64, from 0 in every row; a segment with a prefix goes on
                            ///< from the prefix's length
  SegmentTable segments;
  torch::Tensor rows;           ///< (R) int64 into [0, T): hidden rows wanted from the head
  torch::Tensor targets;        ///< (R) int64
  std::vector<int64_t> row_of;  ///< (R) caller's row number of each scored position
  std::vector<int64_t>
      row_begin;  ///< first index into [0, R) of each row in order, and R at the end

  int64_t tokens() const { return ids.defined() ? ids.size(0) : 0; }
  int64_t scored() const { return targets.defined() ? targets.size(0) : 0; }
};

/// Lays rows side by side, one segment each.
PackedBatch pack_rows(std::span<const PackRow> rows);

/// Cuts rows 0..n-1 of the given lengths, in order, into runs of at most `max_tokens` tokens (a
/// longer row stands alone). Returns the first row of each run and n at the end. The cut never
/// changes a result, only the memory used.
std::vector<int64_t> cut_by_tokens(std::span<const int64_t> lengths, int64_t max_tokens);

}  // namespace rlhf
