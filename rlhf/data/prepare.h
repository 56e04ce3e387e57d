// From files to a cache of encoded rows: what the sets of every method share. Files are resolved
// and hashed and the cache is looked up by its key; where there is none, all rows are read, checked
// and encoded in shards, in parallel and in bounded memory. Bad rows are all found before any is
// reported.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/data/cache.h"
#include "rlhf/data/encode.h"
#include "rlhf/data/source.h"
#include "rlhf/data/statistics.h"

namespace rlhf {

/// Names the tokenizer and template by content, for the cache's key: a hash of tokenizer.json(.gz),
/// tokenizer_config.json, special_tokens_map.json and config.json of a model folder (those that
/// exist) and of the template's source.
std::string text_fingerprint(const fs::path& model_folder, std::string_view template_source);

/// Where rows that are kept go: a shard of the cache, with a column more, `source`.
class RowSink {
 public:
  /// `file_numbers`: of the files that rows come from.
  RowSink(ShardBuilder& builder, size_t source_column,
          const std::map<std::string, int32_t>& file_numbers)
      : builder_(builder), source_(source_column), file_numbers_(file_numbers) {}

  void put(size_t column, std::span<const int32_t> values) { builder_.put(column, values); }
  void put(size_t column, std::span<const uint8_t> values) { builder_.put(column, values); }
  /// Ends the row, which comes from `where`: FILE:LINE.
  void end_row(const std::string& where);

 private:
  ShardBuilder& builder_;
  size_t source_;
  const std::map<std::string, int32_t>& file_numbers_;
};

/// Encodes the rows of one shard, in order, on one thread.
class RowEncoder {
 public:
  RowEncoder() = default;
  RowEncoder(const RowEncoder&) = delete;
  RowEncoder& operator=(const RowEncoder&) = delete;
  virtual ~RowEncoder() = default;

  /// Encodes a row that was read and checked; what is kept goes into `sink`, what became of the row
  /// into `statistics`. UserError when it is bad; then nothing was put.
  virtual void encode(const Record& record, const Schema& schema, RowSink& sink,
                      Statistics& statistics) = 0;
  /// Called behind every block of PrepareRecipe::block_rows rows, good or bad, and behind the last.
  virtual void end_block(RowSink& /*sink*/) {}
};

/// What a method makes of rows.
struct PrepareRecipe {
  std::string_view method;          ///< part of the key
  int version;                      ///< of what a row becomes; part of the key
  Json options;                     ///< everything rows depend on; part of the key
  std::vector<ColumnSpec> columns;  ///< without `source`
  std::span<const RowType> wanted;
  OnBadRow on_bad_row = OnBadRow::error;
  int64_t block_rows = 1;  ///< see RowEncoder::end_block(); shards hold whole blocks
  /// What the options ask of rows that cannot give it. Throws UserError.
  std::function<void(std::span<const Schema>)> check_schemas;
  /// An encoder for a shard.
  std::function<std::unique_ptr<RowEncoder>()> encoder;
};

/// A cache, and the names of the files that its rows come from.
struct PreparedRows {
  std::shared_ptr<const RaggedCache> cache;
  std::vector<std::string> files;
};

/// Finds the cache or builds it. `statistics` may be null. UserError lists every bad row, unless
/// bad rows are dropped, and says so when no row is left.
PreparedRows prepare_rows(const DataSpec& spec, std::string_view fingerprint,
                          const PrepareRecipe& recipe, const fs::path& cache_folder,
                          Statistics* statistics);

/// Reasons in the statistics: `longer than max_length (8)`, and what follows from it.
std::string longer_than(int64_t max_length);
std::string nothing_left_within(int64_t max_length);

/// `the rows are of type preference (text)`.
std::string rows_are(const Schema& schema);

/// Adds a problem where rows are conversational and the model has no chat template.
void require_chat(const Schema& schema, bool has_chat, Problems& problems);

}  // namespace rlhf
