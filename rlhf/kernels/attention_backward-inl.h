// The backward pass of the attention kernel (see attention_kernel.h). Included once per vector
// target.
#if defined(RLHF_KERNELS_ATTENTION_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RLHF_KERNELS_ATTENTION_BACKWARD_INL_H_
#undef RLHF_KERNELS_ATTENTION_BACKWARD_INL_H_
#else
#define RLHF_KERNELS_ATTENTION_BACKWARD_INL_H_
#endif

#include "rlhf/kernels/attention_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rlhf::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
class BackwardTask : TaskBase<T> {
 public:
  BackwardTask(const Problem<T>& problem, const Plan& plan, const Task& task, int64_t key_head,
               T* scratch)
      : TaskBase<T>(problem, plan, task, key_head), buffers_(problem.shape, Arena<T>(scratch)) {}

  void run() {
    std::fill_n(buffers_.zeros, padded_, T{0});
    for (int64_t i = task_.first_piece; i < task_.last_piece; ++i)
      add_piece(plan_.pieces[static_cast<size_t>(i)]);
  }

 private:
  using TaskBase<T>::p_, TaskBase<T>::plan_, TaskBase<T>::task_, TaskBase<T>::head_,
      TaskBase<T>::width_, TaskBase<T>::padded_, TaskBase<T>::vectors_, TaskBase<T>::ranges_;

  void add_piece(const Piece& piece) {
    const size_t count = this->rows(piece.query_end - piece.query_begin);
    load_queries(piece, count);
    int64_t begin = piece.key_end - piece.key_begin, end = 0;
    for (size_t panel = 0; panel < count; panel += kPanel) {
      const Range& range = ranges_[panel / kPanel] =
          pack_queries(piece, panel, std::min(kPanel, count - panel));
      begin = std::min(begin, range.begin);
      end = std::max(end, range.end);
    }
    load_keys(piece, begin, end);
    for (size_t panel = 0; panel < count; panel += kPanel) {
      const Range& range = ranges_[panel / kPanel];
      for (int64_t key = range.begin; key < range.end; key += kBackwardKeys) {
        const int64_t stop = std::min(key + kBackwardKeys, range.end);
        add_tile(panel, std::min(kPanel, count - panel), key, static_cast<size_t>(stop - key),
                 range.masks(key, stop));
      }
    }
    store_queries(piece, count);
    store_keys(piece, begin, end);
  }

  // Rows of q and dO, and of dq as far as it goes; lse and δ.
  void load_queries(const Piece& piece, size_t count) {
    for (size_t r = 0; r < count; ++r) {
      const int64_t token = this->token(piece.query_begin, r), head = this->query_head(r);
      const size_t at = r * padded_;
      copy_row<T>(p_.q.row(token, head), width_, padded_, buffers_.queries + at);
      copy_row<T>(p_.grad_out.row(token, head), width_, padded_, buffers_.grad_out + at);
      copy_row<T>(task_.first_queries ? buffers_.zeros : p_.grad_q.row(token, head), width_,
                  padded_, buffers_.grad_q + at);
      buffers_.lse[r] = p_.lse[token * p_.shape.query_heads + head];
      buffers_.delta[r] = dot(buffers_.grad_out + at, p_.out.row(token, head));
    }
    std::fill_n(buffers_.lse + count, kPanel, T{0});
    std::fill_n(buffers_.delta + count, kPanel, T{0});
  }

