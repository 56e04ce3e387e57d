// Keys and values of running sequences, in blocks of kBlockTokens tokens.
//
// A sequence is a prompt and an answer, each with its own list of blocks: the prompt's list is
// shared by all its samples (std::shared_ptr counts them), an answer's belongs to one. No block is
// ever copied; at most one block a list is partly empty. Blocks go back to the pool when the last
// owner goes (Kwon et al., PagedAttention, arXiv 2309.06180, for the idea).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "rlhf/generate/row_kernels.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

/// Blocks that hold `tokens` tokens.
constexpr int64_t blocks_for(int64_t tokens) {
  return (tokens + simd::kBlockTokens - 1) / simd::kBlockTokens;
}

/// Storage of all layers and the list of free blocks. Must outlive its BlockLists. One thread at a
/// time.
class KvCache {
 public:
  KvCache(const DecoderConfig& config, at::ScalarType dtype, at::Device device, int64_t blocks);

  /// Bytes of one block over all layers, keys and values.
  static int64_t block_bytes(const DecoderConfig& config, at::ScalarType dtype);

  int64_t blocks() const { return blocks_; }
  int64_t free_blocks() const { return static_cast<int64_t>(free_.size()); }

  /// (blocks, K, D, kBlockTokens) and (blocks, K, kBlockTokens, D).
  const at::Tensor& keys(int64_t layer) const { return keys_[static_cast<size_t>(layer)]; }
  const at::Tensor& values(int64_t layer) const { return values_[static_cast<size_t>(layer)]; }

  /// A free block. Error where there is none: whoever admits sequences reserves their blocks first.
  int32_t take();
  void give_back(int32_t block) { free_.push_back(block); }

 private:
  int64_t blocks_;
  std::vector<at::Tensor> keys_;
  std::vector<at::Tensor> values_;
  std::vector<int32_t> free_;
};

/// The first `tokens` tokens of a run of blocks, which lie elsewhere.
struct BlockView {
  const int32_t* blocks = nullptr;
  int64_t tokens = 0;
};

/// Blocks of one run of tokens; they return to the pool with it.
class BlockList {
 public:
  explicit BlockList(KvCache& cache) : cache_(&cache) {}
  ~BlockList();
  BlockList(BlockList&& other) noexcept;
  BlockList& operator=(BlockList&& other) noexcept;

  /// Makes room for `count` more tokens.
  void grow(int64_t count);
  /// Forgets all but the first `tokens` tokens.
  void shrink(int64_t tokens);
  int64_t tokens() const { return tokens_; }
  const std::vector<int32_t>& blocks() const { return blocks_; }
  /// Valid until the list grows or shrinks.
  BlockView view() const { return {blocks_.data(), tokens_}; }

 private:
  KvCache* cache_;
  int64_t tokens_ = 0;
  std::vector<int32_t> blocks_;
};

}  // namespace rlhf
