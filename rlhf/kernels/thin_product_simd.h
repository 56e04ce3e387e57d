// The vector body behind thin_product.h, on plain pointers: columns [begin, end) of the result, so
// that the caller splits the work.
#pragma once

#include <cstdint>

namespace rlhf::simd {

struct ThinProduct {
  const float* x;       ///< (rows, depth)
  const float* weight;  ///< row n at weight + n · weight_stride
  int64_t weight_stride;
  float* out;  ///< (rows, columns)
  int64_t rows;
  int64_t columns;
  int64_t depth;
};

void thin_product(const ThinProduct& product, int64_t begin, int64_t end);

}  // namespace rlhf::simd
