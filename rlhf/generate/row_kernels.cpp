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

/// scores[t] = transform(q · key t) for all tokens of a block; those outside [begin, end) are −∞.
/// Returns the largest.
HWY_INLINE float block_scores(const float* HWY_RESTRICT keys, const float* HWY_RESTRICT q,
                              int64_t head_dim, int64_t begin, int64_t end,
                              const ScoreTransform& transform, float* HWY_RESTRICT scores) {
  const BlockTag d;
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  const auto first = hn::Set(d, static_cast<float>(begin));
  const auto last = hn::Set(d, static_cast<float>(end));
  auto top = lowest;
  for (int64_t t = 0; t < kBlockTokens; t += static_cast<int64_t>(hn::Lanes(d))) {
    const auto term = [&](int64_t c, auto sum) HWY_ATTR {
      return hn::MulAdd(hn::Set(d, q[c]), hn::LoadU(d, keys + c * kBlockTokens + t), sum);
    };
    auto sum0 = hn::Zero(d);  // four chains: one alone waits for each of its own sums
    auto sum1 = hn::Zero(d);
    auto sum2 = hn::Zero(d);
    auto sum3 = hn::Zero(d);
    int64_t c = 0;
    for (; c + 4 <= head_dim; c += 4) {
      sum0 = term(c, sum0);
      sum1 = term(c + 1, sum1);
      sum2 = term(c + 2, sum2);
      sum3 = term(c + 3, sum3);
    }
    for (; c < head_dim; ++c) sum0 = term(c, sum0);
    auto score =
        hn::Mul(hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3)), hn::Set(d, transform.scale));
    if (transform.softcap > 0.0f) {
      const auto cap = hn::Set(d, transform.softcap);
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

/// weights[t] = exp(scores[t] − max), 0 for those outside the block's tokens. Returns their sum.
HWY_INLINE float block_weights(const float* HWY_RESTRICT scores, float max,
                               float* HWY_RESTRICT weights) {
  const BlockTag d;
  const auto lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  auto sum = hn::Zero(d);
  for (int64_t t = 0; t < kBlockTokens; t += static_cast<int64_t>(hn::Lanes(d))) {
    const auto score = hn::Load(d, scores + t);
    const auto x = hn::Max(hn::Sub(score, hn::Set(d, max)), hn::Set(d, kLowest));
    const auto weight = hn::IfThenElseZero(hn::Gt(score, lowest), hn::Exp(d, x));
    sum = hn::Add(sum, weight);
    hn::Store(weight, d, weights + t);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

void attend_run(const BlockCache& cache, int64_t head, const BlockRun& run,
                const ScoreTransform& transform, QueryState& state) {
  const int64_t block_size = cache.head_dim * kBlockTokens;
  HWY_ALIGN float scores[kBlockTokens];
  HWY_ALIGN float weights[kBlockTokens];
  for (int64_t b = run.begin / kBlockTokens; b * kBlockTokens < run.end; ++b) {
    const int64_t at = (run.blocks[b] * cache.key_heads + head) * block_size;
    const int64_t begin = std::max<int64_t>(run.begin - b * kBlockTokens, 0);
    const int64_t end = std::min(run.end - b * kBlockTokens, kBlockTokens);
    const float top =
        block_scores(cache.keys + at, state.q, cache.head_dim, begin, end, transform, scores);
    float shrink = 1.0f;
    if (top > state.max) {
      shrink = std::exp(std::max(state.max - top, kLowest));
      state.max = top;
    }
    state.sum = state.sum * shrink + block_weights(scores, state.max, weights);
    const float* HWY_RESTRICT values = cache.values + at;
    for_lanes<float>(cache.head_dim, [&](auto d, int64_t c) HWY_ATTR {
      const auto term = [&](int64_t t, auto sum) HWY_ATTR {
        return hn::MulAdd(hn::Set(d, weights[t]), hn::LoadU(d, values + t * cache.head_dim + c),
                          sum);
      };
      auto even = hn::Mul(hn::LoadU(d, state.acc + c), hn::Set(d, shrink));
      auto odd = hn::Zero(d);
      int64_t t = begin;
      for (; t + 2 <= end; t += 2) {
        even = term(t, even);
        odd = term(t + 1, odd);
      }
      if (t < end) even = term(t, even);
      hn::StoreU(hn::Add(even, odd), d, state.acc + c);
    });
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
void attend_run(const BlockCache& cache, int64_t head, const BlockRun& run,
                const ScoreTransform& transform, QueryState& state) {
  HWY_DYNAMIC_DISPATCH(attend_run)(cache, head, run, transform, state);
}

}  // namespace rlhf::simd
#endif  // HWY_ONCE
