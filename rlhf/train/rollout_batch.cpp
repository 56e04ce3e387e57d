#include "rlhf/train/rollout_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rlhf/core/error.h"

namespace rlhf {

std::vector<RolloutBatch> batches_of(const std::vector<RolloutRow>& rows, int64_t max_tokens,
                                     int64_t share_limit) {
  std::vector<RolloutBatch> batches;
  std::vector<PackPrompt> prompts;
  std::vector<RolloutRow> taken;
  int64_t finished = 0;  // tokens of all prompts but the last, which may still get answers
  const auto close = [&] {
    if (!taken.empty())
      batches.push_back({.packed = batch_prompts(prompts, share_limit), .rows = taken});
    prompts.clear();
    taken.clear();
    finished = 0;
  };
  for (const auto& row : rows) {
    const bool same = !taken.empty() && taken.back().group == row.group;
    if (!same && !prompts.empty()) finished += prompts.back().tokens(share_limit);
    const PackPrompt fresh{.ids = row.group->prompt, .answers = {}};
    PackPrompt grown = same ? prompts.back() : fresh;
    grown.answers.push_back({.ids = row.sample->ids, .row = std::ssize(taken)});
    if (taken.empty() || finished + grown.tokens(share_limit) <= max_tokens) {
      if (same) prompts.pop_back();
      prompts.push_back(std::move(grown));
    } else {
      close();
      prompts.push_back(fresh);
      prompts.back().answers.push_back({.ids = row.sample->ids, .row = 0});
    }
    taken.push_back(row);
  }
  close();
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
