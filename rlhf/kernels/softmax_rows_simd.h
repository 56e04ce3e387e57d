// The vector bodies behind softmax_rows.h, on plain pointers: rows [begin, end), so that the caller
// splits the work.
#pragma once

#include <cstdint>

namespace rlhf::simd {

template <class T>
struct LogitTile {
  T* z;  ///< row r starts at z + r · stride
  int64_t stride;
  int64_t width;
  int64_t first;  ///< vocabulary index of column 0
};

template <class T>
struct TransformArgs {
  LogitTile<T> tile;
  const T* bias;  ///< of column 0, or null
  T scale;
  T softcap;  ///< 0 for none
  T temperature;
};

template <class T>
struct StatsArgs {
  LogitTile<T> tile;
  const int64_t* targets;
  double* max;
  double* sum;
  double* target;
  double* centred;  ///< null: not wanted, as the next three
  double* squares;
  double* total;
  int64_t* argmax;
  T* rescale;  ///< not null: the tile is overwritten with the weights
  T cap_inverse;
};

template <class T>
struct GradientArgs {
  LogitTile<T> tile;
  T* out;
  int64_t out_stride;
  const int64_t* targets;
  const double* max;
  const double* sum;
  const double* onehot;
  const double* prob;
  const double* plogp;  ///< or null, as the next
  const double* constant;
  T factor;
  T cap_inverse;
};

void transform_logits(const TransformArgs<float>& args, int64_t begin, int64_t end);
void transform_logits(const TransformArgs<double>& args, int64_t begin, int64_t end);
void softmax_stats(const StatsArgs<float>& args, int64_t begin, int64_t end);
void softmax_stats(const StatsArgs<double>& args, int64_t begin, int64_t end);
void softmax_gradient(const GradientArgs<float>& args, int64_t begin, int64_t end);
void softmax_gradient(const GradientArgs<double>& args, int64_t begin, int64_t end);

}  // namespace rlhf::simd
