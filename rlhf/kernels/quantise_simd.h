// The vector bodies behind quantise.h, on plain pointers: one block of n ≤ kQuantisedBlock
// numbers.
#pragma once

#include <cstdint>

#include "rlhf/kernels/dynamic_map.h"

namespace rlhf::simd {

/// out[i] = map[codes[i]] · absmax
void dequantise(const DynamicMap& map, const uint8_t* codes, float absmax, float* out, int64_t n);

/// codes[i] = the code nearest to x[i] / absmax; returns absmax = max |x|. Of a block of zeros that
/// is 0, and the codes are zero's.
float quantise(const DynamicMap& map, const float* x, uint8_t* codes, int64_t n);

}  // namespace rlhf::simd
