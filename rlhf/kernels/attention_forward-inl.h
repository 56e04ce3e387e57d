// The forward pass of the attention kernel (see attention_kernel.h). Included once per vector
// target.
#if defined(RLHF_KERNELS_ATTENTION_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RLHF_KERNELS_ATTENTION_FORWARD_INL_H_
#undef RLHF_KERNELS_ATTENTION_FORWARD_INL_H_
#else
#define RLHF_KERNELS_ATTENTION_FORWARD_INL_H_
#endif

#include "rlhf/kernels/attention_tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace rlhf::attention {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
class ForwardTask : TaskBase<T> {
 public:
  ForwardTask(const Problem<T>& problem, const Plan& plan, const Task& task, int64_t key_head,
              T* scratch)
      : TaskBase<T>(problem, plan, task, key_head), buffers_(problem.shape, Arena<T>(scratch)) {}

  void run() {
    const size_t count = this->rows(task_.query_end - task_.query_begin);
    std::fill_n(buffers_.maximum, count + kPanel, static_cast<T>(kFloor));
    std::fill_n(buffers_.sum, count + kPanel, T{0});
    std::fill_n(buffers_.out, count * padded_, T{0});
    std::fill_n(buffers_.zeros, padded_, T{0});
    for (int64_t i = task_.first_piece; i < task_.last_piece; ++i)
      add_piece(plan_.pieces[static_cast<size_t>(i)]);
    finish(count);
  }

 private:
  using TaskBase<T>::p_, TaskBase<T>::plan_, TaskBase<T>::task_, TaskBase<T>::head_,
      TaskBase<T>::width_, TaskBase<T>::padded_, TaskBase<T>::vectors_, TaskBase<T>::ranges_;

  void add_piece(const Piece& piece) {
    const size_t count = this->rows(piece.query_end - piece.query_begin);
    const size_t row0 = this->rows(piece.query_begin - task_.query_begin);
    int64_t begin = piece.key_end - piece.key_begin, end = 0;
    for (size_t panel = 0; panel < count; panel += kPanel) {
      const Range& range = ranges_[panel / kPanel] =
          pack_queries(piece, panel, std::min(kPanel, count - panel));
      begin = std::min(begin, range.begin);
      end = std::max(end, range.end);
    }
    // Blocks of keys stand on a grid that starts with the segment: where the maximum moves is part
    // of the result's bits.
    for (int64_t key = begin / kForwardKeys * kForwardKeys; key < end; key += kForwardKeys) {
      const int64_t key_end = std::min(key + kForwardKeys, end);
      copy_keys(piece, key, key_end);
      for (size_t panel = 0; panel < count; panel += kPanel) {
        const Range& range = ranges_[panel / kPanel];
        const int64_t stop = std::min(key_end, range.end);
        if (range.begin < key_end && key < stop) {
          add_tile(panel, row0 + panel, std::min(kPanel, count - panel), key,
                   static_cast<size_t>(stop - key), range.masks(key, stop));
        }
      }
    }
  }

  Range pack_queries(const Piece& piece, size_t panel, size_t count) {
    const T* rows[kPanel];
    for (size_t r = 0; r < kPanel; ++r) {
      rows[r] = r < count ? p_.q.row(this->token(piece.query_begin, panel + r),
                                     this->query_head(panel + r))
                          : buffers_.zeros;
    }
    transpose_panel(rows, width_, this->query_factor(), buffers_.queries + panel * padded_);
    return this->visible(piece, panel, count, buffers_.first + panel, buffers_.last + panel);
  }

  void copy_keys(const Piece& piece, int64_t key, int64_t key_end) {
    for (int64_t j = key; j < key_end; ++j) {
      const size_t at = static_cast<size_t>(j - key) * padded_;
      copy_row(p_.k.row(piece.key_begin + j, head_), width_, padded_, buffers_.keys + at);
      copy_row(p_.v.row(piece.key_begin + j, head_), width_, padded_, buffers_.values + at);
    }
  }

