// Scratch of one task of the attention kernel: sizes are fixed by the shape, so each buffer's place
// is too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rlhf/kernels/attention_plan.h"

namespace rlhf::attention {

inline constexpr size_t kAlign = 64;  ///< bytes: a cache line, and the longest vector in use
inline constexpr size_t kPanel = 64;  ///< query rows of one tile of scores
/// Keys of one tile of scores, a multiple of the 6 rows that registers hold.
inline constexpr int64_t kForwardKeys = 120;
inline constexpr int64_t kBackwardKeys = 120;

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/// Elements of a row of D elements, padded to whole vectors.
inline size_t padded_width(const Shape& shape, size_t element_size) {
  return round_up(static_cast<size_t>(shape.width), kAlign / element_size);
}

/// Query rows of one task, padded to whole panels, and one panel more for what pads a piece that
/// ends within them.
inline size_t padded_rows(const Shape& shape) {
  return round_up(static_cast<size_t>(query_chunk(shape) * shape.group()), kPanel) + kPanel;
}

/// Hands out aligned parts of the scratch, or counts them where there is none.
template <class T>
class Arena {
 public:
  explicit Arena(T* scratch) : scratch_(scratch) {}

  T* take(size_t count) {
    T* const part = scratch_ == nullptr ? nullptr : scratch_ + used_;
    used_ += round_up(count, kAlign / sizeof(T));
    return part;
  }
  size_t used() const { return used_; }

 private:
  T* scratch_;
  size_t used_ = 0;
};

template <class T>
struct ForwardBuffers {
  T *queries, *out;                 // panels of queries across; rows of running outputs
  T *keys, *values, *scores;        // one block
  T *maximum, *sum, *first, *last;  // by row
  T *decay, *zeros;                 // a panel; a row
  size_t used;

  ForwardBuffers(const Shape& shape, Arena<T> arena) {
    const size_t width = padded_width(shape, sizeof(T)), rows = padded_rows(shape);
    queries = arena.take(rows * width);
    out = arena.take(rows * width);
    keys = arena.take(kForwardKeys * width);
    values = arena.take(kForwardKeys * width);
    scores = arena.take(kForwardKeys * kPanel);
    maximum = arena.take(rows);
    sum = arena.take(rows);
    first = arena.take(rows);
    last = arena.take(rows);
    decay = arena.take(kPanel);
    zeros = arena.take(width);
    used = arena.used();
  }
};

template <class T>
struct BackwardBuffers {
  T *queries, *grad_out, *grad_q;       // rows
  T *queries_across, *grad_out_across;  // panels
  T *keys, *values, *grad_k, *grad_v;   // one chunk
  T *weights, *slopes;                  // one tile
  T *lse, *delta, *first, *last;        // by row
  T* zeros;                             // a row
  size_t used;

  BackwardBuffers(const Shape& shape, Arena<T> arena) {
    const size_t width = padded_width(shape, sizeof(T)), rows = padded_rows(shape);
    const auto chunk = static_cast<size_t>(key_chunk(shape));
    for (T** buffer : {&queries, &grad_out, &grad_q, &queries_across, &grad_out_across}) {
      *buffer = arena.take(rows * width);
    }
    for (T** buffer : {&keys, &values, &grad_k, &grad_v}) *buffer = arena.take(chunk * width);
    for (T** buffer : {&weights, &slopes}) *buffer = arena.take(kBackwardKeys * kPanel);
    for (T** buffer : {&lse, &delta, &first, &last}) *buffer = arena.take(rows);
    zeros = arena.take(width);
    used = arena.used();
  }
};

}  // namespace rlhf::attention
