#include "rlhf/train/microbatches.h"

#include <algorithm>
#include <numeric>

#include "rlhf/nn/packed_batch.h"

namespace rlhf {
namespace {

using RowLists = std::vector<std::vector<int64_t>>;

RowLists in_order(std::span<const int64_t> lengths, int64_t max_tokens) {
  const auto cuts = cut_by_tokens(lengths, max_tokens);
  RowLists lists;
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    lists.emplace_back(static_cast<size_t>(cuts[cut + 1] - cuts[cut]));
    std::iota(lists.back().begin(), lists.back().end(), cuts[cut]);
  }
  return lists;
}

/// First fit, longest first (rows of `order`): near the fewest that can be.
RowLists longest_first(std::span<const int64_t> lengths, std::span<const int64_t> order,
                       const StepTokenLimits& limits) {
  RowLists lists;
  std::vector<int64_t> space;
  for (const int64_t row : order) {
    const int64_t length = lengths[static_cast<size_t>(row)];
    const auto fit =
        std::find_if(space.begin(), space.end(), [&](int64_t left) { return left >= length; });
    const auto index = static_cast<size_t>(fit - space.begin());
    if (fit == space.end()) {
      space.push_back(lists.empty() ? limits.first : limits.others);
      lists.emplace_back();
    }
    space[index] -= length;
    lists[index].push_back(row);
  }
  return lists;
}

}  // namespace

StepTokenLimits smallest_limits(
    const MicrobatchSize& size,
    const std::function<std::vector<int64_t>(const StepTokenLimits&)>& cut) {
  const size_t most = cut({size.tokens, size.tokens}).size();
  if (most <= 1) return {size.tokens, size.tokens};
  const auto limits = [&](int64_t others) {
    return StepTokenLimits{std::min(others + size.head_start, size.most_first), others};
  };
  const auto fits = [&](int64_t others) {
    const auto tokens = cut(limits(others));
    return tokens.size() <= most && std::all_of(tokens.begin() + 1, tokens.end(),
                                                [&](int64_t one) { return one <= others; });
  };
  int64_t enough = size.tokens;
  for (int64_t few = 0; enough - few > 1;) {
    const int64_t middle = few + (enough - few) / 2;
    (fits(middle) ? enough : few) = middle;
  }
  return limits(enough);
}

RowLists cut_rows(std::span<const int64_t> lengths, const MicrobatchSize& size) {
  if (size.most_first == 0) return in_order(lengths, size.tokens);
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return lengths[static_cast<size_t>(a)] > lengths[static_cast<size_t>(b)];
  });
  const auto limits = smallest_limits(size, [&](const StepTokenLimits& tried) {
    std::vector<int64_t> tokens;
    for (const auto& list : longest_first(lengths, order, tried)) {
      tokens.push_back(0);
      for (const int64_t row : list) tokens.back() += lengths[static_cast<size_t>(row)];
    }
    return tokens;
  });
  RowLists lists = longest_first(lengths, order, limits);
  for (auto& list : lists) std::sort(list.begin(), list.end());
  return lists;
}

}  // namespace rlhf
