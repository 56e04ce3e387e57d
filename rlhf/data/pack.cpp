#include "rlhf/data/pack.h"

#include <algorithm>
#include <deque>
#include <map>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

void append_pack(PackPlan& plan, std::span<const PackPiece> pieces) {
  plan.pieces.insert(plan.pieces.end(), pieces.begin(), pieces.end());
  plan.offsets.push_back(static_cast<int64_t>(plan.pieces.size()));
}

void pack_best_fit(std::vector<PackPiece> pieces, int64_t max_length, PackPlan& plan) {
  const auto length = [](const PackPiece& piece) { return piece.end - piece.begin; };
  std::stable_sort(pieces.begin(), pieces.end(),
                   [&](const PackPiece& a, const PackPiece& b) { return length(a) > length(b); });
  std::vector<std::vector<PackPiece>> packs;
  std::map<int64_t, std::deque<size_t>> by_space;  // packs with so much space left, oldest first
  for (const PackPiece& piece : pieces) {
    const auto fit = by_space.lower_bound(length(piece));
    size_t pack = packs.size();
    int64_t space = max_length;
    if (fit == by_space.end()) {
      packs.emplace_back();
    } else {
      space = fit->first;
      pack = fit->second.front();
      fit->second.pop_front();
      if (fit->second.empty()) by_space.erase(fit);
    }
    packs[pack].push_back(piece);
    by_space[space - length(piece)].push_back(pack);
  }
  for (const auto& pack : packs) append_pack(plan, pack);
}

void pack_end_to_end(std::span<const PackPiece> rows, int64_t max_length, PackPlan& plan) {
  std::vector<PackPiece> pack;
  int64_t space = max_length;
  for (PackPiece rest : rows) {
    while (rest.begin < rest.end) {
      const int64_t taken = std::min(space, rest.end - rest.begin);
      pack.push_back({rest.row, rest.begin, rest.begin + taken});
      rest.begin += taken;
      space -= taken;
      if (space > 0) continue;
      append_pack(plan, pack);
      pack.clear();
      space = max_length;
    }
  }
  if (!pack.empty()) append_pack(plan, pack);
}

}  // namespace

std::span<const PackPiece> PackPlan::pack(int64_t index) const {
  const auto begin = static_cast<size_t>(offsets[static_cast<size_t>(index)]);
  const auto end = static_cast<size_t>(offsets[static_cast<size_t>(index) + 1]);
  return std::span(pieces).subspan(begin, end - begin);
}

int64_t PackPlan::length(int64_t index) const {
  int64_t tokens = 0;
  for (const PackPiece& piece : pack(index)) tokens += piece.end - piece.begin;
  return tokens;
}

PackPlan pack_rows(std::span<const int64_t> lengths, const PackOptions& options,
                   std::span<const int64_t> order) {
  check(options.max_length > 0, "packing", "max_length must be positive, got {}.",
        options.max_length);
  check(order.empty() || order.size() == lengths.size(), "packing",
        "an order of {} rows was expected, got {}.", lengths.size(), order.size());
  const auto rows = static_cast<int64_t>(lengths.size());
  const int64_t group =
      options.rows_per_group > 0 ? options.rows_per_group : std::max<int64_t>(rows, 1);
  PackPlan plan;
  for (int64_t begin = 0; begin < rows; begin += group) {
    std::vector<PackPiece> pieces;
    for (int64_t i = begin; i < std::min(rows, begin + group); ++i) {
      const int64_t row = order.empty() ? i : order[static_cast<size_t>(i)];
      const int64_t length = lengths[static_cast<size_t>(row)];
      if (options.strategy == PackStrategy::bfd_split) {
        for (int64_t at = 0; at < length; at += options.max_length) {
          pieces.push_back({row, at, std::min(length, at + options.max_length)});
        }
      } else if (length > 0) {
        const bool cut = options.strategy == PackStrategy::bfd && length > options.max_length;
        pieces.push_back({row, 0, cut ? options.max_length : length});
        plan.rows_cut += cut ? 1 : 0;
        plan.tokens_cut += cut ? length - options.max_length : 0;
      }
    }
    if (options.strategy == PackStrategy::wrapped) {
      pack_end_to_end(pieces, options.max_length, plan);
    } else {
      pack_best_fit(std::move(pieces), options.max_length, plan);
    }
  }
  return plan;
}

}  // namespace rlhf
