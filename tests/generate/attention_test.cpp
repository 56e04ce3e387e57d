// The vector kernel over cache blocks against plain torch, and plain torch against
// packed_attention.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "rlhf/generate/cached_attention.h"

namespace rlhf {
namespace {

struct Shape {
  int64_t heads;
  int64_t key_heads;
  int64_t width;
  double softcap;
  int64_t window;
};

DecoderConfig config_of(const Shape& shape) {
  DecoderConfig config;
  config.layers = 1;
  config.heads = shape.heads;
  config.key_heads = shape.key_heads;
  config.head_dim = shape.width;
  return config;
}

/// Two prompts of 21 and 16 tokens; answers of 5, 17 and 1 tokens to the first, 40 to the second.
/// Every sequence's keys and values are kept beside, as packed rows.
struct Scene {
  explicit Scene(const Shape& shape, at::ScalarType dtype = at::kFloat)
      : cache(config_of(shape), dtype, at::kCPU, 16) {
    at::manual_seed(3);
    // What no token was written to must not matter.
    at::Tensor(cache.keys(0)).fill_(std::numeric_limits<float>::quiet_NaN());
    at::Tensor(cache.values(0)).fill_(std::numeric_limits<float>::quiet_NaN());
    const auto fill = [&](BlockList& list, int64_t tokens) {
      const at::Tensor k = at::randn({tokens, shape.key_heads, shape.width}).to(dtype);
      const at::Tensor v = at::randn({tokens, shape.key_heads, shape.width}).to(dtype);
      list.grow(tokens);
      std::vector<CacheSlot> slots;
      for (int64_t t = 0; t < tokens; ++t) {
        slots.push_back({list.blocks()[static_cast<size_t>(t / simd::kBlockTokens)],
                         static_cast<int32_t>(t % simd::kBlockTokens)});
      }
      store_tokens(cache, 0, k, v, slots);
      return std::pair(k, v);
    };
    lists.reserve(6);
    std::vector<std::pair<at::Tensor, at::Tensor>> stored;
    for (const int64_t tokens : {21, 16, 5, 17, 1, 40}) {
      lists.emplace_back(cache);
      stored.push_back(fill(lists.back(), tokens));
    }
    for (const auto& [prompt, answer] :
         {std::pair(0, 2), std::pair(0, 3), std::pair(0, 4), std::pair(1, 5)}) {
      sequences.push_back(
          {lists[static_cast<size_t>(prompt)].view(), lists[static_cast<size_t>(answer)].view()});
      keys.push_back(at::cat(
          {stored[static_cast<size_t>(prompt)].first, stored[static_cast<size_t>(answer)].first}));
      values.push_back(at::cat({stored[static_cast<size_t>(prompt)].second,
                                stored[static_cast<size_t>(answer)].second}));
    }
    q = at::randn({4, shape.heads, shape.width}).to(dtype);
    options = {.scale = 0.3, .window = shape.window, .softcap = shape.softcap};
  }

  KvCache cache;
  std::vector<BlockList> lists;
  std::vector<CachedSequence> sequences;
  std::vector<at::Tensor> keys;  // of each sequence, (tokens, K, D)
  std::vector<at::Tensor> values;
  at::Tensor q;
  AttentionOptions options;
};

class DecodeAttentionTest : public ::testing::TestWithParam<Shape> {};

TEST_P(DecodeAttentionTest, kernel_equals_plain_torch) {
  const Scene scene(GetParam());
  const at::Tensor fused =
      decode_attention(scene.cache, 0, scene.q, scene.sequences, scene.options);
  const at::Tensor plain =
      reference::decode_attention(scene.cache, 0, scene.q, scene.sequences, scene.options);
  EXPECT_LT((fused - plain).abs().max().item<float>(),
            2e-6);  // sums of 60 products of order 1 in fp32
}

TEST_P(DecodeAttentionTest, plain_torch_equals_the_last_row_of_packed_attention) {
  const Scene scene(GetParam());
  const at::Tensor plain =
      reference::decode_attention(scene.cache, 0, scene.q, scene.sequences, scene.options);
  for (size_t i = 0; i < scene.sequences.size(); ++i) {
    const int64_t tokens = scene.keys[i].size(0);
    at::Tensor q = at::randn({tokens, scene.q.size(1), scene.q.size(2)});
    q[tokens - 1].copy_(scene.q[static_cast<int64_t>(i)]);
    const at::Tensor packed = reference::packed_attention(
        q, scene.keys[i], scene.values[i], {{.begin = 0, .length = tokens}}, scene.options);
    EXPECT_LT((packed[tokens - 1] - plain[static_cast<int64_t>(i)]).abs().max().item<float>(),
              2e-6);
  }
}

TEST_P(DecodeAttentionTest, a_row_does_not_depend_on_its_neighbours) {
  const Scene scene(GetParam());
  const at::Tensor together =
      decode_attention(scene.cache, 0, scene.q, scene.sequences, scene.options);
  for (int64_t i = 0; i < 4; ++i) {
    const at::Tensor alone = decode_attention(
        scene.cache, 0, scene.q.narrow(0, i, 1),
        std::span(scene.sequences).subspan(static_cast<size_t>(i), 1), scene.options);
    EXPECT_TRUE(at::equal(alone[0], together[i])) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, DecodeAttentionTest,
                         ::testing::Values(Shape{4, 4, 64, 0, 0}, Shape{6, 2, 20, 0, 0},
                                           Shape{4, 1, 33, 2.0, 0}, Shape{6, 3, 16, 0, 8},
                                           Shape{2, 1, 64, 1.5, 24}, Shape{3, 3, 7, 0, 1}));

TEST(DecodeAttention, other_types_go_the_plain_way) {
  const Scene scene({4, 2, 16, 0, 0}, at::kBFloat16);
  const at::Tensor out =
      reference::decode_attention(scene.cache, 0, scene.q, scene.sequences, scene.options);
  EXPECT_EQ(out.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::isfinite(out).all().item<bool>());
}

TEST(KvCache, blocks_return_with_their_last_owner) {
  KvCache cache(config_of({2, 2, 4, 0, 0}), at::kFloat, at::kCPU, 4);
  EXPECT_EQ(KvCache::block_bytes(config_of({2, 2, 4, 0, 0}), at::kFloat), 2 * 2 * 4 * 16 * 4);
  {
    auto prompt = std::make_shared<BlockList>(cache);
    prompt->grow(17);
    const auto other = prompt;
    EXPECT_EQ(cache.free_blocks(), 2);
    prompt.reset();
    EXPECT_EQ(cache.free_blocks(), 2);
    BlockList answer(cache);
    answer.grow(1);
    answer.grow(15);
    EXPECT_EQ(cache.free_blocks(), 1);
    answer.grow(1);
    EXPECT_EQ(cache.free_blocks(), 0);
    EXPECT_THROW(answer.grow(16), Error);
  }
  EXPECT_EQ(cache.free_blocks(), 4);
}

}  // namespace
}  // namespace rlhf