  // `count` rows, at row0 of the task, against `keys` keys from `key` on.
  void add_tile(size_t panel, size_t row0, size_t count, int64_t key, size_t keys, bool masked) {
    const size_t lanes = hn::Lanes(Tag<T>());
    const size_t columns = (count + lanes - 1) / lanes;
    gemm<T>(keys, columns, width_, {buffers_.keys, padded_, 1},
            {buffers_.queries + panel * padded_, kPanel}, {buffers_.scores, kPanel}, /*add=*/false);
    for (size_t column = 0; column < columns * lanes; column += lanes) {
      cap_and_mask(panel + column, column, key, keys, masked);
      soften(row0 + column, column, keys);
    }
    T* const out = buffers_.out + row0 * padded_;
    for (size_t r = 0; r < count; ++r) {
      const T decay = buffers_.decay[r];
      if (decay == T{1}) continue;
      for (size_t i = 0; i < padded_; ++i) out[r * padded_ + i] *= decay;
    }
    gemm<T>(count, vectors_, keys, {buffers_.scores, 1, kPanel}, {buffers_.values, padded_},
            {out, padded_},
            /*add=*/true);
  }

  void cap_and_mask(size_t row, size_t column, int64_t key, size_t keys, bool masked) {
    const Tag<T> d;
    if (p_.softcap > 0) {
      const auto cap = hn::Set(d, static_cast<T>(p_.softcap));
      for (size_t j = 0; j < keys; ++j) {
        T* const at = buffers_.scores + j * kPanel + column;
        hn::Store(hn::Mul(cap, hn::Tanh(d, hn::Load(d, at))), d, at);
      }
    }
    if (masked) {
      const Bounds<T> bounds{hn::LoadU(d, buffers_.first + row), hn::LoadU(d, buffers_.last + row)};
      for (size_t j = 0; j < keys; ++j) {
        T* const at = buffers_.scores + j * kPanel + column;
        hn::Store(bounds.mask(key + static_cast<int64_t>(j), hn::Load(d, at)), d, at);
      }
    }
  }

  // Scores of one vector of rows to weights, and their running maximum and sum. Rows that pad a
  // panel stand where another piece's rows may: all they see is masked, which leaves maximum and
  // sum as they are.
  void soften(size_t row, size_t column, size_t keys) {
    const Tag<T> d;
    const auto before = hn::LoadU(d, buffers_.maximum + row);
    auto maximum = before;
    for (size_t j = 0; j < keys; ++j) {
      maximum = hn::Max(maximum, hn::Load(d, buffers_.scores + j * kPanel + column));
    }
    const auto decay = exp_negative<T>(hn::Sub(before, maximum));
    auto sum = hn::Mul(hn::LoadU(d, buffers_.sum + row), decay);
    for (size_t j = 0; j < keys; ++j) {
      T* const at = buffers_.scores + j * kPanel + column;
      const auto weight = exp_negative<T>(hn::Sub(hn::Load(d, at), maximum));
      sum = hn::Add(sum, weight);
      hn::Store(weight, d, at);
    }
    hn::StoreU(maximum, d, buffers_.maximum + row);
    hn::StoreU(sum, d, buffers_.sum + row);
    hn::Store(decay, d, buffers_.decay + column);
  }

  void finish(size_t count) {
    const Tag<T> d;
    for (size_t r = 0; r < count; r += hn::Lanes(d)) {
      const auto sum = hn::LoadU(d, buffers_.sum + r);
      hn::StoreU(hn::Add(hn::LoadU(d, buffers_.maximum + r), hn::Log(d, sum)), d,
                 buffers_.maximum + r);
    }
    for (size_t r = 0; r < count; ++r) {
      const int64_t token = this->token(task_.query_begin, r), head = this->query_head(r);
      const T factor = T{1} / buffers_.sum[r];
      const T* const from = buffers_.out + r * padded_;
      T* const to = p_.out.row(token, head);
      for (size_t i = 0; i < width_; ++i) to[i] = from[i] * factor;
      p_.lse[token * p_.shape.query_heads + head] = buffers_.maximum[r];
    }
  }

  ForwardBuffers<T> buffers_;
};

}  // namespace HWY_NAMESPACE
}  // namespace rlhf::attention
HWY_AFTER_NAMESPACE();

#endif  // once per target
