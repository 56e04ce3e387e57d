#include "rlhf/data/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/core/threads.h"

namespace rlhf {
namespace {

constexpr std::array<char, 8> kMagic = {'R', 'L', 'H', 'F', 'R', 'A', 'G', '\n'};
constexpr uint32_t kVersion = 1;
constexpr size_t kAlignment = 64;
constexpr size_t kHashBytes = 32;
constexpr std::string_view kManifest = "manifest.json";

struct Header {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t columns;
  uint64_t rows;
  uint64_t file_size;
  std::array<char, kHashBytes> payload_hash;
  std::array<char, kHashBytes>
      header_hash;  // of the header and the column table, with this field zero
};

struct ColumnHeader {
  std::array<char, 24> name;
  uint32_t element_size;
  uint32_t unused;
  uint64_t offsets_at;
  uint64_t values_at;
  uint64_t count;
};

static_assert(sizeof(Header) == 96 && sizeof(ColumnHeader) == 56);

size_t aligned(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

std::array<char, kHashBytes> hash_array(std::string_view bytes) {
  std::array<char, kHashBytes> hash{};
  const std::string text = content_hash(bytes);
  std::copy_n(text.begin(), kHashBytes, hash.begin());
  return hash;
}

std::array<char, kHashBytes> hash_header(Header header, std::string_view table) {
  header.header_hash = {};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(table);
  return hash_array(bytes);
}

size_t table_end(uint64_t columns) { return sizeof(Header) + columns * sizeof(ColumnHeader); }

std::string_view column_name(const ColumnHeader& column) {
  return {column.name.data(), strnlen(column.name.data(), column.name.size())};
}

/// The header of a shard's bytes; UserError when they are not what was written.
Header read_header(std::string_view bytes, const fs::path& path) {
  const auto refuse = [&](std::string_view what) {
    throw UserError(path.string(), fmt::format("a complete cache file was expected: {}.", what),
                    "remove the folder; it will be built again.");
  };
  Header header{};
  if (bytes.size() < sizeof(header)) refuse("it is too short");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) refuse("it begins differently");
  if (header.version != kVersion)
    refuse(fmt::format("it has format {}, this program {}", header.version, kVersion));
  if (header.file_size != bytes.size()) {
    refuse(fmt::format("it has {} bytes of {}", bytes.size(), header.file_size));
  }
  if (table_end(header.columns) > bytes.size() ||
      hash_header(header, bytes.substr(sizeof(header), table_end(header.columns) -
                                                           sizeof(header))) != header.header_hash) {
    refuse("its header is damaged");
  }
  return header;
}

ColumnHeader read_column(std::string_view bytes, size_t index) {
  ColumnHeader column{};
  std::memcpy(&column, bytes.data() + table_end(index), sizeof(column));
  return column;
}

/// An exclusive lock on a file, for as long as the object lives; other processes wait.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) {
    const fs::path path = folder / "lock";
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) throw_write_error(path, errno);
    while (::flock(fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

fs::path shard_path(const fs::path& folder, int64_t shard) {
  return folder / fmt::format("{:06}.shard", shard);
}
fs::path note_path(const fs::path& folder, int64_t shard) {
  return folder / fmt::format("{:06}.note", shard);
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw_write_error(folder, error.value());
}

/// Whether an earlier build left this shard complete.
bool is_finished(const fs::path& folder, int64_t shard) {
  const fs::path path = shard_path(folder, shard);
  if (!fs::exists(path) || !fs::exists(note_path(folder, shard))) return false;
  try {
    const MappedFile file(path);
    const Header header = read_header(file.text(), path);
    return hash_array(file.text().substr(table_end(header.columns))) == header.payload_hash;
  } catch (const UserError&) {
    return false;
  }
}

void write_manifest(const fs::path& folder, const CacheRecipe& recipe, int64_t shards) {
  Json columns = Json::array();
  for (const auto& column : recipe.columns) {
    columns.push_back(
        {{"name", column.name}, {"element_size", static_cast<uint32_t>(column.type)}});
  }
  Json list = Json::array();
  for (int64_t i = 0; i < shards; ++i) list.push_back(Json::parse(read_file(note_path(folder, i))));
  const Json manifest = {
      {"format", kVersion}, {"key", recipe.key}, {"columns", columns}, {"shards", list}};
  write_file(folder / kManifest, manifest.dump(1) + "\n");
  for (int64_t i = 0; i < shards; ++i) fs::remove(note_path(folder, i));
}

fs::path cache_path(const CacheRecipe& recipe) {
  return recipe.folder / content_hash(recipe.key.dump());
}

}  // namespace

ShardBuilder::ShardBuilder(const std::vector<ColumnSpec>& columns) {
  for (const auto& spec : columns) {
    check(spec.name.size() < ColumnHeader{}.name.size(), "cache", "column name `{}` is too long.",
          spec.name);
    columns_.push_back({.spec = spec, .offsets = {0}, .values = {}});
  }
}

void ShardBuilder::append(size_t column, ColumnType type, const void* values, size_t count) {
  Column& target = columns_.at(column);
  check(target.spec.type == type, "cache", "column `{}` holds another type.", target.spec.name);
  target.values.append(static_cast<const char*>(values), count * static_cast<size_t>(type));
}

void ShardBuilder::put(size_t column, std::span<const int32_t> values) {
  append(column, ColumnType::int32, values.data(), values.size());
}

void ShardBuilder::put(size_t column, std::span<const uint8_t> values) {
  append(column, ColumnType::uint8, values.data(), values.size());
}

void ShardBuilder::end_row() {
  for (Column& column : columns_)
    column.offsets.push_back(column.values.size() / static_cast<size_t>(column.spec.type));
  ++rows_;
}

std::string ShardBuilder::bytes() const {
  size_t size = aligned(table_end(columns_.size()));
  std::vector<ColumnHeader> table;
  for (const Column& column : columns_) {
    ColumnHeader entry{};
    std::copy(column.spec.name.begin(), column.spec.name.end(), entry.name.begin());
    entry.element_size = static_cast<uint32_t>(column.spec.type);
    entry.offsets_at = size;
    size += aligned(column.offsets.size() * sizeof(uint64_t));
    entry.values_at = size;
    size += aligned(column.values.size());
    entry.count = column.offsets.back();
    table.push_back(entry);
  }
  std::string out(size, '\0');
  const std::string_view table_bytes(reinterpret_cast<const char*>(table.data()),
                                     table.size() * sizeof(ColumnHeader));
  std::copy(table_bytes.begin(), table_bytes.end(), out.begin() + sizeof(Header));
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    std::memcpy(out.data() + table[i].offsets_at, column.offsets.data(),
                column.offsets.size() * sizeof(uint64_t));
    column.values.copy(out.data() + table[i].values_at, column.values.size());
  }
  Header header{};
  header.magic = kMagic;
  header.version = kVersion;
  header.columns = static_cast<uint32_t>(columns_.size());
  header.rows = static_cast<uint64_t>(rows_);
  header.file_size = size;
  header.payload_hash = hash_array(std::string_view(out).substr(table_end(columns_.size())));
  header.header_hash = hash_header(header, table_bytes);
  std::memcpy(out.data(), &header, sizeof(header));
  return out;
}

RaggedCache::RaggedCache(const fs::path& folder) {
  const fs::path path = folder / kManifest;
  Json manifest = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("shards") ||
      manifest.value("format", 0U) != kVersion) {
    throw UserError(path.string(), "a manifest of this format was expected.",
                    "remove the folder; it will be built again.");
  }
  for (const Json& column : manifest.at("columns")) {
    columns_.push_back({column.at("name").get<std::string>(),
                        static_cast<ColumnType>(column.at("element_size").get<uint32_t>())});
  }
  for (Json& shard : manifest.at("shards")) {
    open_shard(shard_path(folder, static_cast<int64_t>(shards_.size())),
               shard.at("rows").get<int64_t>());
    notes_.push_back(std::move(shard.at("note")));
  }
}

