#include "rlhf/models/config_reader.h"

#include <algorithm>
#include <cmath>

namespace rlhf {
namespace {

/// A value as it may stand in a message.
std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  auto text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return text;
}

const Json& empty_object() {
  static const Json empty = Json::object();
  return empty;
}

}  // namespace

const Json* ConfigReader::find(const char* key) const {
  if (!object_.is_object()) return nullptr;
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

bool ConfigReader::has(const char* key) const { return find(key) != nullptr; }

bool ConfigReader::is_null(const char* key) const {
  return object_.is_object() && object_.contains(key) && object_[key].is_null();
}

void ConfigReader::problem(const char* key, std::string what, std::string hint) const {
  problems_.add(fmt::format("{}: {}", where_, key), std::move(what), std::move(hint));
}

void ConfigReader::missing(const char* key, const char* expected) const {
  problem(key, fmt::format("{} was expected, the key is missing.", expected));
}

void ConfigReader::mistyped(const char* key, const Json& value, const char* expected) const {
  problem(key, fmt::format("{} was expected, got {}.", expected, shown(value)));
}

int64_t ConfigReader::integer(const char* key, std::optional<int64_t> fallback, int64_t low,
                              int64_t high) const {
  const Json* value = find(key);
  const int64_t harmless = fallback.value_or(low);
  if (value == nullptr) {
    if (!fallback) missing(key, "an integer");
    return harmless;
  }
  const bool fits =
      value->is_number_integer() &&
      (!value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits || value->get<int64_t>() < low || value->get<int64_t>() > high) {
    mistyped(key, *value, fmt::format("an integer from {} to {}", low, high).c_str());
    return harmless;
  }
  return value->get<int64_t>();
}

double ConfigReader::number(const char* key, std::optional<double> fallback, double low,
                            double high) const {
  const Json* value = find(key);
  const double harmless = fallback.value_or(low);
  if (value == nullptr) {
    if (!fallback) missing(key, "a number");
    return harmless;
  }
  const double got = value->is_number() ? value->get<double>() : std::nan("");
  if (!std::isfinite(got) || got < low || got > high) {
    mistyped(key, *value, fmt::format("a number from {} to {}", low, high).c_str());
    return harmless;
  }
  return got;
}

bool ConfigReader::boolean(const char* key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    mistyped(key, *value, "true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::string ConfigReader::text(const char* key, std::optional<std::string> fallback) const {
  const Json* value = find(key);
  if (value == nullptr) {
    if (!fallback) missing(key, "a text");
    return fallback.value_or("");
  }
  if (!value->is_string()) {
    mistyped(key, *value, "a text");
    return fallback.value_or("");
  }
  return value->get<std::string>();
}

std::string ConfigReader::first_text(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return "";
  if (!value->is_array() || (!value->empty() && !value->front().is_string())) {
    mistyped(key, *value, "a list of texts");
    return "";
  }
  return value->empty() ? "" : value->front().get<std::string>();
}

int64_t ConfigReader::entries(const char* key) const {
  const Json* value = find(key);
  if (value == nullptr) return 0;
  if (!value->is_object()) mistyped(key, *value, "an object");
  return value->is_object() ? std::ssize(*value) : 0;
}

std::vector<double> ConfigReader::numbers(const char* key, size_t size) const {
  std::vector<double> harmless(size, 1.0);
  const Json* value = find(key);
  const auto expected = fmt::format("a list of {} positive numbers", size);
  if (value == nullptr) {
    missing(key, expected.c_str());
    return harmless;
  }
  const auto positive = [](const Json& one) { return one.is_number() && one.get<double>() > 0.0; };
  if (!value->is_array() || value->size() != size ||
      !std::all_of(value->begin(), value->end(), positive)) {
    mistyped(key, *value, expected.c_str());
    return harmless;
  }
  return value->get<std::vector<double>>();
}

ConfigReader ConfigReader::object(const char* key) const {
  const Json* value = find(key);
  const bool usable = value != nullptr && value->is_object();
  if (value != nullptr && !usable) mistyped(key, *value, "an object");
  return {usable ? *value : empty_object(), fmt::format("{}: {}", where_, key), problems_};
}

std::optional<std::vector<std::string>> ConfigReader::texts(const char* key, size_t size) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto is_text = [](const Json& one) { return one.is_string(); };
  if (!value->is_array() || value->size() != size ||
      !std::all_of(value->begin(), value->end(), is_text)) {
    mistyped(key, *value, fmt::format("a list of {} texts", size).c_str());
    return std::nullopt;
  }
  return value->get<std::vector<std::string>>();
}

void ConfigReader::require_neutral(const char* key, const Json& neutral,
                                   const std::string& meaning) const {
  const Json* value = find(key);
  if (value == nullptr || *value == neutral) return;
  problem(key, fmt::format("{} is not supported, got {}.", meaning, shown(*value)),
          "use a model without it.");
}

}  // namespace rlhf
