#include "rlhf/generate/session.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "rlhf/generate/cached_attention.h"
#include "rlhf/generate/growing_completion.h"
#include "rlhf/kernels/thin_product.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {
namespace {

/// Tokens of one pass over a prompt: between passes a stop is heard.
constexpr int64_t kPassTokens = 512;

/// The tokens `begin` to `end` of the sequence as queries, each with what is before it. What lies in
/// whole blocks before `begin` is the prompt that they share.
std::vector<CachedSequence> queries(const BlockList& list, int64_t begin, int64_t end) {
  const int64_t shared = begin / simd::kBlockTokens;
  const BlockView prompt{list.blocks().data(), shared * simd::kBlockTokens};
  std::vector<CachedSequence> out;
  for (int64_t t = begin; t < end; ++t) {
    out.push_back({prompt, {list.blocks().data() + shared, t + 1 - prompt.tokens}});
  }
  return out;
}

}  // namespace

Session::Session(const Decoder& decoder, int64_t capacity)
    : decoder_(decoder),
      capacity_(capacity),
      cache_(decoder.config(), decoder.dtype(), decoder.device(), blocks_for(capacity)),
      blocks_(cache_) {
  check(capacity >= 1, "session", "expected room for at least one token, got {}", capacity);
}

void Session::check_request(const Prompt& prompt, const SamplingOptions& options) const {
  const std::string where = prompt.where.empty() ? "session" : prompt.where;
  Problems problems;
  options.check("session", problems);
  check_prompt_ids(prompt, where, decoder_.config(), problems);
  if (std::ssize(prompt.ids) + options.max_new_tokens > capacity_) {
    problems.add(where,
                 fmt::format("room for {} prompt tokens and {} new ones was expected, there is "
                             "room for {}.",
                             prompt.ids.size(), options.max_new_tokens, capacity_),
                 "lower max_new_tokens or shorten the prompt");
  }
  problems.throw_if_any();
}

/// Forgets all but the longest beginning of the cached sequence that the prompt has, too, and leaves
/// the prompt one token to compute. Returns its tokens.
int64_t Session::keep_common(const Prompt& prompt, int64_t longest) {
  const auto at = std::mismatch(ids_.begin(), ids_.end(), prompt.ids.begin(), prompt.ids.end());
  int64_t same = std::min<int64_t>(at.first - ids_.begin(), std::ssize(prompt.ids) - 1);
  // Beyond the limit the angles of keys depend on how long the sequence was when they were made.
  if (std::max(longest, longest_) > decoder_.config().shared_prefix_limit()) same = 0;
  longest_ = longest;
  ids_.resize(static_cast<size_t>(same));
  blocks_.shrink(same);
  return same;
}

at::Tensor Session::append(std::span<const int32_t> ids) {
  const int64_t begin = std::ssize(ids_);
  const int64_t end = begin + std::ssize(ids);
  blocks_.shrink(begin);  // what an exception has left
  blocks_.grow(end - begin);
  std::vector<int64_t> positions(ids.size());
  std::iota(positions.begin(), positions.end(), begin);
  const at::Tensor tokens =
      at::tensor(std::vector<int64_t>(ids.begin(), ids.end()), at::kLong).to(decoder_.device());
  const at::Tensor places = at::tensor(positions, at::kLong).to(decoder_.device());
  const at::Tensor last = at::tensor({end - begin - 1}, at::kLong).to(decoder_.device());
  at::Tensor hidden;
  if (begin == 0) {
    const SegmentTable segments = {{.begin = 0, .length = end}};
    std::vector<CacheSlot> slots;
    append_slots(blocks_, slots);
    PrefillAttention attention(cache_, segments, std::move(slots));
    hidden = decoder_.forward(tokens, places, attention, last);
  } else {
    DecodeAttention attention(cache_, queries(blocks_, begin, end));
    hidden = decoder_.forward(tokens, places, attention, last);
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  return hidden;
}

Completion Session::generate(const Prompt& prompt, const SamplingOptions& options,
                             const GenerateCallbacks& callbacks) {
  check_request(prompt, options);
  const c10::InferenceMode inference;  // as in Engine
  const ThinProductScope thin;
  const int64_t tokens = std::ssize(prompt.ids);
  stats_ = {.reused_tokens = keep_common(prompt, tokens + options.max_new_tokens)};
  // Beyond the limit a pass makes the angles of its own length: the prompt is one pass then.
  const int64_t pass = tokens > decoder_.config().shared_prefix_limit() ? tokens : kPassTokens;
  at::Tensor hidden;
  for (int64_t begin = stats_.reused_tokens; begin < tokens; begin += pass) {
    if (callbacks.should_stop && callbacks.should_stop()) throw Interrupted();
    const int64_t count = std::min(pass, tokens - begin);
    hidden = append(
        std::span(prompt.ids).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)));
    stats_.prefilled_tokens += count;
  }
  Sampler sampler;
  GrowingCompletion growing(prompt, /*sample=*/0, options);
  std::function<bool(std::span<const int32_t>)> on_token;
  if (callbacks.on_token) {
    on_token = [&](std::span<const int32_t> ids) {
      return callbacks.on_token({.prompt = 0, .sample = 0, .ids = ids});
    };
  }
  while (true) {
    at::Tensor logits =
        reference::logits(hidden, decoder_.head()).to(at::kCPU, at::kFloat).contiguous();
    const std::span row(logits.mutable_data_ptr<float>(), static_cast<size_t>(logits.size(1)));
    growing.accept(growing.choose(sampler, row), on_token);
    if (growing.done()) break;
    if (callbacks.should_stop && callbacks.should_stop()) throw Interrupted();
    hidden = append(std::span(&growing.ids().back(), 1));
  }
  Completion completion = growing.take();
  if (callbacks.on_finished) callbacks.on_finished(0, 0, completion);
  return completion;
}

}  // namespace rlhf
