// Encoded rows on disk: named columns of int32 or uint8 values, a run of values for each row,
// mapped into memory. A set larger than memory trains; a second start costs one open.
//
// A cache is a folder named by the hash of everything its content depends on (a JSON value: the
// *key*), so a cache of other data, another tokenizer or another option is never found, let alone
// used. It is built in shards, in parallel; each is written whole or not at all, and the folder
// gets its name when all are there. After a kill the next build keeps the finished shards.
// Processes that build the same cache wait for the first.
//
//   FOLDER/<hash>/manifest.json    format, key, columns, rows and note of each shard
//   FOLDER/<hash>/000000.shard     one shard:
//     header   magic, version, rows, columns, file size, hash of the payload, hash of this header
//     column   name, element size, position of its offsets, position and number of its values
//     payload  per column: uint64 offsets (rows + 1), then the values, each padded to 64 bytes
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"

namespace rlhf {

enum class ColumnType : uint32_t { int32 = 4, uint8 = 1 };  // value: bytes of an element

struct ColumnSpec {
  std::string name;  ///< at most 23 characters
  ColumnType type;
};

/// The rows of one shard while it is built, in memory.
class ShardBuilder {
 public:
  explicit ShardBuilder(const std::vector<ColumnSpec>& columns);

  /// Sets column `column` (by position) of the row being built.
  void put(size_t column, std::span<const int32_t> values);
  void put(size_t column, std::span<const uint8_t> values);
  /// Ends the row; a column that was not put is empty.
  void end_row();
  /// A JSON value kept in the manifest for the shard.
  void set_note(Json note) { note_ = std::move(note); }

  int64_t rows() const { return rows_; }
  const Json& note() const { return note_; }
  /// The shard's file.
  std::string bytes() const;

 private:
  struct Column {
    ColumnSpec spec;
    std::vector<uint64_t> offsets{0};
    std::string values;
  };
  void append(size_t column, ColumnType type, const void* values, size_t count);

  std::vector<Column> columns_;
  int64_t rows_ = 0;
  Json note_;
};

/// A finished cache, open for reading by any number of threads.
class RaggedCache {
 public:
  /// Opens FOLDER. UserError when a file is missing, cut or damaged: everything is read once and
  /// compared with its hash.
  explicit RaggedCache(const fs::path& folder);

  int64_t rows() const { return rows_; }
  const std::vector<ColumnSpec>& columns() const { return columns_; }
  /// Position of a column. Error when there is none of that name.
  size_t column(std::string_view name) const;
  std::span<const int32_t> int32s(size_t column, int64_t row) const;
  std::span<const uint8_t> bytes(size_t column, int64_t row) const;
  /// Number of values.
  int64_t length(size_t column, int64_t row) const;
  /// The shards' notes in order.
  const std::vector<Json>& notes() const { return notes_; }

 private:
  struct View {
    const uint64_t* offsets;
    const std::byte* values;
    uint64_t count;
  };
  struct Shard {
    MappedFile file;
    int64_t begin;  ///< number of its first row
    std::vector<View> columns;
  };
  struct Slice {
    const std::byte* values;
    size_t count;
  };
  Slice slice(size_t column, int64_t row) const;
  void open_shard(const fs::path& path, int64_t rows);

  std::vector<ColumnSpec> columns_;
  std::vector<Shard> shards_;
  std::vector<Json> notes_;
  int64_t rows_ = 0;
};

/// Fills one shard; called from several threads, for several shards at once. False means that the
/// shard must not be kept (a bad row): the build goes through the remaining shards and then gives
/// up.
using ShardFill = std::function<bool(int64_t shard, ShardBuilder& builder)>;

/// What a cache depends on and consists of.
struct CacheRecipe {
  fs::path folder;  ///< holds caches of many keys
  Json key;
  std::vector<ColumnSpec> columns;
};

/// The cache of that key if it is there, else nullptr. A damaged one counts as absent, with a
/// warning.
std::shared_ptr<const RaggedCache> find_cache(const CacheRecipe& recipe);

/// find_cache(), else builds it. nullptr when a shard was refused. What `fill` throws goes through;
/// finished shards stay for the next build. UserError when the disk is full.
std::shared_ptr<const RaggedCache> build_cache(const CacheRecipe& recipe, int64_t shards,
                                               const ShardFill& fill);

}  // namespace rlhf
