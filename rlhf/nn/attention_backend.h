// Who answers a layer's queries: the packed batch itself (training, scoring) or a cache of keys (generation). A decoder is
// written once against this.
#pragma once

#include <torch/types.h>

#include "rlhf/kernels/attention.h"

namespace rlhf {

class AttentionBackend {
 public:
  virtual ~AttentionBackend() = default;

  /// q (T, H, D), k and v (T, K, D) of this pass's tokens in layer `layer`, rotated already. Returns (T, H, D). A cache
  /// stores k and v before it answers.
  virtual torch::Tensor attend(int64_t layer, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                               const AttentionOptions& options) = 0;
};

/// Attention among the tokens of one packed batch.
class PackedAttention final : public AttentionBackend {
 public:
  explicit PackedAttention(const SegmentTable& segments) : segments_(segments) {}
  torch::Tensor attend(int64_t /*layer*/, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                       const AttentionOptions& options) override {
    return packed_attention(q, k, v, segments_, options);
  }

 private:
  const SegmentTable& segments_;
};

}  // namespace rlhf
