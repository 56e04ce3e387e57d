#include "rlhf/generate/kv_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

namespace rlhf {

KvCache::KvCache(const DecoderConfig& config, at::ScalarType dtype, at::Device device,
                 int64_t blocks)
    : blocks_(blocks) {
  const int64_t heads = config.key_heads, channels = config.head_dim;
  const at::Tensor storage =
      at::empty({config.layers, 2, blocks * heads * channels * simd::kBlockTokens},
                at::TensorOptions().dtype(dtype).device(device));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    keys_.push_back(storage[layer][0].view({blocks, heads, channels, simd::kBlockTokens}));
    values_.push_back(storage[layer][1].view({blocks, heads, simd::kBlockTokens, channels}));
  }
  for (int64_t block = blocks - 1; block >= 0; --block) {
    free_.push_back(static_cast<int32_t>(block));
  }
}

int64_t KvCache::block_bytes(const DecoderConfig& config, at::ScalarType dtype) {
  return 2 * config.layers * config.key_heads * config.head_dim * simd::kBlockTokens *
         static_cast<int64_t>(c10::elementSize(dtype));
}

int32_t KvCache::take() {
  check(!free_.empty(), "generate", "expected a free block in the cache of {} blocks, got none",
        blocks_);
  const int32_t block = free_.back();
  free_.pop_back();
  return block;
}

BlockList::~BlockList() {
  for (const int32_t block : blocks_) {
    cache_->give_back(block);
  }
}

BlockList::BlockList(BlockList&& other) noexcept
    : cache_(other.cache_),
      tokens_(std::exchange(other.tokens_, 0)),
      blocks_(std::move(other.blocks_)) {
  other.blocks_.clear();
}

BlockList& BlockList::operator=(BlockList&& other) noexcept {
  std::swap(cache_, other.cache_);
  std::swap(tokens_, other.tokens_);
  std::swap(blocks_, other.blocks_);
  return *this;
}

void BlockList::grow(int64_t count) {
  tokens_ += count;
  while (static_cast<int64_t>(blocks_.size()) < blocks_for(tokens_)) {
    blocks_.push_back(cache_->take());
  }
}

void BlockList::shrink(int64_t tokens) {
  tokens_ = std::min(tokens_, tokens);
  while (static_cast<int64_t>(blocks_.size()) > blocks_for(tokens_)) {
    cache_->give_back(blocks_.back());
    blocks_.pop_back();
  }
}

}  // namespace rlhf
