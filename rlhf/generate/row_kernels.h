// Vector passes over one row of logits, and attention of one query over blocks of a cache. Raw
// floats, no tensor: the callers (sampler.h, cached_attention.h) know what the numbers mean.
#pragma once

#include <cstdint>

namespace rlhf::simd {

/// The largest of z[0, n); NaN where one is among them.
float row_max(const float* z, int64_t n);

/// weights[i] = e^(z[i] − max), arguments clamped at −87. Returns their sum, blocks added up in
/// double.
double row_weights(const float* z, int64_t n, float max, float* weights);

/// Tokens in a block of the cache. The scores of one block are one vector of AVX-512, two of AVX2.
constexpr int64_t kBlockTokens = 16;

/// The keys and values one query head sees in a run of blocks of one key head.
struct BlockRun {
  const int32_t* blocks;  ///< block numbers, in order of position
  int64_t begin;          ///< first visible token of the run, counted from the run's first block
  int64_t end;            ///< one past the last
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
};

/// Takes the tokens [run.begin, run.end) of key head `head` into `state`. Blocks are met in order,
/// whatever else is computed beside: a query's result does not depend on its neighbours.
void attend_run(const BlockCache& cache, int64_t head, const BlockRun& run,
                const ScoreTransform& transform, QueryState& state);

}  // namespace rlhf::simd
