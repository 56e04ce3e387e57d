#include "rlhf/core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, mode_t mode = 0644)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  bool ok() const { return fd_ >= 0; }
  int get() const { return fd_; }

 private:
  int fd_;
};

Descriptor open_for_reading(const fs::path& path) {
  Descriptor file(path, O_RDONLY);
  if (!file.ok()) {
    throw UserError(path.string(),
                    fmt::format("a readable file was expected: {}.", std::strerror(errno)),
                    "check the path and its permissions.");
  }
  return file;
}

uint64_t size_of(const Descriptor& file, const fs::path& path) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) throw_write_error(path, errno);
  if (!S_ISREG(info.st_mode)) {
    throw UserError(path.string(), "a regular file was expected, got a folder or device.");
  }
  return static_cast<uint64_t>(info.st_size);
}

void write_all(const Descriptor& file, const fs::path& path, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_write_error(path, errno);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

std::string hex(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

void throw_write_error(const fs::path& path, int error_number) {
  const char* reason = std::strerror(error_number);
  if (error_number == ENOSPC || error_number == EDQUOT) {
    throw UserError(path.string(), fmt::format("cannot write: {}.", reason),
                    "free some space or choose another folder.");
  }
  throw UserError(path.string(), fmt::format("cannot write: {}.", reason),
                  "check the path and its permissions.");
}

UserError refused_path(const fs::filesystem_error& error) {
  const bool full = error.code() == std::errc::no_space_on_device;
  return {
      error.path1().string(), fmt::format("it cannot be used: {}.", error.code().message()),
      full ? "free some space or choose another folder." : "check the path and its permissions."};
}

std::string read_file(const fs::path& path) {
  const Descriptor file = open_for_reading(path);
  std::string bytes(size_of(file, path), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

void sync_path(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  if (!file.ok() || ::fsync(file.get()) != 0) throw_write_error(path, errno);
}

void write_file(const fs::path& path, std::string_view bytes) {
  fs::path temporary = path;
  temporary += AtomicFolder::kUnfinishedSuffix;
  try {
    const Descriptor file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
    if (!file.ok()) throw_write_error(path, errno);
    write_all(file, path, bytes);
    if (::fsync(file.get()) != 0) throw_write_error(path, errno);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) throw_write_error(path, errno);
}

void append_file(const fs::path& path, std::string_view bytes) {
  const Descriptor file(path, O_WRONLY | O_CREAT | O_APPEND);
  if (!file.ok()) throw_write_error(path, errno);
  write_all(file, path, bytes);
}

uint64_t free_space(const fs::path& path) {
  fs::path existing = fs::absolute(path);
  while (!fs::exists(existing) && existing.has_relative_path()) existing = existing.parent_path();
  struct statvfs info {};
  if (::statvfs(existing.c_str(), &info) != 0) return UINT64_MAX;
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

void require_space(const fs::path& path, uint64_t bytes, std::string_view purpose) {
  const uint64_t available = free_space(path);
  if (available >= bytes) return;
  constexpr double kMegabyte = 1e6;
  throw UserError(path.string(),
                  fmt::format("{} needs {:.1f} MB, {:.1f} MB are free on this disk.", purpose,
                              static_cast<double>(bytes) / kMegabyte,
                              static_cast<double>(available) / kMegabyte),
                  "free some space or choose another folder.");
}

AtomicFolder::AtomicFolder(fs::path target) : target_(std::move(target)), temporary_(target_) {
  temporary_ += kUnfinishedSuffix;
  std::error_code error;
  fs::remove_all(temporary_, error);
  fs::create_directories(temporary_, error);
  if (error) throw_write_error(temporary_, error.value());
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) sync_path(entry.path());
  sync_path(temporary_);
  const fs::path parent = fs::absolute(target_).parent_path();
  if (fs::exists(target_)) {
    // A folder cannot be renamed over a full one: exchange the two names, then drop the old
    // content.
    if (::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) !=
        0) {
      throw_write_error(target_, errno);
    }
    sync_path(parent);
    fs::remove_all(temporary_);
  } else if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    throw_write_error(target_, errno);
  }
  committed_ = true;
  sync_path(parent);
}

MappedFile::MappedFile(const fs::path& path) {
  const Descriptor file = open_for_reading(path);
  size_ = size_of(file, path);
  if (size_ == 0) return;
  void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (address == MAP_FAILED) {
    throw UserError(path.string(), fmt::format("cannot map the file: {}.", std::strerror(errno)));
  }
  data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::let_go() const {
  // The map is never written to, so that no page holds anything but the file's bytes.
  if (data_ != nullptr) ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::string content_hash(std::string_view bytes) {
  return hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string content_hash_of_file(const fs::path& path) {
  const MappedFile file(path);
  return content_hash(file.text());
}

}  // namespace rlhf
