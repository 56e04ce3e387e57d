// Attention over a packed batch, forward and backward.
//
// For a query token i of segment s, with S(i) the tokens it sees,
//
//   z_ij = softcap(scale · q_i·k_j),  softcap(x) = c·tanh(x / c)
//   o_i  = Σ_{j ∈ S(i)} softmax_j(z_ij) v_j
//
// S(i) holds the tokens j of its own segment with position(j) <= position(i), and all tokens of the
// segment's prefix; with a sliding window w > 0 only those with position(i) - position(j) < w.
// Nothing else: segments never see each other, so a result does not depend on what shares the pack.
//
// Grouped-query heads: query head h reads key head h / (H / K).
//
// Source: Dao et al., FlashAttention-2 (arXiv 2307.08691) for the blocked form; soft-cap: Gemma 2
// (arXiv 2408.00118). Two forms with one contract: a blocked CPU kernel (float and double; half
// types pass through float), and dense attention by query blocks in plain torch, which is its
// oracle and the fallback on other devices. The kernel's results have the same bits for any number
// of threads, and a segment's are the same whatever else is in the pack (attention_kernel.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "rlhf/core/segments.h"

namespace rlhf {

struct AttentionOptions {
  double scale = 1.0;    ///< factor on q·k, 1/sqrt(D) as a rule
  int64_t window = 0;    ///< sliding window in tokens, 0 for none
  double softcap = 0.0;  ///< c of the soft-cap, 0 for none
};

/// Differentiable in q, k and v. q: (T, H, D), k and v: (T, K, D) with H a multiple of K, any
/// strides with D contiguous; `segments` cover [0, T). Returns (T, H, D), contiguous, in q's type.
/// Error on shapes that do not fit, and on the CPU on second derivatives.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const SegmentTable& segments, const AttentionOptions& options);

namespace reference {
/// The same in plain torch operations by query blocks, differentiated by autograd. Any device and
/// floating type.
at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const SegmentTable& segments, const AttentionOptions& options);
}  // namespace reference

}  // namespace rlhf
