// Who answers a layer's queries: the packed batch itself (training, scoring) or a cache of keys
// (generation). A decoder is written once against this.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <utility>

#include "rlhf/kernels/attention.h"

namespace rlhf {

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;

  /// q (T, H, D), k and v (T, K, D) of this pass's tokens in layer `layer`, rotated already.
  /// Returns (T, H, D). A cache stores k and v before it answers.
  virtual at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const AttentionOptions& options) = 0;

  /// A copy that answers the same questions again in a backward, after the original is gone. Null
  /// where asking has an effect, as with a cache: such a pass cannot be recomputed.
  virtual std::shared_ptr<AttentionBackend> replay() const { return nullptr; }
};

/// Attention among the tokens of one packed batch.
class PackedAttention final : public AttentionBackend {
 public:
  explicit PackedAttention(SegmentTable segments) : segments_(std::move(segments)) {}

  at::Tensor attend(int64_t /*layer*/, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v, const AttentionOptions& options) override {
    return packed_attention(q, k, v, segments_, options);
  }

  std::shared_ptr<AttentionBackend> replay() const override {
    return std::make_shared<PackedAttention>(segments_);
  }

 private:
  SegmentTable segments_;
};

}  // namespace rlhf
