// The vector body behind thin_product.h, on plain pointers. The rows of x are laid beside each other
// first, as lanes of vectors; then columns [begin, end) of the result are made, so that the caller
// splits the work.
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

/// Tiles of columns, whatever the machine and the rows, fill this without a rest: cut the work at its
/// multiples.
inline constexpr int64_t kThinColumns = 48;

/// Floats that thin_pack writes.
int64_t thin_packed_floats(const ThinProduct& product);

void thin_pack(const ThinProduct& product, float* packed);

void thin_product(const ThinProduct& product, const float* packed, int64_t begin, int64_t end);

}  // namespace rlhf::simd
