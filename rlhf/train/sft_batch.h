// From encoded rows to the packed batches of one step of supervised fine-tuning.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/data/pack.h"
#include "rlhf/data/sft.h"
#include "rlhf/nn/packed_batch.h"
#include "rlhf/train/microbatches.h"

namespace rlhf {

/// The rows a step counts in: encoded rows, or packs of them. Pieces of a pack never see each
/// other.
class SftRows {
 public:
  /// `plan` unset: one row each.
  SftRows(EncodedDataset data, std::optional<PackPlan> plan)
      : data_(std::move(data)), plan_(std::move(plan)) {}

  int64_t rows() const { return plan_ ? plan_->packs() : data_.rows(); }
  std::vector<int64_t> lengths() const;

  /// Reads everything once.
  Content content() const { return data_.content(); }

  /// Tokens of the longest run that sees itself: a row, or a piece of a pack.
  int64_t longest_piece() const;

  /// The pieces of the given rows, in order.
  std::vector<PackRow> pieces(std::span<const int64_t> rows) const;

 private:
  EncodedDataset data_;
  std::optional<PackPlan> plan_;
};

/// longest_piece(), as other sets answer it (run_data.h).
int64_t longest_row(const SftRows& rows);

/// Tokens of `pieces` that are predicted and supervised: the N of the loss.
int64_t count_supervised(std::span<const PackRow> pieces);

/// Pieces that go through the model together, and their numbers in the step.
struct SftBatch {
  PackedBatch packed;
  std::vector<int64_t> pieces;
};

/// `pieces` cut into batches.
std::vector<SftBatch> cut_into_batches(std::span<const PackRow> pieces, const MicrobatchSize& size);

/// NEFTune's noise (Jain et al., arXiv 2310.05914) added to embeddings (T, C): uniform in
/// ±alpha/√(L·C), L the length of the token's own segment. Each piece has its own stream, keyed by
/// (seed, step, its number in the step): neither resuming nor the cut into micro-batches changes the
/// noise.
at::Tensor add_neftune_noise(const at::Tensor& embeddings, const SftBatch& batch, double alpha,
                             uint64_t seed, int64_t step);

}  // namespace rlhf
