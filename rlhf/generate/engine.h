// Continuous batching on the trainer's own weights: token ids in, token ids out.
//
//   1. Admit waiting samples, in order, while rows and cache blocks last. A sample's blocks are
//      counted for its longest possible answer when it is admitted, so a running row is never
//      stopped for want of memory.
//   2. Prefill the prompts of newly admitted samples, several in one packed pass, once for all
//      samples of a prompt; the first token of each sample comes from the prompt's last hidden row,
//      which waits with the prompt for later samples.
//   3. One forward pass over all running rows, a token each; choose, report, drop finished rows and
//      free their blocks.
//   4. Repeat until nobody waits or runs.
//
// Sample s of a prompt with key p draws one uniform number a token from the stream (seed,
// kRandomSampling, step, p, s): which rows share a batch, how large the cache is and how many
// threads run changes results by rounding at most.
//
// The decode step goes through the decoder's ordinary forward; its matrices meet few rows, which
// kernels/thin_product.h multiplies at the speed of memory, a row's bits the same in any company.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/generate/sampler.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

enum class FinishReason { stop, length };

std::string_view name(FinishReason reason);

/// One sampled answer.
struct Completion {
  std::vector<int32_t> ids;     ///< the stop token included
  std::vector<float> logprobs;  ///< of each id, full softmax at temperature T (1 where T = 0)
  std::vector<float>
      sampling_logprobs;  ///< under the kept set; empty where that is the full softmax, or T = 0
  FinishReason finish_reason = FinishReason::length;
};

struct Prompt {
  std::vector<int32_t> ids;  ///< at least one
  uint64_t key = 0;  ///< names the random streams: the row's number in the data, not in the batch
  std::string where = {};  ///< for messages, such as `prompts.jsonl:7`; empty: its index
};

/// A token just chosen.
struct TokenEvent {
  int64_t prompt;  ///< index into the prompts given
  int64_t sample;
  std::span<const int32_t> ids;  ///< of the completion so far, the new one last
};

/// Called from the thread that called generate(), in the order of prompts and samples within a
/// step; in inference mode, so that tensors made there take no part in gradients.
struct GenerateCallbacks {
  /// Streaming and stop strings: true ends the completion with this token (finish reason `stop`).
  std::function<bool(const TokenEvent&)> on_token;
  /// When a completion is done, while others run.
  std::function<void(int64_t prompt, int64_t sample, const Completion&)> on_finished;
  /// Asked before every pass: true breaks the draw off by an exception (interrupted.h).
  std::function<bool()> should_stop;
};

struct EngineOptions {
  int64_t cache_bytes = int64_t{2} << 30;  ///< most that keys and values may take
  int64_t max_rows = 128;                  ///< most rows that decode together
  int64_t prefill_tokens =
      4096;  ///< most tokens of one prefill pass; a longer prompt has one alone
};

/// What a call of generate() did.
struct GenerateStats {
  int64_t prefilled_tokens = 0;
  int64_t sampled_tokens = 0;
  int64_t decode_steps = 0;
  int64_t peak_rows = 0;
  int64_t peak_blocks = 0;    ///< of the cache, in use at once
  int64_t blocks_in_use = 0;  ///< at the end: 0
  int64_t cache_bytes = 0;    ///< allocated
};

/// Bytes of keys and values of one sample with its prompt; a request whose largest exceeds
/// EngineOptions::cache_bytes is an error.
int64_t cache_bytes_of_sample(const Decoder& decoder, int64_t prompt_tokens, int64_t new_tokens);

class Engine {
 public:
  /// Keeps a reference: the weights may change between calls of generate(), not during one.
  explicit Engine(const Decoder& decoder, EngineOptions options = {});

  /// completions[prompt][sample]. The cache lives for the call only. UserError with everything
  /// wrong: options out of range, empty prompts, ids outside the vocabulary, a sample that cannot
  /// fit the cache (by how many bytes), a row longer than learned positions reach.
  std::vector<std::vector<Completion>> generate(std::span<const Prompt> prompts,
                                                const SamplingOptions& options,
                                                const GenerateCallbacks& callbacks = {});

  const GenerateStats& stats() const { return stats_; }

 private:
  void check_request(std::span<const Prompt> prompts, const SamplingOptions& options);

  const Decoder& decoder_;
  EngineOptions options_;
  GenerateStats stats_;
  bool warned_of_context_ = false;  // once is enough, however many calls
};

}  // namespace rlhf
