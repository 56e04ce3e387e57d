#include "rlhf/train/kto_pairing.h"

namespace rlhf {

MismatchedAnswers::Pair MismatchedAnswers::pair_of(std::span<const int64_t> rows, size_t i) {
  return {rows[i], rows[(i + rows.size() - 1) % rows.size()]};
}

void MismatchedAnswers::add_block(std::span<const int64_t> rows) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto [at, added] = number_.emplace(pair_of(rows, i), size());
    if (added) pairs_.push_back(at->first);
  }
}

std::vector<int64_t> MismatchedAnswers::of_block(std::span<const int64_t> rows) const {
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < rows.size(); ++i) numbers.push_back(number_.at(pair_of(rows, i)));
  return numbers;
}

PackPrompt MismatchedAnswers::pack(int64_t pair, int64_t number) const {
  const auto [row, other] = pairs_[static_cast<size_t>(pair)];
  const auto prompt = data_->prompt(row);
  auto answer = data_->whole_completion(other);
  if (max_length_) {
    // The prompt is shorter than max_length: a row whose prompt fills it was dropped.
    const int64_t room = std::max<int64_t>(1, *max_length_ - std::ssize(prompt));
    answer = answer.first(static_cast<size_t>(std::min(room, std::ssize(answer))));
  }
  return {.ids = prompt, .answers = {{answer, number}}};
}

std::vector<int64_t> MismatchedAnswers::flat() const {
  std::vector<int64_t> rows;
  for (const auto& [prompt, answer] : pairs_) rows.insert(rows.end(), {prompt, answer});
  return rows;
}

std::vector<std::vector<int64_t>> blocks_of(std::span<const int64_t> rows, int64_t size) {
  std::vector<std::vector<int64_t>> blocks;
  const auto most = static_cast<size_t>(std::max<int64_t>(1, size));
  for (size_t begin = 0; begin < rows.size(); begin += most) {
    const auto part = rows.subspan(begin, std::min(most, rows.size() - begin));
    blocks.emplace_back(part.begin(), part.end());
  }
  return blocks;
}

}  // namespace rlhf
