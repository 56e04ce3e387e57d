#include "rlhf/kernels/dynamic_map.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

std::array<float, 256> values_of(bool is_signed) {
  std::vector<float> all = {0.0F, 1.0F};
  for (size_t i = 0; i < 7; ++i) {
    const int fractions = 1 << (is_signed ? i : i + 1);
    for (int k = 0; k < fractions; ++k) {
      const float fraction = (static_cast<float>(k) + 0.5F) / static_cast<float>(fractions);
      const float value = DynamicMap::kDecades[i] * std::fma(0.9F, fraction, 0.1F);
      all.push_back(value);
      if (is_signed) all.push_back(-value);
    }
  }
  std::sort(all.begin(), all.end());
  std::array<float, 256> values{};
  check(all.size() == values.size(), "dynamic_map", "256 values were expected, got {}.",
        all.size());
  std::copy(all.begin(), all.end(), values.begin());
  return values;
}

/// The largest float that is not above the middle, which is exact in double.
float bound_between(float low, float high) {
  const double middle = (static_cast<double>(low) + static_cast<double>(high)) / 2;
  const auto rounded = static_cast<float>(middle);
  return static_cast<double>(rounded) <= middle
             ? rounded
             : std::nextafter(rounded, -std::numeric_limits<float>::infinity());
}

/// One cell: numbers of one sign that share their bits above the shift.
int32_t cell_of(const DynamicMap& map, int32_t cell, int shift, bool negative) {
  const auto code = [&](int32_t low) {
    const float size = std::bit_cast<float>((cell << shift) | low);
    return static_cast<int32_t>(map.nearest(negative ? -size : size));
  };
  const int32_t most = (1 << shift) - 1;
  const int32_t start = code(0);
  check(std::abs(code(most) - start) <= 1, "dynamic_map", "a cell holds more than one bound.");
  int32_t last = most;
  if (code(most) != start) {
    int32_t beyond = most;
    last = 0;
    while (beyond - last > 1) {
      const int32_t middle = last + (beyond - last) / 2;
      (code(middle) == start ? last : beyond) = middle;
    }
  }
  return (last << 8) | start;
}

DynamicMap make(bool is_signed) {
  DynamicMap map{.is_signed = is_signed, .values = values_of(is_signed), .cells = {}};
  for (size_t i = 0; i + 1 < map.values.size(); ++i)
    map.bounds[i] = bound_between(map.values[i], map.values[i + 1]);
  map.bounds.back() = std::numeric_limits<float>::infinity();
  const int shift = DynamicMap::shift(is_signed);
  for (const bool negative : {false, true}) {
    if (negative && !is_signed) break;
    for (int32_t cell = first_cell(shift); cell <= last_cell(shift); ++cell)
      map.cells.push_back(cell_of(map, cell, shift, negative));
  }
  return map;
}

}  // namespace

uint8_t DynamicMap::nearest(float u) const {
  const auto found = std::lower_bound(bounds.begin(), bounds.end() - 1, u);
  return static_cast<uint8_t>(found - bounds.begin());
}

const DynamicMap& signed_dynamic_map() {
  static const DynamicMap map = make(/*is_signed=*/true);
  return map;
}

const DynamicMap& unsigned_dynamic_map() {
  static const DynamicMap map = make(/*is_signed=*/false);
  return map;
}

}  // namespace rlhf
