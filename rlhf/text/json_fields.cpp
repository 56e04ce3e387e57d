#include "rlhf/text/json_fields.h"

#include "rlhf/text/unicode.h"

namespace rlhf {

JsonFields::JsonFields(const Json& value, std::string where, Problems& problems)
    : value_(value), where_(std::move(where)), problems_(problems) {
  if (!value_.is_object()) {
    problem(fmt::format("an object was expected, got {}.", value_.type_name()));
  }
}

const Json* JsonFields::find(std::string_view key) const {
  if (!value_.is_object()) {
    return nullptr;
  }
  const auto found = value_.find(key);
  return found == value_.end() || found->is_null() ? nullptr : &*found;
}

const Json* JsonFields::require(std::string_view key) const {
  const Json* const found = find(key);
  if (found == nullptr && value_.is_object()) {
    problem(fmt::format("`{}` is missing.", key));
  }
  return found;
}

bool JsonFields::boolean(std::string_view key, bool fallback) const {
  const Json* const found = find(key);
  if (found == nullptr) {
    return fallback;
  }
  if (!found->is_boolean()) {
    problem(fmt::format("`{}` must be true or false, got {}.", key, found->type_name()));
    return fallback;
  }
  return found->get<bool>();
}

int64_t JsonFields::integer(std::string_view key, int64_t fallback, int64_t low,
                            int64_t high) const {
  const Json* const found = find(key);
  if (found == nullptr) {
    return fallback;
  }
  if (!found->is_number_integer() ||
      (found->is_number_unsigned() && found->get<uint64_t>() > INT64_MAX) ||
      found->get<int64_t>() < low || found->get<int64_t>() > high) {
    problem(fmt::format("`{}` must be a whole number from {} to {}, got {}.", key, low, high,
                        found->dump()));
    return fallback;
  }
  return found->get<int64_t>();
}

std::string JsonFields::text(std::string_view key, std::string_view fallback) const {
  const Json* const found = find(key);
  if (found == nullptr) {
    return std::string(fallback);
  }
  if (!found->is_string()) {
    problem(fmt::format("`{}` must be a string, got {}.", key, found->type_name()));
    return std::string(fallback);
  }
  const auto& value = found->get_ref<const std::string&>();
  if (!valid_utf8(value)) {
    problem(fmt::format("`{}` is not valid UTF-8.", key));
    return std::string(fallback);
  }
  return value;
}

std::string JsonFields::required_text(std::string_view key) const {
  return require(key) == nullptr ? std::string() : text(key);
}

std::vector<JsonFields> JsonFields::list(std::string_view key) const {
  std::vector<JsonFields> out;
  const Json* const found = require(key);
  if (found == nullptr) {
    return out;
  }
  if (!found->is_array()) {
    problem(fmt::format("`{}` must be an array, got {}.", key, found->type_name()));
    return out;
  }
  out.reserve(found->size());
  for (size_t i = 0; i < found->size(); ++i) {
    out.emplace_back((*found)[i], fmt::format("{}.{}[{}]", where_, key, i), problems_);
  }
  return out;
}

}  // namespace rlhf
