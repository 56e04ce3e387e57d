// What encoded sets of every method have in common: rows in a cache that is mapped into memory, the
// place each row came from, and a name for the content.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/data/cache.h"

namespace rlhf {

/// What a set holds.
struct Content {
  int32_t least = 0;        ///< smallest token id of all rows
  int32_t largest = 0;      ///< largest
  std::string fingerprint;  ///< hash of everything that rows hold, in order
};

/// Rows in a cache. The base of the sets of each method; cheap to copy, shared by threads.
class EncodedRows {
 public:
  int64_t rows() const { return cache_->rows(); }

  /// Where the row came from: `train.jsonl:17`.
  std::string source(int64_t row) const;

  /// Reads everything once.
  Content content() const;

 protected:
  /// `files`: names for source(). `id_columns`: names of the columns that hold token ids.
  EncodedRows(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files,
              std::span<const std::string_view> id_columns);
  ~EncodedRows() = default;
  EncodedRows(const EncodedRows&) = default;
  EncodedRows(EncodedRows&&) = default;
  EncodedRows& operator=(const EncodedRows&) = default;
  EncodedRows& operator=(EncodedRows&&) = default;

  const RaggedCache& cache() const { return *cache_; }

  /// length(row) of every row.
  template <class Length>
  std::vector<int64_t> of_every_row(Length length) const {
    std::vector<int64_t> lengths(static_cast<size_t>(rows()));
    for (int64_t row = 0; row < rows(); ++row) lengths[static_cast<size_t>(row)] = length(row);
    return lengths;
  }

 private:
  std::shared_ptr<const RaggedCache> cache_;
  std::vector<std::string> files_;
  std::vector<bool> holds_ids_;  // by column
  size_t source_;
};

}  // namespace rlhf
