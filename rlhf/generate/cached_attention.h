// Attention backends over a KvCache: one that fills it from packed prompts, one that answers one
// query a sequence.
//
// Decode, for the token at position p of a sequence whose cache holds prompt tokens 0..P−1 and
// answer tokens P..p,
//
//   z_j = softcap(scale · q·k_j),  o = Σ_{p − w < j <= p} softmax_j(z_j) v_j      (w the window,
//   all j without one)
//
// Two forms with one contract: a vector kernel over the blocks (float on the CPU), and plain torch
// on gathered keys: its oracle, and the form for other types and devices. In the kernel siblings
// are taken together, so that a block of a shared prompt is read from memory once for all of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "rlhf/core/segments.h"
#include "rlhf/generate/kv_cache.h"
#include "rlhf/nn/attention_backend.h"

namespace rlhf {

/// Where a token's key and value go.
struct CacheSlot {
  int32_t block;
  int32_t offset;  ///< in the block
};

/// Adds the slots of the list's tokens, in order.
void append_slots(const BlockList& list, std::vector<CacheSlot>& slots);

/// Stores each token's key and value at its slot. k, v: (T, K, D).
void store_tokens(const KvCache& cache, int64_t layer, const at::Tensor& k, const at::Tensor& v,
                  std::span<const CacheSlot> slots);

/// Packed prompts: packed_attention, and every key and value into the cache.
class PrefillAttention final : public AttentionBackend {
 public:
  /// `slots` (T) in token order.
  PrefillAttention(const KvCache& cache, const SegmentTable& segments, std::vector<CacheSlot> slots)
      : cache_(cache), segments_(segments), slots_(std::move(slots)) {}
  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionOptions& options) override;

 private:
  const KvCache& cache_;
  const SegmentTable& segments_;
  std::vector<CacheSlot> slots_;
};

/// What one query sees: a prompt, which siblings share, and an answer that ends with the query's own
/// token.
struct CachedSequence {
  BlockView prompt;
  BlockView answer;

  int64_t tokens() const { return prompt.tokens + answer.tokens; }
};

/// B queries, the last token of a sequence each. All keys are stored before any is asked for, so
/// sequences may be beginnings of one another: consecutive tokens behind a cached prompt. Siblings
/// should lie side by side.
class DecodeAttention final : public AttentionBackend {
 public:
  DecodeAttention(const KvCache& cache, std::vector<CachedSequence> sequences);
  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const AttentionOptions& options) override;

 private:
  const KvCache& cache_;
  std::vector<CachedSequence> sequences_;
  std::vector<CacheSlot> slots_;
};

/// q (B, H, D) against the cache of `layer`. Returns (B, H, D). Float on the CPU.
at::Tensor decode_attention(const KvCache& cache, int64_t layer, const at::Tensor& q,
                            std::span<const CachedSequence> sequences,
                            const AttentionOptions& options);

namespace reference {
/// The same in plain torch; any type and device.
at::Tensor decode_attention(const KvCache& cache, int64_t layer, const at::Tensor& q,
                            std::span<const CachedSequence> sequences,
                            const AttentionOptions& options);
}  // namespace reference

}  // namespace rlhf
