// A packed batch through a decoder: the one way from tokens to hidden rows in training and scoring.
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/models/decoder.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {

/// Hidden rows behind the last norm, (R, C), of the tokens `rows` (R) int64 of the batch: its own
/// `rows` are those that are scored; undefined, every token. The batch may lie on another device
/// than the decoder. Differentiable.
at::Tensor packed_forward(const Decoder& decoder, const PackedBatch& batch, const at::Tensor& rows,
                          const ForwardOptions& options = {});

}  // namespace rlhf
