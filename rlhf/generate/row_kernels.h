// Vector passes over one row of logits, and attention of one query over blocks of a cache. Raw
// floats, no tensor: the callers (sampler.h, cached_attention.h) know what the numbers mean.
#pragma once

#include <cstdint>
#include <span>

namespace rlhf::simd {

/// The largest of z[0, n); NaN where one is among them.
float row_max(const float* z, int64_t n);

/// weights[i] = e^(z[i] − max), arguments clamped at −87. Returns their sum, blocks added up in
/// double.
double row_weights(const float* z, int64_t n, float max, float* weights);

/// Tokens in a block of the cache. The scores of one block are one vector of AVX-512, two of AVX2.
constexpr int64_t kBlockTokens = 16;

/// Tokens that lie in a run of blocks.
struct BlockRun {
  const int32_t* blocks;  ///< block numbers, in order of position
  int64_t tokens;
};

/// One layer's cache: keys[block][K][D][kBlockTokens], values[block][K][kBlockTokens][D]. Keys lie
/// with tokens side by side, so that a block's scores need no sum across a vector.
struct BlockCache {
  const float* keys;
  const float* values;
  int64_t key_heads;
  int64_t head_dim;
};

struct ScoreTransform {
  float scale;
  float softcap;  ///< 0 for none
};

/// Running softmax of one query: acc[0, D) = Σ e^(z − max) v, sum = Σ e^(z − max).
struct QueryState {
  const float* q;
  float* acc;
  float max;
  float sum;
  int64_t first;  ///< the first token of the run that it sees
};

/// Takes the tokens of key head `head` that each of `states` sees into it. A block is read once for
/// all of them. Blocks are met in order, and a query's sums have one order whatever is computed
/// beside: its result does not depend on its neighbours. `then` is the block that is met after this
/// run: a hint, of any block of the cache.
void attend_run(const BlockCache& cache, int64_t head, const BlockRun& run, int32_t then,
                const ScoreTransform& transform, std::span<QueryState> states);

}  // namespace rlhf::simd
