#include "rlhf/generate/cached_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace rlhf {
namespace {

using simd::kBlockTokens;

/// A run of sequences that share a prompt, small enough that several threads find work.
struct SiblingRun {
  int64_t begin;
  int64_t end;
};

bool same_prompt(const CachedSequence& a, const CachedSequence& b) {
  return a.prompt.blocks == b.prompt.blocks && a.prompt.tokens == b.prompt.tokens;
}

std::vector<SiblingRun> sibling_runs(std::span<const CachedSequence> sequences) {
  constexpr int64_t kLongest = 8;
  std::vector<SiblingRun> runs;
  for (int64_t i = 0; i < static_cast<int64_t>(sequences.size()); ++i) {
    if (!runs.empty() && i - runs.back().begin < kLongest &&
        same_prompt(sequences[static_cast<size_t>(runs.back().begin)],
                    sequences[static_cast<size_t>(i)])) {
      runs.back().end = i + 1;
    } else {
      runs.push_back({i, i + 1});
    }
  }
  return runs;
}

/// All of one key head's work for a run of siblings. q and out: (B, H, D) contiguous.
void attend_siblings(const simd::BlockCache& cache, std::span<const CachedSequence> sequences,
                     const SiblingRun& run, int64_t key_head, int64_t heads,
                     const AttentionOptions& options, const float* q, float* out) {
  const int64_t group = heads / cache.key_heads;
  const simd::ScoreTransform transform{static_cast<float>(options.scale),
                                       static_cast<float>(options.softcap)};
  const auto first_visible = [&](int64_t row) {
    const int64_t tokens = sequences[static_cast<size_t>(row)].tokens();
    return options.window > 0 ? std::max<int64_t>(0, tokens - options.window) : 0;
  };
  std::vector<simd::QueryState> states;
  states.reserve(static_cast<size_t>((run.end - run.begin) * group));
  for (int64_t row = run.begin; row < run.end; ++row) {
    for (int64_t h = key_head * group; h < (key_head + 1) * group; ++h) {
      const int64_t at = (row * heads + h) * cache.head_dim;
      std::fill_n(out + at, cache.head_dim, 0.0f);
      states.push_back(
          {q + at, out + at, -std::numeric_limits<float>::infinity(), 0.0f, first_visible(row)});
    }
  }
  const BlockView prompt = sequences[static_cast<size_t>(run.begin)].prompt;
  const auto first_of_answer = [&](int64_t row) {
    return sequences[static_cast<size_t>(std::min(row, run.end - 1))].answer.blocks[0];
  };
  simd::attend_run(cache, key_head, {prompt.blocks, prompt.tokens}, first_of_answer(run.begin),
                   transform, states);
  for (int64_t row = run.begin; row < run.end; ++row) {
    const BlockView answer = sequences[static_cast<size_t>(row)].answer;
    const auto own = std::span(states).subspan(static_cast<size_t>((row - run.begin) * group),
                                               static_cast<size_t>(group));
    for (auto& state : own) state.first = std::max<int64_t>(0, state.first - prompt.tokens);
    simd::attend_run(cache, key_head, {answer.blocks, answer.tokens}, first_of_answer(row + 1),
                     transform, own);
    for (auto& state : own) {
      for (int64_t c = 0; c < cache.head_dim; ++c) state.acc[c] /= state.sum;
    }
  }
}

/// Bytes of one element each; keys are laid across the block, values along it: every element of a
/// key is a line of memory of its own, so that few tokens are worth a thread.
template <class Element>
void store_on_cpu(const KvCache& cache, int64_t layer, const at::Tensor& k, const at::Tensor& v,
                  std::span<const CacheSlot> slots) {
  const int64_t heads = k.size(1);
  const int64_t width = k.size(2);
  const auto* from_k = static_cast<const Element*>(k.data_ptr());
  const auto* from_v = static_cast<const Element*>(v.data_ptr());
  auto* keys = static_cast<Element*>(cache.keys(layer).data_ptr());
  auto* values = static_cast<Element*>(cache.values(layer).data_ptr());
  at::parallel_for(
      0, static_cast<int64_t>(slots.size()), /*grain_size=*/4, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const auto [block, offset] = slots[static_cast<size_t>(t)];
          for (int64_t h = 0; h < heads; ++h) {
            const int64_t at = (block * heads + h) * width * kBlockTokens;
            const Element* key = from_k + t * k.stride(0) + h * k.stride(1);
            for (int64_t c = 0; c < width; ++c) {
              keys[at + c * kBlockTokens + offset] = key[c];
            }
            std::memcpy(values + at + offset * width, from_v + t * v.stride(0) + h * v.stride(1),
                        static_cast<size_t>(width) * sizeof(Element));
          }
        }
      });
}

at::Tensor to_index(std::span<const CacheSlot> slots, int32_t CacheSlot::*field,
                    at::Device device) {
  std::vector<int64_t> index;
  for (const CacheSlot& slot : slots) {
    index.push_back(slot.*field);
  }
  return at::tensor(index, at::kLong).to(device);
}

}  // namespace

void append_slots(const BlockList& list, std::vector<CacheSlot>& slots) {
  for (int64_t t = 0; t < list.tokens(); ++t) {
    slots.push_back({list.blocks()[static_cast<size_t>(t / kBlockTokens)],
                     static_cast<int32_t>(t % kBlockTokens)});
  }
}

