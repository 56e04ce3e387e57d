#include "rlhf/nn/packed_batch.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// Tokens, segments and scored positions as they are laid down, one after the other.
class BatchBuilder {
 public:
  /// Begins a segment behind what is there. `prefix` names an earlier segment of this batch, or -1.
  int64_t begin_segment(int64_t prefix = -1) {
    const int64_t begin = std::ssize(ids_);
    next_position_ = prefix < 0 ? 0 : segments_[static_cast<size_t>(prefix)].length;
    segments_.push_back({.begin = begin, .length = 0, .prefix = prefix});
    return std::ssize(segments_) - 1;
  }

  /// Appends tokens to the segment begun last.
  void append(std::span<const int32_t> ids) {
    for (const int32_t id : ids) {
      ids_.push_back(id);
      positions_.push_back(next_position_++);
    }
    segments_.back().length += std::ssize(ids);
  }

  void begin_row() { row_begin_.push_back(std::ssize(targets_)); }
  void end_row() { row_end_.push_back(std::ssize(ids_) - 1); }

  /// Scores token `id` from the hidden row of token `from`.
  void score(int64_t from, int32_t id, int64_t row) {
    rows_.push_back(from);
    targets_.push_back(id);
    row_of_.push_back(row);
  }

  int64_t tokens() const { return std::ssize(ids_); }

  PackedBatch finish() {
    row_begin_.push_back(std::ssize(targets_));
    return {.ids = index_tensor(ids_),
            .positions = index_tensor(positions_),
            .segments = std::move(segments_),
            .rows = index_tensor(rows_),
            .targets = index_tensor(targets_),
            .row_of = std::move(row_of_),
            .row_begin = std::move(row_begin_),
            .row_end = std::move(row_end_)};
  }

 private:
  std::vector<int64_t> ids_, positions_, rows_, targets_, row_of_, row_begin_, row_end_;
  SegmentTable segments_;
  int64_t next_position_ = 0;
};

/// One answer behind its prompt, whose last token stands at `before` (-1: there is none).
void append_answer(BatchBuilder& batch, const PackPrompt::Answer& answer, int64_t before) {
  const int64_t begin = batch.tokens();
  batch.begin_row();
  batch.append(answer.ids);
  for (int64_t t = before < 0 ? 1 : 0; t < std::ssize(answer.ids); ++t) {
    batch.score(t == 0 ? before : begin + t - 1, answer.ids[static_cast<size_t>(t)], answer.row);
  }
  batch.end_row();
}

/// The prompt's own tokens; `counts` says whether this copy of it is the one that is scored.
void append_prompt(BatchBuilder& batch, const PackPrompt& prompt, bool counts) {
  const int64_t begin = batch.tokens();
  const bool scored = counts && prompt.scored_as >= 0;
  if (scored) batch.begin_row();
  batch.append(prompt.ids);
  for (int64_t t = 1; scored && t < std::ssize(prompt.ids); ++t)
    batch.score(begin + t - 1, prompt.ids[static_cast<size_t>(t)], prompt.scored_as);
  if (scored) batch.end_row();
}

}  // namespace

int64_t PackPrompt::longest() const {
  int64_t most = 0;
  for (const auto& answer : answers) most = std::max(most, std::ssize(answer.ids));
  return std::ssize(ids) + most;
}

bool PackPrompt::shares(int64_t share_limit) const {
  return !ids.empty() && answers.size() > 1 && longest() <= share_limit;
}

int64_t PackPrompt::tokens(int64_t share_limit) const {
  const bool shared = shares(share_limit);
  int64_t total = shared ? std::ssize(ids) : 0;
  for (const auto& answer : answers)
    total += std::ssize(answer.ids) + (shared ? 0 : std::ssize(ids));
  return total;
}

PackedBatch batch_rows(std::span<const PackRow> rows) {
  BatchBuilder batch;
  for (const auto& row : rows) {
    check(!row.ids.empty() && row.ids.size() == row.supervised.size(), "batch_rows",
          "a row needs at least one token and one mask value a token, got {} and {}.",
          row.ids.size(), row.supervised.size());
    const int64_t begin = batch.tokens();
    batch.begin_segment();
    batch.begin_row();
    batch.append(row.ids);
    for (size_t t = 1; t < row.ids.size(); ++t) {
      if (row.supervised[t] != 0)
        batch.score(begin + static_cast<int64_t>(t) - 1, row.ids[t], row.row);
    }
    batch.end_row();
  }
  return batch.finish();
}

PackedBatch batch_prompts(std::span<const PackPrompt> prompts, int64_t share_limit) {
  BatchBuilder batch;
  for (const auto& prompt : prompts) {
    const bool whole = std::none_of(prompt.answers.begin(), prompt.answers.end(),
                                    [](const auto& answer) { return answer.ids.empty(); });
    check(!prompt.answers.empty() && whole, "batch_prompts",
          "a prompt needs answers of at least one token each.");
    if (prompt.shares(share_limit)) {
      const int64_t prefix = batch.begin_segment();
      append_prompt(batch, prompt, /*counts=*/true);
      const int64_t before = batch.tokens() - 1;
      for (const auto& answer : prompt.answers) {
        batch.begin_segment(prefix);
        append_answer(batch, answer, before);
      }
      continue;
    }
    for (size_t i = 0; i < prompt.answers.size(); ++i) {
      batch.begin_segment();
      append_prompt(batch, prompt, /*counts=*/i == 0);
      append_answer(batch, prompt.answers[i], prompt.ids.empty() ? -1 : batch.tokens() - 1);
    }
  }
  return batch.finish();
}

at::Tensor index_tensor(std::span<const int64_t> values) {
  auto made = at::empty({std::ssize(values)}, at::kLong);
  std::copy(values.begin(), values.end(), made.data_ptr<int64_t>());
  return made;
}

std::vector<int64_t> cut_by_tokens(std::span<const int64_t> lengths, int64_t max_tokens) {
  std::vector<int64_t> cuts{0};
  if (lengths.empty()) return cuts;
  int64_t tokens = 0;
  for (int64_t row = 0; row < std::ssize(lengths); ++row) {
    const int64_t length = lengths[static_cast<size_t>(row)];
    if (tokens > 0 && tokens + length > max_tokens) {
      cuts.push_back(row);
      tokens = 0;
    }
    tokens += length;
  }
  cuts.push_back(std::ssize(lengths));
  return cuts;
}

}  // namespace rlhf
