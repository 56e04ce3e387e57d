#include "rlhf/generate/score.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/nn/attention_backend.h"

namespace rlhf {

std::vector<std::vector<float>> score_rows(const Decoder& decoder, std::span<const PackRow> rows,
                                           const ScoreOptions& options) {
  check(options.temperature > 0.0, "score", "expected a temperature above 0, got {}",
        options.temperature);
  const at::NoGradGuard no_grad;
  std::vector<int64_t> lengths;
  for (const PackRow& row : rows) {
    check(!row.ids.empty() && row.ids.size() == row.supervised.size(), "score",
          "expected as many marks as tokens, got {} and {}", row.supervised.size(), row.ids.size());
    for (const int32_t id : row.ids) {
      check(id >= 0 && id < decoder.config().vocab_size, "score",
            "expected ids below the vocabulary's {}, got {}", decoder.config().vocab_size, id);
    }
    lengths.push_back(static_cast<int64_t>(row.ids.size()));
  }
  std::vector<std::vector<float>> scores(rows.size());
  const std::vector<int64_t> cuts = cut_by_tokens(lengths, options.max_tokens);
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    const auto first = static_cast<size_t>(cuts[cut]);
    const PackedBatch batch =
        pack_rows(rows.subspan(first, static_cast<size_t>(cuts[cut + 1]) - first));
    if (batch.scored() == 0) {
      continue;
    }
    PackedAttention attention(batch.segments);
    const torch::Tensor hidden =
        decoder.forward(batch.ids.to(decoder.device()), batch.positions.to(decoder.device()),
                        attention, batch.rows.to(decoder.device()));
    LogprobOptions head;
    head.temperature = options.temperature;
    const torch::Tensor logprobs =
        linear_logprobs(hidden, decoder.head(), batch.targets.to(decoder.device()), head)
            .logprobs.to(at::kCPU, at::kFloat)
            .contiguous();
    const float* values = logprobs.const_data_ptr<float>();
    for (size_t row = 0; row + 1 < batch.row_begin.size(); ++row) {
      scores[first + row].assign(values + batch.row_begin[row], values + batch.row_begin[row + 1]);
    }
  }
  return scores;
}

}  // namespace rlhf