void store_tokens(const KvCache& cache, int64_t layer, const at::Tensor& k, const at::Tensor& v,
                  std::span<const CacheSlot> slots) {
  check(k.dim() == 3 && k.sizes() == v.sizes() && k.size(0) == static_cast<int64_t>(slots.size()),
        "generate", "expected keys and values of {} tokens, got {} and {}", slots.size(),
        fmt::join(k.sizes(), "x"), fmt::join(v.sizes(), "x"));
  const at::Tensor& keys = cache.keys(layer);
  check(k.scalar_type() == keys.scalar_type(), "generate", "expected keys of type {}, got {}",
        c10::toString(keys.scalar_type()), c10::toString(k.scalar_type()));
  if (!k.is_cpu() || k.stride(2) != 1 || v.stride(2) != 1) {
    const auto blocks = to_index(slots, &CacheSlot::block, k.device());
    const auto offsets = to_index(slots, &CacheSlot::offset, k.device());
    using at::indexing::Slice;
    at::Tensor(keys).index_put_({blocks, Slice(), Slice(), offsets}, k);
    at::Tensor(cache.values(layer)).index_put_({blocks, Slice(), offsets}, v);
    return;
  }
  switch (k.element_size()) {
    case 2:
      return store_on_cpu<uint16_t>(cache, layer, k, v, slots);
    case 4:
      return store_on_cpu<uint32_t>(cache, layer, k, v, slots);
    case 8:
      return store_on_cpu<uint64_t>(cache, layer, k, v, slots);
    default:
      fail("generate",
           fmt::format("expected keys of 2, 4 or 8 bytes an element, got {}", k.element_size()));
  }
}

at::Tensor PrefillAttention::attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                                    const at::Tensor& v, const AttentionOptions& options) {
  store_tokens(cache_, layer, k, v, slots_);
  return packed_attention(q, k, v, segments_, options);
}

DecodeAttention::DecodeAttention(const KvCache& cache, std::vector<CachedSequence> sequences)
    : cache_(cache), sequences_(std::move(sequences)) {
  for (const CachedSequence& sequence : sequences_) {
    const int64_t last = sequence.answer.tokens - 1;
    slots_.push_back(
        {sequence.answer.blocks[last / kBlockTokens], static_cast<int32_t>(last % kBlockTokens)});
  }
}

at::Tensor DecodeAttention::attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                                   const at::Tensor& v, const AttentionOptions& options) {
  store_tokens(cache_, layer, k, v, slots_);
  const bool fused = q.is_cpu() && q.scalar_type() == at::kFloat;
  return fused ? decode_attention(cache_, layer, q, sequences_, options)
               : reference::decode_attention(cache_, layer, q, sequences_, options);
}

at::Tensor decode_attention(const KvCache& cache, int64_t layer, const at::Tensor& q,
                            std::span<const CachedSequence> sequences,
                            const AttentionOptions& options) {
  const at::Tensor queries = q.contiguous();
  at::Tensor out = at::empty_like(queries);
  const simd::BlockCache blocks{cache.keys(layer).const_data_ptr<float>(),
                                cache.values(layer).const_data_ptr<float>(),
                                cache.keys(layer).size(1), queries.size(2)};
  const std::vector<SiblingRun> runs = sibling_runs(sequences);
  const float* from = queries.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  const int64_t items = static_cast<int64_t>(runs.size()) * blocks.key_heads;
  at::parallel_for(0, items, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      attend_siblings(blocks, sequences, runs[static_cast<size_t>(item / blocks.key_heads)],
                      item % blocks.key_heads, queries.size(1), options, from, to);
    }
  });
  return out;
}

namespace reference {

at::Tensor decode_attention(const KvCache& cache, int64_t layer, const at::Tensor& q,
                            std::span<const CachedSequence> sequences,
                            const AttentionOptions& options) {
  const auto gathered = [&](const at::Tensor& stored, const BlockView& view, bool keys) {
    const auto blocks =
        at::tensor(at::ArrayRef(view.blocks, static_cast<size_t>(blocks_for(view.tokens))),
                   at::kInt)
            .to(stored.device(), at::kLong);
    const at::Tensor picked = stored.index_select(0, blocks);  // (n, K, D, 16) or (n, K, 16, D)
    const at::Tensor tokens = keys ? picked.permute({0, 3, 1, 2}) : picked.permute({0, 2, 1, 3});
    return tokens.reshape({-1, stored.size(1), q.size(2)})
        .narrow(0, 0, view.tokens);  // (tokens, K, D)
  };
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const CachedSequence& sequence = sequences[i];
    const int64_t first =
        options.window > 0 ? std::max<int64_t>(0, sequence.tokens() - options.window) : 0;
    const auto both = [&](const at::Tensor& stored, bool keys) {
      const at::Tensor all = at::cat(
          {gathered(stored, sequence.prompt, keys), gathered(stored, sequence.answer, keys)});
      return all.slice(0, first)
          .repeat_interleave(q.size(1) / stored.size(1), 1)
          .to(at::promote_types(q.scalar_type(), at::kFloat));
    };
    const at::Tensor keys = both(cache.keys(layer), /*keys=*/true);       // (tokens, H, D)
    const at::Tensor values = both(cache.values(layer), /*keys=*/false);  // (tokens, H, D)
    at::Tensor scores =
        at::einsum("hd,thd->ht", {q[static_cast<int64_t>(i)].to(keys.scalar_type()), keys}) *
        options.scale;
    if (options.softcap > 0.0) {
      scores = options.softcap * at::tanh(scores / options.softcap);
    }
    rows.push_back(at::einsum("ht,thd->hd", {scores.softmax(-1), values}).to(q.scalar_type()));
  }
  return at::stack(rows);
}

}  // namespace reference

}  // namespace rlhf
