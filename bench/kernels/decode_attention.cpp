// One query a sequence over cached keys. Every call takes another layer's cache, as a model does:
// some 120 MB of them.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>

#include "bench/kernels/bench.h"
#include "rlhf/generate/cached_attention.h"

namespace rlhf::bench {
namespace {

// Sums of up to 1,100 products in two orders, 6e-8 each, add up like a walk.
constexpr double kTolerance = 1e-5;

struct Shape {
  const char* name;
  int64_t rows;     // B
  int64_t prompts;  // shared by rows / prompts answers each
  int64_t prompt_tokens, answer_tokens;

  /// Tokens whose keys and values are read, each once.
  int64_t cached() const { return prompts * prompt_tokens + rows * answer_tokens; }
  /// Layers that make up 120 MB.
  int64_t layers() const { return 80'000 / cached() + 1; }
};

class Cache {
 public:
  explicit Cache(const Shape& shape)
      : q_(at::randn({shape.rows, kHeads, kHeadDim})),
        layers_(shape.layers()),
        cache_(config(layers_), at::kFloat, at::kCPU,
               shape.prompts * blocks_for(shape.prompt_tokens) +
                   shape.rows * blocks_for(shape.answer_tokens)) {
    for (int64_t i = 0; i < shape.prompts; ++i) append(shape.prompt_tokens);
    for (int64_t i = 0; i < shape.rows; ++i) append(shape.answer_tokens);
    for (int64_t i = 0; i < shape.rows; ++i) {
      const auto prompt = static_cast<size_t>(i * shape.prompts / shape.rows);
      const auto answer = static_cast<size_t>(shape.prompts + i);
      sequences_.push_back({lists_[prompt].view(), lists_[answer].view()});
    }
  }

  Tensors attend(int64_t call, decltype(&decode_attention) form) const {
    return {form(cache_, call % layers_, q_, sequences_, {.scale = 0.125})};
  }

 private:
  static DecoderConfig config(int64_t layers) {
    DecoderConfig config;
    config.layers = layers;
    config.heads = kHeads;
    config.key_heads = kKeyHeads;
    config.head_dim = kHeadDim;
    return config;
  }

  void append(int64_t tokens) {
    lists_.emplace_back(cache_).grow(tokens);
    std::vector<CacheSlot> slots;
    append_slots(lists_.back(), slots);
    for (int64_t layer = 0; layer < layers_; ++layer) {
      store_tokens(cache_, layer, at::randn({tokens, kKeyHeads, kHeadDim}),
                   at::randn({tokens, kKeyHeads, kHeadDim}), slots);
    }
  }

  at::Tensor q_;  // (B, H, D)
  int64_t layers_;
  KvCache cache_;
  std::vector<BlockList> lists_;
  std::vector<CachedSequence> sequences_;
};

}  // namespace

void add_decode_attention() {
  for (const Shape& shape : {Shape{"lone1000", 1, 1, 900, 100}, Shape{"own200x16", 16, 16, 150, 50},
                             Shape{"shared1000x16", 16, 1, 1000, 100}}) {
    add({fmt::format("decode_attention/{}", shape.name),
         floats_moved(static_cast<double>(2 * shape.cached() * kKeyHeads * kHeadDim)), kTolerance,
         [shape]() -> Pair {
           const auto cache = std::make_shared<const Cache>(shape);
           const auto calls = [cache](decltype(&decode_attention) form) {
             return [=, call = int64_t{0}]() mutable { return cache->attend(call++, form); };
           };
           return {calls(&decode_attention), calls(&reference::decode_attention)};
         }});
  }
}

}  // namespace rlhf::bench
