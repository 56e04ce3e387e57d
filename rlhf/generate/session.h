// One sequence that goes on: a conversation. Keys and values stay between calls, so a prompt that
// begins as the last sequence did computes only what is new.
//
// The first tokens of a sequence go through packed attention, as in the engine; tokens behind cached
// ones are queries of one decode pass against the cache. The same prompt gives the same completion
// as Engine::generate() with the same options, up to rounding of fp32 sums in another order.
#pragma once

#include <cstdint>
#include <vector>

#include "rlhf/generate/engine.h"
#include "rlhf/generate/interrupted.h"
#include "rlhf/generate/kv_cache.h"

namespace rlhf {

/// What the last call did.
struct SessionStats {
  int64_t reused_tokens = 0;  ///< of the prompt, whose keys were there
  int64_t prefilled_tokens = 0;
};

class Session {
 public:
  /// `capacity`: most tokens of a prompt and its completion together; their cache is reserved here,
  /// and takes memory on the CPU as it is used. Keeps a reference: the weights must not change.
  Session(const Decoder& decoder, int64_t capacity);

  /// One completion (`options.num_generations` is not read) of sample 0 of the prompt. UserError on
  /// options out of range, a prompt without tokens or with ids outside the vocabulary, and where
  /// prompt and max_new_tokens exceed the capacity. An exception (also Interrupted, and what a
  /// callback throws) leaves the session usable.
  Completion generate(const Prompt& prompt, const SamplingOptions& options,
                      const GenerateCallbacks& callbacks = {});

  int64_t capacity() const { return capacity_; }
  const SessionStats& stats() const { return stats_; }

 private:
  void check_request(const Prompt& prompt, const SamplingOptions& options) const;
  int64_t keep_common(const Prompt& prompt, int64_t longest);
  /// The last hidden row (1, C) of `ids`, which follow what is cached.
  at::Tensor append(std::span<const int32_t> ids);

  const Decoder& decoder_;
  int64_t capacity_;
  KvCache cache_;
  BlockList blocks_;
  std::vector<int32_t> ids_;  // whose keys and values the cache holds
  int64_t longest_ = 0;       // prompt and new tokens of the call that made them
  SessionStats stats_;
};

}  // namespace rlhf
