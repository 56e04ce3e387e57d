#include "rlhf/train/stop_ids.h"

#include <algorithm>

namespace rlhf {
namespace {

/// `eos_token_id` of a JSON file of the folder: a number, a list or nothing.
std::vector<int32_t> eos_ids(const Json& config) {
  const auto found = config.find("eos_token_id");
  if (found == config.end()) return {};
  std::vector<int32_t> ids;
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    if (id.is_number_integer()) ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

std::vector<int32_t> find_stop_ids(const Model& model, const Tokenizer* tokenizer) {
  auto ids = eos_ids(generation_settings(model));
  if (ids.empty()) ids = eos_ids(model.config);
  if (tokenizer != nullptr) {
    if (const auto eos = tokenizer->eos_id();
        eos && std::find(ids.begin(), ids.end(), *eos) == ids.end()) {
      ids.push_back(*eos);
    }
  }
  return ids;
}

}  // namespace rlhf
