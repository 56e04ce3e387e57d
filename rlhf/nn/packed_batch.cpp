#include "rlhf/nn/packed_batch.h"

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"

namespace rlhf {

PackedBatch pack_rows(std::span<const PackRow> rows) {
  int64_t tokens = 0;
  int64_t scored = 0;
  for (const auto& row : rows) {
    check(!row.ids.empty() && row.ids.size() == row.supervised.size(), "pack_rows",
          "a row needs at least one token and one mask value a token, got {} and {}.",
          row.ids.size(), row.supervised.size());
    tokens += std::ssize(row.ids);
    scored += std::count_if(row.supervised.begin() + 1, row.supervised.end(),
                            [](uint8_t on) { return on != 0; });
  }
  PackedBatch batch;
  batch.ids = torch::empty({tokens}, torch::kInt64);
  batch.positions = torch::empty({tokens}, torch::kInt64);
  batch.rows = torch::empty({scored}, torch::kInt64);
  batch.targets = torch::empty({scored}, torch::kInt64);
  auto* ids = batch.ids.data_ptr<int64_t>();
  auto* positions = batch.positions.data_ptr<int64_t>();
  auto* wanted = batch.rows.data_ptr<int64_t>();
  auto* targets = batch.targets.data_ptr<int64_t>();
  int64_t at = 0;
  int64_t next = 0;
  for (const auto& row : rows) {
    const int64_t length = std::ssize(row.ids);
    batch.segments.push_back({.begin = at, .length = length, .prefix = -1});
    batch.row_begin.push_back(next);
    std::copy(row.ids.begin(), row.ids.end(), ids + at);
    std::iota(positions + at, positions + at + length, int64_t{0});
    for (int64_t t = 1; t < length; ++t) {
      if (row.supervised[static_cast<size_t>(t)] == 0) continue;
      wanted[next] = at + t - 1;
      targets[next] = row.ids[static_cast<size_t>(t)];
      batch.row_of.push_back(row.row);
      ++next;
    }
    at += length;
  }
  batch.row_begin.push_back(next);
  return batch;
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
