// Typed access to the keys of a config.json: what is missing, of the wrong type or out of range
// becomes a problem.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// Without a fallback a key is required. A null counts as absent. After a problem the reader goes
/// on with a harmless value.
class ConfigReader {
 public:
  ConfigReader(const Json& object, std::string where, Problems& problems)
      : object_(object), where_(std::move(where)), problems_(problems) {}

  bool has(const char* key) const;
  /// The key is there and says null; for the few keys where that differs from a missing one.
  bool is_null(const char* key) const;
  int64_t integer(const char* key, std::optional<int64_t> fallback, int64_t low,
                  int64_t high) const;
  /// A finite number in [low, high].
  double number(const char* key, std::optional<double> fallback, double low, double high) const;
  bool boolean(const char* key, bool fallback) const;
  std::string text(const char* key, std::optional<std::string> fallback) const;
  /// The first of the texts under `key`; empty where there is none.
  std::string first_text(const char* key) const;
  /// How many keys the object under `key` has; 0 where it is absent.
  int64_t entries(const char* key) const;
  /// Exactly `size` positive numbers.
  std::vector<double> numbers(const char* key, size_t size) const;
  /// The object under `key`, to be read in turn; an empty one where it is absent.
  ConfigReader object(const char* key) const;
  /// The array of texts under `key`, exactly `size` of them; nothing where it is absent.
  std::optional<std::vector<std::string>> texts(const char* key, size_t size) const;

  /// A problem unless the key is absent, null or `neutral`.
  void require_neutral(const char* key, const Json& neutral, const std::string& meaning) const;

  void problem(const char* key, std::string what, std::string hint = "") const;
  /// Of the whole collection: where it grows between two moments, something read meanwhile is wrong.
  size_t problems() const { return problems_.count(); }
  const std::string& where() const { return where_; }

 private:
  const Json* find(const char* key) const;
  void missing(const char* key, const char* expected) const;
  void mistyped(const char* key, const Json& value, const char* expected) const;

  const Json& object_;
  std::string where_;
  Problems& problems_;
};

}  // namespace rlhf
