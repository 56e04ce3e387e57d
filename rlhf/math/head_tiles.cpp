#include "rlhf/math/head_tiles.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/weight_gradient.h"

namespace rlhf {
namespace {

constexpr int64_t kTileElements = int64_t{4} << 20;

at::ScalarType compute_type(const at::Tensor& hidden, const Head& head) {
  const bool wide = hidden.scalar_type() == at::kDouble || head.weight.scalar_type() == at::kDouble;
  return wide ? at::kDouble : at::kFloat;
}

/// Rows of a chunk where no more than `most` may be, spread over as few chunks as that takes.
int64_t spread_evenly(int64_t all_rows, int64_t most) {
  const int64_t rows = std::max<int64_t>(1, all_rows);
  const int64_t allowed = std::clamp<int64_t>(most, 1, rows);
  const int64_t chunks = (rows + allowed - 1) / allowed;
  return (rows + chunks - 1) / chunks;
}

void check_targets(const at::Tensor& targets, int64_t vocab) {
  const auto bad = ((targets < 0) | (targets >= vocab)).nonzero();
  if (bad.size(0) > 0) {
    const int64_t row = bad[0][0].item<int64_t>();
    fail("linear_logprobs",
         fmt::format("targets in [0, {}) were expected, row {} has {}.", vocab, row,
                     targets[row].item<int64_t>()),
         "a masked position must not reach the head; list only supervised rows.");
  }
}

}  // namespace

void check_head_arguments(const at::Tensor& hidden, const Head& head, const at::Tensor& targets,
                          const LogprobOptions& options) {
  check(hidden.dim() == 2 && head.weight.dim() == 2 && hidden.size(1) == head.weight.size(1),
        "linear_logprobs", "hidden (R, C) and weight (V, C) were expected, got ({}) and ({}).",
        fmt::join(hidden.sizes(), ", "), fmt::join(head.weight.sizes(), ", "));
  check(!head.bias.defined() || (head.bias.dim() == 1 && head.bias.size(0) == head.weight.size(0)),
        "linear_logprobs", "a bias of {} numbers was expected, got {}.", head.weight.size(0),
        head.bias.defined() ? head.bias.numel() : 0);
  check(
      targets.dim() == 1 && targets.size(0) == hidden.size(0) && targets.scalar_type() == at::kLong,
      "linear_logprobs", "{} int64 targets were expected, got {} ({}).", hidden.size(0),
      toString(targets.scalar_type()), fmt::join(targets.sizes(), ", "));
  check(options.temperature > 0.0, "linear_logprobs", "a temperature above 0 was expected, got {}.",
        options.temperature);
  check_targets(targets, head.weight.size(0));
}

HeadTiles::HeadTiles(const at::Tensor& hidden, const Head& head, double temperature)
    : hidden_(hidden.to(compute_type(hidden, head)).contiguous()),
      weight_(head.weight),
      transform_{head.bias, head.logit_scale, head.softcap, temperature} {}

int64_t HeadTiles::tile_width(int64_t rows) const { return head_tile_columns(rows, vocab()); }

at::Tensor HeadTiles::weight(int64_t first, int64_t width) const {
  return weight_.narrow(0, first, width).to(hidden_.scalar_type());
}

void HeadTiles::logits(const at::Tensor& hidden, const at::Tensor& weight, int64_t first,
                       const at::Tensor& z) const {
  at::Tensor out = z;
  const double alpha = transform_.linear() ? transform_.factor() : 1.0;
  at::addmm_out(out, out, hidden, weight.t(), /*beta=*/0, alpha);
  if (!transform_.linear()) {
    transform_logits(z, first, transform_);
  }
}

at::Tensor HeadTiles::target_direction(const at::Tensor& targets, const RowStats& stats) const {
  const auto rows = weight_.index_select(0, targets).to(hidden_.scalar_type());
  auto slope = at::full_like(stats.target, transform_.factor());
  if (transform_.softcap > 0.0) {
    slope = slope * (1.0 - (stats.target * transform_.cap_inverse()).square());
  }
  return rows * slope.to(rows.scalar_type()).unsqueeze(1);
}

int64_t head_tile_columns(int64_t rows, int64_t vocab) {
  constexpr int64_t kAlign = 256;
  const int64_t width = kTileElements / std::max<int64_t>(1, rows) / kAlign * kAlign;
  return std::clamp<int64_t>(width, 4096, std::max<int64_t>(4096, vocab));
}

int64_t head_chunk_rows(const HeadTiles& tiles, const LogprobOptions& options) {
  return head_chunk_rows(tiles.rows(), tiles.vocab(),
                         static_cast<int64_t>(tiles.options().dtype().itemsize()),
                         options.chunk_rows);
}

int64_t head_chunk_rows(int64_t rows, int64_t vocab, int64_t element, int64_t wanted) {
  return wanted > 0 ? std::min(wanted, std::max<int64_t>(1, rows))
                    : spread_evenly(rows, kHeadBufferBytes / (vocab * element));
}

int64_t supervised_chunk_rows(int64_t rows, int64_t vocab, int64_t element, int64_t wanted) {
  if (wanted > 0) return head_chunk_rows(rows, vocab, element, wanted);
  return spread_evenly(rows, supervised_most_rows(vocab, element));
}

int64_t supervised_most_rows(int64_t vocab, int64_t element) {
  constexpr int64_t kRows = 384;
  return std::clamp<int64_t>(kHeadBufferBytes / (vocab * element), 1, kRows);
}

HeadGradients::HeadGradients(const HeadTiles& tiles, const at::Tensor& head_weight, Wanted wanted)
    : tiles_(tiles) {
  const int64_t rows = tiles.rows();
  const int64_t width = tiles.hidden(0, 0).size(1);
  if (wanted.hidden) {
    hidden = at::empty({rows, width}, tiles.options());
  }
  if (wanted.weight && sums_directly(head_weight) && head_weight.grad().defined() &&
      head_weight.grad().scalar_type() == tiles.options().dtype()) {
    sum_ = head_weight.grad();
  } else if (wanted.weight) {
    // The first cell overwrites; without rows there is none.
    weight = at::empty({tiles.vocab(), width}, tiles.options());
    if (rows == 0) weight.zero_();
  }
  if (wanted.bias) {
    bias = at::zeros({tiles.vocab()}, tiles.options());
  }
}

void HeadGradients::add(const at::Tensor& dx, int64_t row, int64_t first,
                        const at::Tensor& weight_tile) {
  if (hidden.defined()) {
    auto out = hidden.narrow(0, row, dx.size(0));
    at::addmm_out(out, out, dx, weight_tile, /*beta=*/first == 0 ? 0 : 1);
  }
  if (weight.defined() || in_place()) {
    auto out = (in_place() ? sum_ : weight).narrow(0, first, dx.size(1));
    at::addmm_out(out, out, dx.t(), tiles_.hidden(row, dx.size(0)),
                  /*beta=*/row == 0 && !in_place() ? 0 : 1);
  }
  if (bias.defined()) {
    bias.narrow(0, first, dx.size(1)).add_(dx.sum(0));
  }
}

}  // namespace rlhf