void RaggedCache::open_shard(const fs::path& path, int64_t rows) {
  Shard shard{MappedFile(path), rows_, {}};
  const std::string_view bytes = shard.file.text();
  const Header header = read_header(bytes, path);
  if (header.rows != static_cast<uint64_t>(rows) || header.columns != columns_.size()) {
    throw UserError(path.string(),
                    fmt::format("{} rows and {} columns were expected, got {} and {}.", rows,
                                columns_.size(), header.rows, header.columns),
                    "remove the folder; it will be built again.");
  }
  if (hash_array(bytes.substr(table_end(header.columns))) != header.payload_hash) {
    throw UserError(path.string(), "its values are not those that were written.",
                    "remove the folder; it will be built again.");
  }
  for (size_t i = 0; i < columns_.size(); ++i) {
    const ColumnHeader column = read_column(bytes, i);
    const size_t element = static_cast<size_t>(columns_[i].type);
    if (column_name(column) != columns_[i].name || column.element_size != element ||
        column.values_at + column.count * element > bytes.size() ||
        column.offsets_at + (header.rows + 1) * sizeof(uint64_t) > bytes.size()) {
      throw UserError(
          path.string(),
          fmt::format("column `{}` was expected, the file is another's.", columns_[i].name),
          "remove the folder; it will be built again.");
    }
    shard.columns.push_back({reinterpret_cast<const uint64_t*>(bytes.data() + column.offsets_at),
                             shard.file.bytes().data() + column.values_at, column.count});
  }
  rows_ += rows;
  shards_.push_back(std::move(shard));
}

