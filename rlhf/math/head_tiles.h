// The head as a grid: chunks of rows by tiles of the vocabulary, and the products of one cell.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "rlhf/kernels/softmax_rows.h"
#include "rlhf/math/linear_logprobs.h"

namespace rlhf {

/// Error unless the shapes fit, the temperature is positive and every target lies in [0, V); names
/// the first bad row.
void check_head_arguments(const at::Tensor& hidden, const Head& head, const at::Tensor& targets,
                          const LogprobOptions& options);

/// One call's view of the head. Products are computed in fp32 (double where an operand is double):
/// operands of lower precision are widened, the weight tile by tile, so that logits never carry
/// bf16's rounding.
class HeadTiles {
 public:
  HeadTiles(const at::Tensor& hidden, const Head& head, double temperature);

  int64_t rows() const { return hidden_.size(0); }
  int64_t vocab() const { return weight_.size(0); }
  at::TensorOptions options() const { return hidden_.options(); }
  const LogitTransform& transform() const { return transform_; }

  /// Columns of a tile that `rows` rows meet at once: about 16 MB of logits, which caches hold.
  int64_t tile_width(int64_t rows) const;
  /// Rows of hidden [row, row + count), (count, C).
  at::Tensor hidden(int64_t row, int64_t count) const { return hidden_.narrow(0, row, count); }
  /// Rows of the weight [first, first + width), (width, C).
  at::Tensor weight(int64_t first, int64_t width) const;
  /// z (count, width) := transform(hidden · weightᵀ); z may be a strided part of a larger buffer.
  void logits(const at::Tensor& hidden, const at::Tensor& weight, int64_t first,
              const at::Tensor& z) const;
  /// dz_t · (w_t's part of the gradient): factor · slope_t · w_t of every row's target, (R, C).
  at::Tensor target_direction(const at::Tensor& targets, const RowStats& stats) const;

 private:
  at::Tensor hidden_;  // (R, C) in the type of computation
  at::Tensor weight_;  // (V, C) as given
  LogitTransform transform_;
};

/// Rows of a chunk: what the options ask for, else what kHeadBufferBytes holds; rows are spread
/// evenly over the chunks.
int64_t head_chunk_rows(const HeadTiles& tiles, const LogprobOptions& options);
/// The same from sizes alone, for plans: `element` bytes a logit, `wanted` rows or 0.
int64_t head_chunk_rows(int64_t rows, int64_t vocab, int64_t element, int64_t wanted);
/// The same of linear_supervised_loss(), whose buffer has all columns of its rows: no more of them
/// than it takes for the weight's gradient to be multiplied rather than carried to and fro.
int64_t supervised_chunk_rows(int64_t rows, int64_t vocab, int64_t element, int64_t wanted);
/// The most rows of such a chunk, whatever the number of rows.
int64_t supervised_most_rows(int64_t vocab, int64_t element);
/// HeadTiles::tile_width() from sizes alone.
int64_t head_tile_columns(int64_t rows, int64_t vocab);

/// Calls fn(begin, count) over [0, n) in pieces of `size`.
template <class Fn>
void for_pieces(int64_t n, int64_t size, Fn fn) {
  for (int64_t begin = 0; begin < n; begin += size) {
    fn(begin, std::min(size, n - begin));
  }
}

/// The gradients of one call, summed cell by cell into one buffer each. Undefined where not wanted.
class HeadGradients {
 public:
  struct Wanted {
    bool hidden = false;
    bool weight = false;
    bool bias = false;
  };
  /// That of `weight`, the head's, goes straight into its .grad where sums_directly(weight) says so
  /// (kernels/weight_gradient.h) and one of the tiles' type is there.
  HeadGradients(const HeadTiles& tiles, const at::Tensor& weight, Wanted wanted);

  /// Takes the gradient dx (count, width) of one cell's product in. Cells of row 0 and of column 0
  /// come first; `weight_tile` is the tile of the weight.
  void add(const at::Tensor& dx, int64_t row, int64_t first, const at::Tensor& weight_tile);

  /// Whether the weight's gradient is added to its .grad: there is none to hand over then.
  bool in_place() const { return sum_.defined(); }

  at::Tensor hidden;  ///< (R, C)
  at::Tensor weight;  ///< (V, C)
  at::Tensor bias;    ///< (V)

 private:
  const HeadTiles& tiles_;
  at::Tensor sum_;  // the weight's .grad
};

}  // namespace rlhf
