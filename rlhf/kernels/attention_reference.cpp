#include "rlhf/kernels/attention_reference.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/kernels/attention_plan.h"

namespace rlhf {
namespace attention {
namespace {

constexpr const char* kWhere = "packed_attention";

std::string shape_text(const at::Tensor& x) {
  return fmt::format("({})", fmt::join(x.sizes().vec(), ", "));
}

void check_tensor(const char* name, const at::Tensor& x, const at::Tensor& q) {
  check(x.dim() == 3 && x.is_floating_point(), kWhere,
        "{} was expected to be a floating tensor of three dimensions (tokens, heads, width), got "
        "{} of {}.",
        name, shape_text(x), c10::toString(x.scalar_type()));
  check(x.scalar_type() == q.scalar_type() && x.device() == q.device(), kWhere,
        "q, k and v were expected to share one type and device, got q {} on {} and {} {} on {}.",
        c10::toString(q.scalar_type()), q.device().str(), name, c10::toString(x.scalar_type()),
        x.device().str());
  check(x.size(2) >= 1 && (x.size(2) == 1 || x.stride(2) == 1), kWhere,
        "{} was expected to be contiguous in its last dimension, got shape {} and stride {}.", name,
        shape_text(x), x.stride(2));
}

}  // namespace

void check_operands(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                    const SegmentTable& segments, const AttentionOptions& options) {
  check_tensor("q", q, q);
  check_tensor("k", k, q);
  check_tensor("v", v, q);
  check(k.sizes() == v.sizes() && k.size(0) == q.size(0) && k.size(2) == q.size(2), kWhere,
        "q (T, H, D) and k, v (T, K, D) were expected, got q {}, k {} and v {}.", shape_text(q),
        shape_text(k), shape_text(v));
  check(k.size(1) >= 1 && q.size(1) >= 1 && q.size(1) % k.size(1) == 0, kWhere,
        "query heads were expected to be a multiple of the key heads, got {} and {}.", q.size(1),
        k.size(1));
  check(options.window >= 0 && options.softcap >= 0, kWhere,
        "window and softcap were expected to be 0 (none) or more, got {} and {}.", options.window,
        options.softcap);
  check_segments(segments, q.size(0));
}

}  // namespace attention

namespace reference {
namespace {

constexpr int64_t kQueryBlock = 256;

// A range of tokens and the position of the first.
struct Tokens {
  int64_t begin, end, position;
};

at::Tensor positions_of(const Tokens& tokens, const at::Tensor& like) {
  const int64_t count = tokens.end - tokens.begin;
  return at::arange(tokens.position, tokens.position + count, like.options().dtype(at::kLong));
}

at::Tensor rows_of(const at::Tensor& x, const std::vector<Tokens>& ranges) {
  std::vector<at::Tensor> parts;
  for (const Tokens& range : ranges) parts.push_back(x.slice(0, range.begin, range.end));
  return at::cat(parts);
}

// One block of queries against the given keys: (b, H, D) from q (T, H, D), k and v (T, K, D).
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const Tokens& queries, const std::vector<Tokens>& keys,
                  const AttentionOptions& options) {
  const int64_t group = q.size(1) / k.size(1);
  std::vector<at::Tensor> key_positions;
  for (const Tokens& range : keys) key_positions.push_back(positions_of(range, q));
  const auto ahead =
      positions_of(queries, q).unsqueeze(1) - at::cat(key_positions).unsqueeze(0);  // (b, n)
  auto hidden = ahead < 0;
  if (options.window > 0) hidden = hidden | (ahead >= options.window);

  const auto block_q =
      rows_of(q, {queries}).unflatten(1, {k.size(1), group}).permute({1, 2, 0, 3});  // (K, g, b, D)
  const auto block_k = rows_of(k, keys).permute({1, 2, 0}).unsqueeze(1);             // (K, 1, D, n)
  const auto block_v = rows_of(v, keys).permute({1, 0, 2}).unsqueeze(1);             // (K, 1, n, D)
  auto scores = at::matmul(block_q, block_k) * options.scale;                        // (K, g, b, n)
  if (options.softcap > 0) scores = at::tanh(scores / options.softcap) * options.softcap;
  const auto weights =
      at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1);
  return at::matmul(weights, block_v).permute({2, 0, 1, 3}).flatten(1, 2);
}

}  // namespace

at::Tensor packed_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const SegmentTable& segments, const AttentionOptions& options) {
  attention::check_operands(q, k, v, segments, options);
  const auto type = q.scalar_type();
  if (type != at::kFloat && type != at::kDouble) {
    return reference::packed_attention(q.to(at::kFloat), k.to(at::kFloat), v.to(at::kFloat),
                                       segments, options)
        .to(type);
  }
  std::vector<at::Tensor> blocks;
  for (const Segment& segment : segments) {
    const Segment* const prefix =
        segment.prefix < 0 ? nullptr : &segments[static_cast<size_t>(segment.prefix)];
    const int64_t position = prefix == nullptr ? 0 : prefix->length;
    for (int64_t t = 0; t < segment.length; t += kQueryBlock) {
      const int64_t end = std::min(segment.length, t + kQueryBlock);
      std::vector<Tokens> keys;
      if (prefix != nullptr) keys.push_back({prefix->begin, prefix->begin + prefix->length, 0});
      keys.push_back({segment.begin, segment.begin + end, position});
      blocks.push_back(
          attend(q, k, v, {segment.begin + t, segment.begin + end, position + t}, keys, options));
    }
  }
  return blocks.empty() ? at::zeros_like(q) : at::cat(blocks);
}

}  // namespace reference
}  // namespace rlhf
