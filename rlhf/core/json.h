// One JSON type for the whole project. Object keys keep their order: `tojson` in a chat template
// and the files this project writes depend on it.
#pragma once

#include <nlohmann/json.hpp>

namespace rlhf {

using Json = nlohmann::ordered_json;

}  // namespace rlhf
