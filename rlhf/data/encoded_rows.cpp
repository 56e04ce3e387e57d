#include "rlhf/data/encoded_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/core/file.h"
#include "rlhf/core/threads.h"

namespace rlhf {
namespace {

constexpr std::string_view kSource = "source";

template <class T>
std::string hash_of(std::span<const T> values) {
  return content_hash({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

}  // namespace

EncodedRows::EncodedRows(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files,
                         std::span<const std::string_view> id_columns)
    : cache_(std::move(cache)), files_(std::move(files)), source_(cache_->column(kSource)) {
  holds_ids_.resize(cache_->columns().size());
  for (const std::string_view name : id_columns) holds_ids_[cache_->column(name)] = true;
}

std::string EncodedRows::source(int64_t row) const {
  const auto place = cache_->int32s(source_, row);
  check(place.size() == 2 && static_cast<size_t>(place[0]) < files_.size(), "cache",
        "row {} has no source.", row);
  return fmt::format("{}:{}", files_[static_cast<size_t>(place[0])], place[1]);
}

Content EncodedRows::content() const {
  const Content nothing{.least = std::numeric_limits<int32_t>::max(),
                        .largest = std::numeric_limits<int32_t>::min(),
                        .fingerprint = ""};
  std::vector<Content> contents(static_cast<size_t>(rows()), nothing);
  const auto add = [&](Content& content, size_t column, int64_t row) {
    if (cache_->columns()[column].type == ColumnType::uint8) {
      content.fingerprint += hash_of(cache_->bytes(column, row));
      return;
    }
    const auto values = cache_->int32s(column, row);
    content.fingerprint += hash_of(values);
    if (!holds_ids_[column]) return;
    for (const int32_t value : values) {
      content.least = std::min(content.least, value);
      content.largest = std::max(content.largest, value);
    }
  };
  parallel_pieces(rows(), /*grain=*/256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (size_t column = 0; column < cache_->columns().size(); ++column) {
        if (column != source_) add(contents[static_cast<size_t>(row)], column, row);
      }
    }
  });
  Content all = nothing;
  std::string hashes;
  for (const Content& content : contents) {
    all.least = std::min(all.least, content.least);
    all.largest = std::max(all.largest, content.largest);
    hashes += content.fingerprint;
  }
  all.fingerprint = content_hash(hashes);
  return all;
}

}  // namespace rlhf
