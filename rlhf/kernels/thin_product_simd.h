// The vector body behind thin_product.h, on plain pointers: columns [begin, end) of the result, so
// that the caller splits the work.
#pragma once

#include <cstdint>

namespace rlhf::simd {

struct ThinProduct {
  const float* x;  ///< (rows, depth), row r at x + r · x_stride
  int64_t x_stride;
  const float* weight;  ///< row n at weight + n · weight_stride
  int64_t weight_stride;
  float* out;  ///< element (r, n) at out + r · out_stride + n
  int64_t out_stride;
  int64_t rows;
  int64_t depth;
  float factor;
};

void thin_product(const ThinProduct& product, int64_t begin, int64_t end);

}  // namespace rlhf::simd
