#include "rlhf/train/rollout_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rlhf/core/error.h"

namespace rlhf {

namespace {

/// Completions of one batch, and their prompts.
struct Lot {
  std::vector<PackPrompt> prompts;
  std::vector<RolloutRow> rows;
  int64_t finished = 0;  ///< tokens of all prompts but the last, which may still get answers

  int64_t tokens(int64_t share_limit) const {
    return finished + prompts.back().tokens(share_limit);
  }

  /// Takes a row in, unless that would be more than `limit` tokens; the first always.
  bool take(const RolloutRow& row, int64_t limit, int64_t share_limit) {
    const bool same = !rows.empty() && rows.back().group == row.group;
    const int64_t before =
        finished + (same || prompts.empty() ? 0 : prompts.back().tokens(share_limit));
    PackPrompt grown = same ? prompts.back() : PackPrompt{.ids = row.group->prompt, .answers = {}};
    grown.answers.push_back({.ids = row.sample->ids, .row = std::ssize(rows)});
    if (!rows.empty() && before + grown.tokens(share_limit) > limit) return false;
    if (same) prompts.pop_back();
    prompts.push_back(std::move(grown));
    rows.push_back(row);
    finished = before;
    return true;
  }
};

std::vector<Lot> cut_into_lots(const std::vector<RolloutRow>& rows, const StepTokenLimits& limits,
                               int64_t share_limit) {
  std::vector<Lot> lots;
  for (const auto& row : rows) {
    const int64_t limit = lots.size() <= 1 ? limits.first : limits.others;
    if (!lots.empty() && lots.back().take(row, limit, share_limit)) continue;
    lots.emplace_back().take(row, limit, share_limit);
  }
  return lots;
}

}  // namespace

std::vector<RolloutBatch> batches_of(const std::vector<RolloutRow>& rows,
                                     const MicrobatchSize& size, int64_t share_limit) {
  StepTokenLimits limits{size.tokens, size.tokens};
  if (size.most_first > 0) {
    limits = smallest_limits(size, [&](const StepTokenLimits& tried) {
      std::vector<int64_t> tokens;
      for (const auto& lot : cut_into_lots(rows, tried, share_limit))
        tokens.push_back(lot.tokens(share_limit));
      return tokens;
    });
  }
  std::vector<RolloutBatch> batches;
  for (auto& lot : cut_into_lots(rows, limits, share_limit)) {
    batches.push_back(
        {.packed = batch_prompts(lot.prompts, share_limit), .rows = std::move(lot.rows)});
  }
  return batches;
}

at::Tensor token_values(const RolloutBatch& batch, std::vector<float> Sample::*member,
                        at::Device device) {
  auto made = at::empty({batch.packed.scored()}, at::kFloat);
  float* out = made.data_ptr<float>();
  for (const auto& row : batch.rows) {
    const std::vector<float>& own = row.sample->*member;
    check(std::ssize(own) == row.sample->tokens(), "rollout", "{} values were expected, got {}.",
          row.sample->tokens(), own.size());
    out = std::copy(own.begin(), own.end(), out);
  }
  return made.to(device);
}

void note_values(const RolloutBatch& batch, const at::Tensor& values,
                 std::vector<float> Sample::*member) {
  const auto plain = values.detach().to(at::kCPU, at::kFloat).contiguous();
  const float* next = plain.const_data_ptr<float>();
  for (const auto& row : batch.rows) {
    const int64_t count = row.sample->tokens();
    (row.sample->*member).assign(next, next + count);
    next += count;
  }
}

at::Tensor mask_of(const RolloutBatch& batch, bool mask_truncated, at::Device device) {
  auto mask = at::ones({batch.packed.scored()}, at::kBool);
  int64_t begin = 0;
  for (const auto& row : batch.rows) {
    if (!row.sample->counts(mask_truncated))
      mask.narrow(0, begin, row.sample->tokens()).fill_(false);
    begin += row.sample->tokens();
  }
  return mask.to(device);
}

}  // namespace rlhf
