// Files that are whole or absent: written aside, fsynced, renamed. And read-only memory maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "rlhf/core/error.h"

namespace rlhf {

namespace fs = std::filesystem;

/// The problem of a path that the system refuses, as of a folder without permission.
UserError refused_path(const fs::filesystem_error& error);

/// The whole file. UserError when it is missing or cannot be read.
std::string read_file(const fs::path& path);

/// Replaces `path` by `bytes` in one step: a reader sees the old file or the new one, whatever
/// happens. UserError when the disk is full or the folder cannot be written.
void write_file(const fs::path& path, std::string_view bytes);

/// Appends to a file; flushed to the kernel before it returns.
void append_file(const fs::path& path, std::string_view bytes);

/// fsync of a file or folder. UserError on failure.
void sync_path(const fs::path& path);

/// Bytes free for this user on the disk that holds `path` (or its nearest existing parent).
uint64_t free_space(const fs::path& path);

/// Throws UserError naming both figures when fewer than `bytes` are free where `path` will be.
void require_space(const fs::path& path, uint64_t bytes, std::string_view purpose);

/// Turns "no space left on device" while writing `path` into a UserError; other errors too, with
/// their text.
[[noreturn]] void throw_write_error(const fs::path& path, int error_number);

/// A folder that appears complete or not at all.
///
/// Write into path(), then commit(): every file is fsynced, an older folder of the same name is
/// replaced, and the parent is fsynced. Without commit() the destructor removes what was written.
/// Leftovers of a killed process carry kUnfinishedSuffix and are removed by the next AtomicFolder
/// for the same target.
class AtomicFolder {
 public:
  explicit AtomicFolder(fs::path target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const fs::path& path() const { return temporary_; }
  void commit();

  static constexpr std::string_view kUnfinishedSuffix = ".unfinished";

 private:
  fs::path target_;
  fs::path temporary_;
  bool committed_ = false;
};

/// A file mapped for reading. Moves, never copies; the map lives as long as the object.
class MappedFile {
 public:
  MappedFile() = default;
  /// UserError when the file is missing or cannot be mapped. An empty file gives an empty span.
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  /// Takes the pages out of this process; the system keeps them as long as it has no better use for
  /// the memory, and the next read finds them there or in the file.
  void let_go() const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

/// XXH3, 128 bits, as 32 hexadecimal digits: names content, is not a signature.
std::string content_hash(std::string_view bytes);
/// The same over a file, read in pieces.
std::string content_hash_of_file(const fs::path& path);

}  // namespace rlhf
