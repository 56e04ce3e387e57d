#include "rlhf/data/order.h"

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"

namespace rlhf {

RowOrder::RowOrder(int64_t rows, const OrderOptions& options, std::vector<int64_t> lengths)
    : rows_(rows), options_(options), lengths_(std::move(lengths)), used_(rows) {
  check(rows > 0, "order", "one row was expected at least.");
  check(options_.rows_per_step > 0, "order", "rows_per_step must be positive, got {}.",
        options_.rows_per_step);
  if (options_.micro_batch_rows == 0) options_.micro_batch_rows = options_.rows_per_step;
  check(options_.rows_per_step % options_.micro_batch_rows == 0, "order",
        "rows_per_step ({}) must be a multiple of micro_batch_rows ({}).", options_.rows_per_step,
        options_.micro_batch_rows);
  check(options_.strategy != OrderStrategy::group_by_length ||
            lengths_.size() == static_cast<size_t>(rows),
        "order", "group_by_length needs the length of each of the {} rows, got {}.", rows,
        lengths_.size());
  if (options_.drop_last) used_ -= rows % options_.micro_batch_rows;
  if (used_ == 0) {
    throw UserError("dataloader_drop_last",
                    fmt::format("{} rows or more were expected, got {}: drop_last leaves none.",
                                options_.micro_batch_rows, rows),
                    "lower the batch size or turn dataloader_drop_last off.");
  }
}

int64_t RowOrder::steps_per_epoch() const {
  return (used_ + options_.rows_per_step - 1) / options_.rows_per_step;
}

std::vector<int64_t> RowOrder::batch(int64_t step) {
  check(step >= 0, "order", "a step of 0 or more was expected, got {}.", step);
  const std::vector<int64_t>& order = epoch(epoch_of(step));
  const int64_t begin = step % steps_per_epoch() * options_.rows_per_step;
  const int64_t end = std::min(used_, begin + options_.rows_per_step);
  return {order.begin() + begin, order.begin() + end};
}

const std::vector<int64_t>& RowOrder::epoch(int64_t index) {
  if (index != current_epoch_) {
    current_ = permutation(index);
    current_epoch_ = index;
  }
  return current_;
}

std::vector<int64_t> RowOrder::permutation(int64_t epoch) const {
  std::vector<int64_t> order(static_cast<size_t>(rows_));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (options_.strategy == OrderStrategy::sequential) return order;
  // Fisher and Yates.
  Random random(options_.seed, {kRandomShuffle, static_cast<uint64_t>(epoch)});
  for (size_t i = order.size() - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
  if (options_.strategy == OrderStrategy::group_by_length) group_lengths(order);
  return order;
}

void RowOrder::group_lengths(std::vector<int64_t>& order) const {
  constexpr int64_t kMostSteps = 50;
  const int64_t steps = std::clamp<int64_t>(rows_ / (4 * options_.rows_per_step), 1, kMostSteps);
  const int64_t run = steps * options_.rows_per_step;
  const auto length = [&](int64_t row) { return lengths_[static_cast<size_t>(row)]; };
  auto longest = order.begin();
  for (int64_t begin = 0; begin < rows_; begin += run) {
    const auto first = order.begin() + begin;
    std::stable_sort(first, order.begin() + std::min(rows_, begin + run),
                     [&](int64_t a, int64_t b) { return length(a) > length(b); });
    if (length(*first) > length(*longest)) longest = first;
  }
  std::iter_swap(order.begin(), longest);
}

}  // namespace rlhf
