#include "rlhf/generate/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

// The order of these matters.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "rlhf/generate/row_kernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "hwy/contrib/math/math-inl.h"
#include "rlhf/kernels/lanes-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace rlhf::simd {
namespace HWY_NAMESPACE {

constexpr float kLowest = -87.0f;  // e^-87 is the last normal float
constexpr int64_t kSumBlock = 1024;

float row_max(const float* HWY_RESTRICT z, int64_t n) {
  const hn::ScalableTag<float> wide;
  auto top = hn::Set(wide, -std::numeric_limits<float>::infinity());
  auto odd = hn::IsNaN(top);
  float rest = -std::numeric_limits<float>::infinity();
  bool nan = false;
  for_lanes<float>(n, [&](auto d, int64_t i) HWY_ATTR {
    if constexpr (std::is_same_v<decltype(d), hn::ScalableTag<float>>) {
      const auto x = hn::LoadU(d, z + i);
      odd = hn::Or(odd, hn::IsNaN(x));
      top = hn::Max(top, x);
    } else {
      nan = nan || std::isnan(z[i]);
      rest = std::max(rest, z[i]);
    }
  });
  if (nan || !hn::AllFalse(wide, odd)) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  return std::max(rest, hn::GetLane(hn::MaxOfLanes(wide, top)));
}

double row_weights(const float* HWY_RESTRICT z, int64_t n, float max, float* HWY_RESTRICT weights) {
  double total = 0.0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    Sum<float> sum;
    for_lanes<float>(std::min(kSumBlock, n - begin), [&](auto d, int64_t i) HWY_ATTR {
      const auto x = hn::Sub(hn::LoadU(d, z + begin + i), hn::Set(d, max));
      const auto weight = hn::Exp(d, hn::Max(x, hn::Set(d, kLowest)));
      hn::StoreU(weight, d, weights + begin + i);
      sum.add(d, weight);
    });
    total += sum.value();
  }
  return total;
}

using BlockTag = hn::CappedTag<float, kBlockTokens>;
constexpr int64_t kBlockLanes = static_cast<int64_t>(hn::MaxLanes(BlockTag()));

// Queries that meet a block together: their sums and what they are made of fit 16 registers.
constexpr int kQueries = 3;

/// The same row of numbers for each of some queries.
struct BlockRows {
  HWY_ALIGN float of[kQueries][kBlockTokens];
};

/// One block of one key head: keys (D, kBlockTokens), values (kBlockTokens, D), of which the first
/// `tokens` are written.
struct Block {
  const float* keys;
  const float* values;
  int64_t head_dim;
  int64_t tokens;
};

/// Asks for the c-th part of the next block's keys and values: blocks lie anywhere, and each is too
/// short for the processor to see the rest coming. Between products, not all at once: the requests
/// that a core can have outstanding are also those of the block at hand.
HWY_INLINE void ask_for(const Block& next, int64_t c) {
  static_assert(kBlockTokens * sizeof(float) == 64, "a line of the cache");
  __builtin_prefetch(next.keys + c * kBlockTokens, /*rw=*/0, /*locality=*/2);
  __builtin_prefetch(next.values + c * kBlockTokens, /*rw=*/0, /*locality=*/2);
}

