// Reading the objects of tokenizer.json: every wrong field is collected, none stops the reading.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// One JSON object and the name under which its problems are reported.
class JsonFields {
 public:
  /// Adds a problem when `value` is no object; every field then reads as absent.
  JsonFields(const Json& value, std::string where, Problems& problems);

  const std::string& where() const { return where_; }
  Problems& problems() const { return problems_; }

  /// The field, or nullptr when absent or null.
  const Json* find(std::string_view key) const;
  /// As find, with a problem when absent or null.
  const Json* require(std::string_view key) const;

  bool boolean(std::string_view key, bool fallback) const;
  int64_t integer(std::string_view key, int64_t fallback, int64_t low, int64_t high) const;
  std::string text(std::string_view key, std::string_view fallback = "") const;
  std::string required_text(std::string_view key) const;
  /// The elements of an array field, with names such as `normalizer.normalizers[2]`; at most
  /// `kMaxDepth` deep.
  std::vector<JsonFields> list(std::string_view key) const;

  void problem(std::string what, std::string hint = "") const {
    problems_.add(where_, std::move(what), std::move(hint));
  }

 private:
  const Json& value_;
  std::string where_;
  Problems& problems_;
};

/// Parts of tokenizer.json nest (Sequence in Sequence); deeper than this is refused.
inline constexpr int kMaxDepth = 32;

}  // namespace rlhf
