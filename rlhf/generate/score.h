// Log-probabilities of given tokens: what `rlhf score` prints and rewards, references and checks of
// the sampler use.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "rlhf/models/decoder.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {

struct ScoreOptions {
  double temperature = 1.0;  ///< T > 0: log-softmax of z / T
  int64_t max_tokens =
      8192;  ///< of one forward pass; a longer row has one alone. Changes memory, not results
};

/// Per row, in order, the log-probability of each supervised token but the row's first, which
/// nothing predicts. Rows are packed without padding and cut by max_tokens. No gradients. Error
/// where an id is outside the vocabulary.
std::vector<std::vector<float>> score_rows(const Decoder& decoder, std::span<const PackRow> rows,
                                           const ScoreOptions& options = {});

}  // namespace rlhf