size_t RaggedCache::column(std::string_view name) const {
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (columns_[i].name == name) return i;
  }
  fail("cache", fmt::format("there is no column `{}`.", name));
}

RaggedCache::Slice RaggedCache::slice(size_t column, int64_t row) const {
  check(row >= 0 && row < rows_, "cache", "row {} of {} was asked for.", row, rows_);
  const auto after =
      std::upper_bound(shards_.begin(), shards_.end(), row,
                       [](int64_t wanted, const Shard& shard) { return wanted < shard.begin; });
  const Shard& shard = *std::prev(after);
  const View& view = shard.columns.at(column);
  const uint64_t begin = view.offsets[row - shard.begin];
  const uint64_t end = view.offsets[row - shard.begin + 1];
  check(begin <= end && end <= view.count, "cache", "the offsets of row {} are damaged.", row);
  return {view.values + begin * static_cast<size_t>(columns_[column].type), end - begin};
}

std::span<const int32_t> RaggedCache::int32s(size_t column, int64_t row) const {
  check(columns_.at(column).type == ColumnType::int32, "cache", "column `{}` holds bytes.",
        columns_[column].name);
  const Slice values = slice(column, row);
  return {reinterpret_cast<const int32_t*>(values.values), values.count};
}

std::span<const uint8_t> RaggedCache::bytes(size_t column, int64_t row) const {
  check(columns_.at(column).type == ColumnType::uint8, "cache", "column `{}` holds int32.",
        columns_[column].name);
  const Slice values = slice(column, row);
  return {reinterpret_cast<const uint8_t*>(values.values), values.count};
}

int64_t RaggedCache::length(size_t column, int64_t row) const {
  return static_cast<int64_t>(slice(column, row).count);
}

std::shared_ptr<const RaggedCache> find_cache(const CacheRecipe& recipe) {
  const fs::path path = cache_path(recipe);
  if (!fs::exists(path)) return nullptr;
  try {
    return std::make_shared<const RaggedCache>(path);
  } catch (const UserError& error) {
    log_warning("{} The cache is built again.", error.what());
    return nullptr;
  }
}

std::shared_ptr<const RaggedCache> build_cache(const CacheRecipe& recipe, int64_t shards,
                                               const ShardFill& fill) {
  make_folder(recipe.folder);
  const FolderLock lock(recipe.folder);
  if (auto cache = find_cache(recipe)) return cache;
  const fs::path path = cache_path(recipe);
  fs::path building = path;
  building += ".building";
  make_folder(building);
  std::atomic<bool> refused{false};
  parallel_pieces(shards, /*grain=*/1, [&](int64_t shard, int64_t) {
    if (is_finished(building, shard)) return;
    ShardBuilder builder(recipe.columns);
    if (!fill(shard, builder)) {
      refused = true;
      return;
    }
    const Json entry = {{"rows", builder.rows()}, {"note", builder.note()}};
    write_file(shard_path(building, shard), builder.bytes());
    write_file(note_path(building, shard), entry.dump());
  });
  if (refused) {
    fs::remove_all(building);
    return nullptr;
  }
  write_manifest(building, recipe, shards);
  fs::remove_all(path);  // a damaged one
  std::error_code error;
  fs::rename(building, path, error);
  if (error) throw_write_error(path, error.value());
  sync_path(recipe.folder);
  return std::make_shared<const RaggedCache>(path);
}

}  // namespace rlhf
