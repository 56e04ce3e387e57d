// What both forms of packed_attention ask of their operands.
#pragma once

#include "rlhf/kernels/attention.h"

namespace rlhf::attention {

/// Throws Error unless q (T, H, D), k and v (T, K, D) are floating tensors of one type on one
/// device with D contiguous, H is a multiple of K, the segments cover T in order with prefixes that
/// do not nest, and the options are in range.
void check_operands(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const SegmentTable& segments, const AttentionOptions& options);

}  // namespace rlhf::attention
