// Completions of a rollout as packed batches, and values of their tokens to and from tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "rlhf/nn/packed_batch.h"
#include "rlhf/train/microbatches.h"
#include "rlhf/train/rollout.h"

namespace rlhf {

/// Completions that go through a model together, numbered in order.
struct RolloutBatch {
  PackedBatch packed;
  std::vector<RolloutRow> rows;
};

/// `rows` cut into batches, in order. Completions of one prompt share it within a batch;
/// `share_limit` is the model's (DecoderConfig::shared_prefix_limit).
std::vector<RolloutBatch> batches_of(const std::vector<RolloutRow>& rows,
                                     const MicrobatchSize& size, int64_t share_limit);

/// A value for each token of a batch, (R) fp32 on `device`. Error where a sample has not as many as
/// tokens.
at::Tensor token_values(const RolloutBatch& batch, std::vector<float> Sample::*member,
                        at::Device device);
/// Writes (R) values back, sample by sample.
void note_values(const RolloutBatch& batch, const at::Tensor& values,
                 std::vector<float> Sample::*member);

/// (R) bool on `device`: tokens that count.
at::Tensor mask_of(const RolloutBatch& batch, bool mask_truncated, at::Device device);

}  // namespace rlhf