/// scores[q][t] = q · key t · scale of kCount queries and kVectors vectors of tokens from `t`; two
/// chains each, over even and odd elements. `next` is asked for meanwhile.
template <int kCount, int kVectors>
HWY_INLINE void block_products(const Block& block, const Block& next,
                               const QueryState* HWY_RESTRICT states, int64_t t, float scale,
                               BlockRows& scores) {
  const BlockTag d;
  using V = hn::Vec<BlockTag>;
  V even[kCount][kVectors];
  V odd[kCount][kVectors];
  for (int q = 0; q < kCount; ++q) {
    for (int v = 0; v < kVectors; ++v) even[q][v] = odd[q][v] = hn::Zero(d);
  }
  const auto step = [&](int64_t c, V(&sums)[kCount][kVectors]) HWY_ATTR {
    V keys[kVectors];
    ask_for(next, c);
    for (int v = 0; v < kVectors; ++v)
      keys[v] = hn::LoadU(d, block.keys + c * kBlockTokens + t + v * kBlockLanes);
    for (int q = 0; q < kCount; ++q) {
      const V own = hn::Set(d, states[q].q[c]);
      for (int v = 0; v < kVectors; ++v) sums[q][v] = hn::MulAdd(own, keys[v], sums[q][v]);
    }
  };
  int64_t c = 0;
  for (; c + 2 <= block.head_dim; c += 2) {
    step(c, even);
    step(c + 1, odd);
  }
  if (c < block.head_dim) step(c, even);
  for (int q = 0; q < kCount; ++q) {
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(hn::Mul(hn::Add(even[q][v], odd[q][v]), hn::Set(d, scale)), d,
                scores.of[q] + t + v * kBlockLanes);
    }
  }
}

