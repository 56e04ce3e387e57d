// One JSON type for the whole project. Object keys keep their order: `tojson` in a chat template
// and the files this project writes depend on it.
#pragma once

#include <limits>
#include <nlohmann/json.hpp>

namespace rlhf {

using Json = nlohmann::ordered_json;

/// The number that `value` is; NaN for null, which is how JSON text holds what is not finite.
inline double number_or_nan(const Json& value) {
  return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
}

}  // namespace rlhf
