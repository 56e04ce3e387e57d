// The blocked attention kernel: what one task computes, on plain pointers. attention_plan.h cuts a
// packed batch into tasks, attention.cpp hands them to threads; here is the arithmetic of one task
// for one key head.
//
// Rows. The H / K query heads of a key head are stacked: row r of a run of tokens is token r / (H /
// K), head r % (H / K) of the group. Scores are kept transposed, keys down and query rows across,
// so that a vector holds one key and many rows: maxima, sums and masks need no step across lanes,
// keys and values are read as they lie, and only queries are transposed, once a task.
//
// Forward, for a block of keys (m, l, O are a row's running maximum, sum and output):
//   z = softcap(scale K Qᵀ)   m' = max(m, max z)   p = exp(z - m')   l = l e^(m - m') + Σ p   O = O
//   e^(m - m') + pᵀ V
// and at the end out = O / l, lse = m + log l. Backward, with δ = Σ dO ∘ out a row:
//   p = exp(z - lse)   dV += p dO   ds = p (V dOᵀ - δ) scale (1 - (z / c)²)   dK += ds Q   dQ +=
//   dsᵀ K
//
// Order of sums. Every element of every result is one chain of fused multiply-adds in the order of
// its keys (or query rows), whatever the tiles: what a row sees decides its bits, not where it
// stands in a tile, a task or the pack. Keys outside a row's range weigh exactly 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "rlhf/kernels/attention_plan.h"

namespace rlhf::attention {

/// (T, heads, D) in memory, D contiguous.
template <class T>
struct View {
  T* data = nullptr;
  int64_t token_stride = 0;  ///< elements from a token to the next
  int64_t head_stride = 0;   ///< elements from a head to the next

  T* row(int64_t token, int64_t head) const {
    return data + token * token_stride + head * head_stride;
  }
};

/// One call's operands. T is float or double.
template <class T>
struct Problem {
  Shape shape;
  double scale = 1.0;
  int64_t window = 0;
  double softcap = 0.0;
  const int64_t* positions = nullptr;  ///< (T) position of each token, see Plan
  View<const T> q, k, v;               ///< (T, H, D), (T, K, D), (T, K, D)
  View<T> out;                         ///< (T, H, D): written by forward, read by backward
  T* lse = nullptr;  ///< (T, H): log Σ exp z of each row; written by forward, read by backward
  View<const T> grad_out;  ///< (T, H, D), backward only, as are the next three
  View<T> grad_q, grad_k,
      grad_v;  ///< written, need no zeros: a task knows when it is the first to touch a row
};

/// Elements of scratch that one task needs, 64-byte aligned. Contents need no initialisation.
template <class T>
size_t forward_scratch(const Shape& shape);
template <class T>
size_t backward_scratch(const Shape& shape);

/// Outputs of one chunk of queries against all keys they see.
void forward_task(const Problem<float>& problem, const Plan& plan, const Task& task,
                  int64_t key_head, float* scratch);
void forward_task(const Problem<double>& problem, const Plan& plan, const Task& task,
                  int64_t key_head, double* scratch);

/// Gradients that pass between one chunk of queries and one chunk of keys, added to grad_q, grad_k
/// and grad_v.
void backward_task(const Problem<float>& problem, const Plan& plan, const Task& task,
                   int64_t key_head, float* scratch);
void backward_task(const Problem<double>& problem, const Plan& plan, const Task& task,
                   int64_t key_head, double* scratch);

}  // namespace rlhf::attention
