#include "rlhf/models/packed_forward.h"

#include "rlhf/nn/attention_backend.h"

namespace rlhf {

at::Tensor packed_forward(const Decoder& decoder, const PackedBatch& batch, const at::Tensor& rows,
                          const ForwardOptions& options) {
  const auto device = decoder.device();
  PackedAttention attention(batch.segments);
  return decoder.forward(batch.ids.to(device), batch.positions.to(device), attention,
                         rows.defined() ? rows.to(device) : rows, options);
}

}  // namespace rlhf
