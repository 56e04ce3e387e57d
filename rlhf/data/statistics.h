// What became of the rows: the table printed before training, so that nothing about the data is
// silent.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/json.h"

namespace rlhf {

/// How often something happened and where first.
struct Tally {
  int64_t count = 0;
  std::vector<std::string> examples;  ///< `train.jsonl:17`; kMostExamples at most

  static constexpr size_t kMostExamples = 3;
  void add(std::string_view where);
  void merge(const Tally& later);
  bool operator==(const Tally&) const = default;
};

/// Counts over an encoded set. Tokens are those that are kept.
struct Statistics {
  int64_t rows_read = 0;
  int64_t blank_lines = 0;
  int64_t rows = 0;  ///< kept
  int64_t tokens = 0;
  int64_t supervised_tokens = 0;  ///< that a position before them predicts: never a row's first
  int64_t longest = 0;            ///< tokens of the longest text: a row, or one of a pair's two
  /// Rows that supervise an end-of-sequence or end-of-turn token; none where rows end without one
  /// by design.
  std::optional<int64_t> eos_rows = 0;
  std::map<std::string, Tally> cut;      ///< reason to rows shortened
  std::map<std::string, Tally> dropped;  ///< reason to rows left out
  std::map<std::string, Tally> notices;  ///< what else is worth knowing

  /// Adds the counts of rows that come later.
  void merge(const Statistics& later);
  Json to_json() const;
  static Statistics from_json(const Json& json);
  bool operator==(const Statistics&) const = default;

  /// Lines for people, such as `EOS supervised in 7473/7473 rows`.
  std::string table() const;
};

}  // namespace rlhf
