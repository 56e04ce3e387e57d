// Mismatched prompts and answers: KTO's z is measured on answers that do not belong to their
// prompts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "rlhf/data/answers.h"
#include "rlhf/nn/packed_batch.h"

namespace rlhf {

/// Within a block of rows (a step, or an evaluation batch) each prompt gets the answer of the row
/// before it, the first the last one's, as in TRL; a block of one row keeps its own. Pairs are
/// numbered in order of first appearance, each once.
class MismatchedAnswers {
 public:
  MismatchedAnswers() = default;
  /// `max_length`: of prompt and answer together; the answer is cut.
  MismatchedAnswers(const AnswerDataset& data, std::optional<int64_t> max_length)
      : data_(&data), max_length_(max_length) {}

  void add_block(std::span<const int64_t> rows);
  int64_t size() const { return std::ssize(pairs_); }
  /// Numbers of the pairs of a block that was added, in its order.
  std::vector<int64_t> of_block(std::span<const int64_t> rows) const;
  /// Pair `pair`, its answer numbered `number`.
  PackPrompt pack(int64_t pair, int64_t number) const;
  /// Every pair's rows one after the other: prompt, answer, prompt, …
  std::vector<int64_t> flat() const;

 private:
  using Pair = std::pair<int64_t, int64_t>;  // rows of prompt and answer
  static Pair pair_of(std::span<const int64_t> rows, size_t i);

  const AnswerDataset* data_ = nullptr;
  std::optional<int64_t> max_length_;
  std::vector<Pair> pairs_;
  std::map<Pair, int64_t> number_;
};

/// `rows` in blocks of `size`, the last one shorter.
std::vector<std::vector<int64_t>> blocks_of(std::span<const int64_t> rows, int64_t size);

}  // namespace rlhf