  T dot(const T* a, const T* b) const {
    const Tag<T> d;
    const size_t lanes = hn::Lanes(d);
    auto sum = hn::Zero(d);
    size_t i = 0;
    for (; i + lanes <= width_; i += lanes)
      sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
    T result = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; i < width_; ++i) result += a[i] * b[i];
    return result;
  }

  Range pack_queries(const Piece& piece, size_t panel, size_t count) {
    const T* queries[kPanel];
    const T* grads[kPanel];
    for (size_t r = 0; r < kPanel; ++r) {
      const size_t at = (panel + r) * padded_;
      queries[r] = r < count ? buffers_.queries + at : buffers_.zeros;
      grads[r] = r < count ? buffers_.grad_out + at : buffers_.zeros;
    }
    transpose_panel(queries, width_, this->query_factor(),
                    buffers_.queries_across + panel * padded_);
    transpose_panel(grads, width_, T{1}, buffers_.grad_out_across + panel * padded_);
    return this->visible(piece, panel, count, buffers_.first + panel, buffers_.last + panel);
  }

  // Keys and values [begin, end) of the piece, and their gradients as far as they go.
  void load_keys(const Piece& piece, int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t token = piece.key_begin + j;
      const size_t at = static_cast<size_t>(j) * padded_;
      copy_row<T>(p_.k.row(token, head_), width_, padded_, buffers_.keys + at);
      copy_row<T>(p_.v.row(token, head_), width_, padded_, buffers_.values + at);
      copy_row<T>(piece.first_keys ? buffers_.zeros : p_.grad_k.row(token, head_), width_, padded_,
                  buffers_.grad_k + at);
      copy_row<T>(piece.first_keys ? buffers_.zeros : p_.grad_v.row(token, head_), width_, padded_,
                  buffers_.grad_v + at);
    }
  }

  void store_queries(const Piece& piece, size_t count) {
    for (size_t r = 0; r < count; ++r) {
      copy_row<T>(buffers_.grad_q + r * padded_, width_, width_,
                  p_.grad_q.row(this->token(piece.query_begin, r), this->query_head(r)));
    }
  }

  // The first task to touch a chunk of keys also clears what it did not reach.
  void store_keys(const Piece& piece, int64_t begin, int64_t end) {
    const int64_t keys = piece.key_end - piece.key_begin;
    for (int64_t j = piece.first_keys ? 0 : begin; j < (piece.first_keys ? keys : end); ++j) {
      const bool reached = j >= begin && j < end;
      const size_t at = static_cast<size_t>(j) * padded_;
      copy_row<T>(reached ? buffers_.grad_k + at : buffers_.zeros, width_, width_,
                  p_.grad_k.row(piece.key_begin + j, head_));
      copy_row<T>(reached ? buffers_.grad_v + at : buffers_.zeros, width_, width_,
                  p_.grad_v.row(piece.key_begin + j, head_));
    }
  }

  // `count` rows of a panel against `keys` keys from `key` on.
  void add_tile(size_t panel, size_t count, int64_t key, size_t keys, bool masked) {
    const size_t lanes = hn::Lanes(Tag<T>());
    const size_t columns = (count + lanes - 1) / lanes;
    const size_t rows_at = panel * padded_, keys_at = static_cast<size_t>(key) * padded_;
    gemm<T>(keys, columns, width_, {buffers_.keys + keys_at, padded_, 1},
            {buffers_.queries_across + rows_at, kPanel}, {buffers_.weights, kPanel}, /*add=*/false);
    gemm<T>(keys, columns, width_, {buffers_.values + keys_at, padded_, 1},
            {buffers_.grad_out_across + rows_at, kPanel}, {buffers_.slopes, kPanel}, /*add=*/false);
    for (size_t column = 0; column < columns * lanes; column += lanes) {
      if (p_.softcap > 0) {
        differentiate<true>(panel + column, column, key, keys, masked);
      } else {
        differentiate<false>(panel + column, column, key, keys, masked);
      }
    }
    gemm<T>(keys, vectors_, count, {buffers_.weights, kPanel, 1},
            {buffers_.grad_out + rows_at, padded_}, {buffers_.grad_v + keys_at, padded_},
            /*add=*/true);
    gemm<T>(keys, vectors_, count, {buffers_.slopes, kPanel, 1},
            {buffers_.queries + rows_at, padded_}, {buffers_.grad_k + keys_at, padded_},
            /*add=*/true);
    gemm<T>(count, vectors_, keys, {buffers_.slopes, 1, kPanel}, {buffers_.keys + keys_at, padded_},
            {buffers_.grad_q + rows_at, padded_}, /*add=*/true);
  }

  // Scores to weights p, and V dOᵀ to ds, for one vector of rows.
  template <bool kSoftcap>
  void differentiate(size_t row, size_t column, int64_t key, size_t keys, bool masked) {
    const Tag<T> d;
    const Bounds<T> bounds{hn::LoadU(d, buffers_.first + row), hn::LoadU(d, buffers_.last + row)};
    const auto lse = hn::LoadU(d, buffers_.lse + row), delta = hn::LoadU(d, buffers_.delta + row);
    const auto cap = hn::Set(d, static_cast<T>(p_.softcap)),
               scale = hn::Set(d, static_cast<T>(p_.scale));
    for (size_t j = 0; j < keys; ++j) {
      T* const weight_at = buffers_.weights + j * kPanel + column;
      T* const slope_at = buffers_.slopes + j * kPanel + column;
      auto score = hn::Load(d, weight_at);
      auto factor = scale;
      if constexpr (kSoftcap) {
        const auto bent = hn::Tanh(d, score);
        factor = hn::NegMulAdd(hn::Mul(bent, bent), scale, scale);
        score = hn::Mul(cap, bent);
      }
      if (masked) score = bounds.mask(key + static_cast<int64_t>(j), score);
      const auto weight = exp_negative<T>(hn::Sub(score, lse));
      hn::Store(weight, d, weight_at);
      hn::Store(hn::Mul(hn::Mul(weight, factor), hn::Sub(hn::Load(d, slope_at), delta)), d,
                slope_at);
    }
  }

  BackwardBuffers<T> buffers_;
};

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::attention
HWY_AFTER_NAMESPACE();

#endif  // once per target