/// Caps scores[t], and sets those outside [begin, end) to −∞. Returns the largest.
HWY_INLINE float mask_scores(float softcap, int64_t begin, int64_t end,
                             float* HWY_RESTRICT scores) {
  const BlockTag d;
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  const auto first = hn::Set(d, static_cast<float>(begin));
  const auto last = hn::Set(d, static_cast<float>(end));
  auto top = lowest;
  for (int64_t t = 0; t < kBlockTokens; t += kBlockLanes) {
    auto score = hn::Load(d, scores + t);
    if (softcap > 0.0f) {
      const auto cap = hn::Set(d, softcap);
      score = hn::Mul(cap, hn::Tanh(d, hn::Div(score, cap)));
    }
    // Tokens not written yet hold anything, NaN too: they are replaced, not multiplied by 0.
    const auto at = hn::Iota(d, static_cast<float>(t));
    score = hn::IfThenElse(hn::And(hn::Ge(at, first), hn::Lt(at, last)), score, lowest);
    top = hn::Max(top, score);
    hn::Store(score, d, scores + t);
  }
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

/// scores[t] := exp(scores[t] − max), 0 for −∞. Returns their sum.
HWY_INLINE float block_weights(float max, float* HWY_RESTRICT scores) {
  const BlockTag d;
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  auto sum = hn::Zero(d);
  for (int64_t t = 0; t < kBlockTokens; t += kBlockLanes) {
    const auto score = hn::Load(d, scores + t);
    const auto x = hn::Max(hn::Sub(score, hn::Set(d, max)), hn::Set(d, kLowest));
    const auto weight = hn::IfThenElseZero(hn::Gt(score, lowest), hn::Exp(d, x));
    sum = hn::Add(sum, weight);
    hn::Store(weight, d, scores + t);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// acc[c] = acc[c] · shrink + Σ_t weight_t value_t[c] of kCount queries and kVectors vectors of
/// columns from `c`; two chains each, over even and odd tokens.
template <int kCount, int kVectors, class D>
HWY_INLINE void add_values(D d, const Block& block, const BlockRows& weights,
                           const float* HWY_RESTRICT shrink, int64_t c, QueryState* states) {
  using V = hn::Vec<D>;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  V even[kCount][kVectors];
  V odd[kCount][kVectors];
  for (int q = 0; q < kCount; ++q) {
    for (int v = 0; v < kVectors; ++v) {
      even[q][v] = hn::Mul(hn::LoadU(d, states[q].acc + c + v * lanes), hn::Set(d, shrink[q]));
      odd[q][v] = hn::Zero(d);
    }
  }
  const auto step = [&](int64_t t, V(&sums)[kCount][kVectors]) HWY_ATTR {
    V values[kVectors];
    for (int v = 0; v < kVectors; ++v)
      values[v] = hn::LoadU(d, block.values + t * block.head_dim + c + v * lanes);
    for (int q = 0; q < kCount; ++q) {
      const V weight = hn::Set(d, weights.of[q][t]);
      for (int v = 0; v < kVectors; ++v) sums[q][v] = hn::MulAdd(weight, values[v], sums[q][v]);
    }
  };
  int64_t t = 0;
  for (; t + 2 <= block.tokens; t += 2) {
    step(t, even);
    step(t + 1, odd);
  }
  if (t < block.tokens) step(t, even);
  for (int q = 0; q < kCount; ++q) {
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(hn::Add(even[q][v], odd[q][v]), d, states[q].acc + c + v * lanes);
  }
}

/// Takes block number `b` of a run into kCount queries, and asks for the next one.
template <int kCount>
void meet_block(const Block& block, const Block& next, int64_t b, const ScoreTransform& transform,
                QueryState* states) {
  constexpr int kTogether = kBlockTokens > kBlockLanes ? 2 : 1;
  BlockRows rows;
  float shrink[kCount];
  for (int64_t t = 0; t < kBlockTokens; t += kTogether * kBlockLanes)
    block_products<kCount, kTogether>(block, next, states, t, transform.scale, rows);
  for (int q = 0; q < kCount; ++q) {
    QueryState& state = states[q];
    const float top =
        mask_scores(transform.softcap, state.first - b * kBlockTokens, block.tokens, rows.of[q]);
    shrink[q] = 1.0f;
    if (top > state.max) {
      shrink[q] = std::exp(std::max(state.max - top, kLowest));
      state.max = top;
    }
    state.sum = state.sum * shrink[q] + block_weights(state.max, rows.of[q]);
  }
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t c = 0;
  for (; c + 2 * lanes <= block.head_dim; c += 2 * lanes)
    add_values<kCount, 2>(d, block, rows, shrink, c, states);
  for (; c + lanes <= block.head_dim; c += lanes)
    add_values<kCount, 1>(d, block, rows, shrink, c, states);
  for (; c < block.head_dim; ++c)
    add_values<kCount, 1>(hn::CappedTag<float, 1>(), block, rows, shrink, c, states);
}

void attend_run(const BlockCache& cache, int64_t head, const BlockRun& run, int32_t then,
                const ScoreTransform& transform, std::span<QueryState> states) {
  const int64_t size = cache.head_dim * kBlockTokens;
  const auto block_at = [&](int32_t number, int64_t b) {
    const int64_t at = (number * cache.key_heads + head) * size;
    return Block{cache.keys + at, cache.values + at, cache.head_dim,
                 std::min(run.tokens - b * kBlockTokens, kBlockTokens)};
  };
  int64_t first = run.tokens;
  for (const auto& state : states) first = std::min(first, state.first);
  for (int64_t b = first / kBlockTokens; b * kBlockTokens < run.tokens; ++b) {
    const Block block = block_at(run.blocks[b], b);
    const bool last = (b + 1) * kBlockTokens >= run.tokens;
    const Block next = block_at(last ? then : run.blocks[b + 1], b + 1);
    size_t i = 0;
    for (; i + kQueries <= states.size(); i += kQueries)
      meet_block<kQueries>(block, next, b, transform, states.data() + i);
    for (; i < states.size(); ++i) meet_block<1>(block, next, b, transform, states.data() + i);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace rlhf::simd {
HWY_EXPORT(row_max);
HWY_EXPORT(row_weights);
HWY_EXPORT(attend_run);

float row_max(const float* z, int64_t n) { return HWY_DYNAMIC_DISPATCH(row_max)(z, n); }
double row_weights(const float* z, int64_t n, float max, float* weights) {
  return HWY_DYNAMIC_DISPATCH(row_weights)(z, n, max, weights);
}
void attend_run(const BlockCache& cache, int64_t head, const BlockRun& run, int32_t then,
                const ScoreTransform& transform, std::span<QueryState> states) {
  HWY_DYNAMIC_DISPATCH(attend_run)(cache, head, run, then, transform, states);
}

}  // namespace rlhf::simd
#endif  // HWY_ONCE
