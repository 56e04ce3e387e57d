#include "rlhf/train/sft_batch.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "rlhf/core/random.h"

namespace rlhf {

std::vector<int64_t> SftRows::lengths() const {
  if (!plan_) return data_.lengths();
  std::vector<int64_t> lengths(static_cast<size_t>(plan_->packs()));
  for (size_t pack = 0; pack < lengths.size(); ++pack)
    lengths[pack] = plan_->length(static_cast<int64_t>(pack));
  return lengths;
}

int64_t longest_row(const SftRows& rows) { return rows.longest_piece(); }

int64_t SftRows::longest_piece() const {
  int64_t longest = 0;
  if (plan_) {
    for (const auto& piece : plan_->pieces) longest = std::max(longest, piece.end - piece.begin);
  } else {
    for (const int64_t length : data_.lengths()) longest = std::max(longest, length);
  }
  return longest;
}

std::vector<PackRow> SftRows::pieces(std::span<const int64_t> rows) const {
  std::vector<PackRow> pieces;
  for (const int64_t row : rows) {
    if (!plan_) {
      pieces.push_back(
          {.ids = data_.ids(row), .supervised = data_.supervised(row), .row = std::ssize(pieces)});
      continue;
    }
    for (const auto& piece : plan_->pack(row)) {
      const auto begin = static_cast<size_t>(piece.begin);
      const auto length = static_cast<size_t>(piece.end - piece.begin);
      pieces.push_back({.ids = data_.ids(piece.row).subspan(begin, length),
                        .supervised = data_.supervised(piece.row).subspan(begin, length),
                        .row = std::ssize(pieces)});
    }
  }
  return pieces;
}

int64_t count_supervised(std::span<const PackRow> pieces) {
  int64_t count = 0;
  for (const auto& piece : pieces) {
    count += std::count_if(piece.supervised.begin() + 1, piece.supervised.end(),
                           [](uint8_t on) { return on != 0; });
  }
  return count;
}

std::vector<SftBatch> cut_into_batches(std::span<const PackRow> pieces,
                                       const MicrobatchSize& size) {
  std::vector<int64_t> lengths;
  for (const auto& piece : pieces) lengths.push_back(std::ssize(piece.ids));
  std::vector<SftBatch> batches;
  for (auto& some : cut_rows(lengths, size)) {
    std::vector<PackRow> rows;
    for (const int64_t piece : some) rows.push_back(pieces[static_cast<size_t>(piece)]);
    batches.push_back({.packed = batch_rows(rows), .pieces = std::move(some)});
  }
  return batches;
}

at::Tensor add_neftune_noise(const at::Tensor& embeddings, const SftBatch& batch, double alpha,
                             uint64_t seed, int64_t step) {
  const int64_t width = embeddings.size(1);
  const SegmentTable& segments = batch.packed.segments;
  auto noise = at::empty(embeddings.sizes(), at::kFloat);
  auto* out = noise.data_ptr<float>();
  at::parallel_for(0, std::ssize(segments), 1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const auto& segment = segments[static_cast<size_t>(s)];
      const double bound = alpha / std::sqrt(static_cast<double>(segment.length * width));
      Random random(seed, {kRandomNeftune, static_cast<uint64_t>(step),
                           static_cast<uint64_t>(batch.pieces[static_cast<size_t>(s)])});
      float* row = out + segment.begin * width;
      for (int64_t i = 0; i < segment.length * width; ++i) {
        row[i] = static_cast<float>((2.0 * random.uniform() - 1.0) * bound);
      }
    }
  });
  return embeddings + noise.to(embeddings.options());
}

}  // namespace rlhf
