// The content of a data file, plain or gzip, from any position.
//
// A gzip file (RFC 1952, several members allowed) has no random access of its own. While one pass
// runs through it, the stream keeps a copy of the inflater's state every few megabytes; a later
// stream starts at the nearest copy. Positions always count uncompressed bytes.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/file.h"

namespace rlhf {

/// Where a gzip file can be entered: kept in order of position. About 40 KB each.
class RestartPoints {
 public:
  struct InflateEnd {
    void operator()(z_stream* state) const;
  };
  struct Point {
    uint64_t position;             ///< uncompressed bytes before it
    uint64_t compressed_position;  ///< bytes of the file before it
    std::shared_ptr<z_stream> state;
  };

  /// Uncompressed bytes between two points.
  static constexpr uint64_t kSpacing = uint64_t{16} << 20;

  void add(Point point) { points_.push_back(std::move(point)); }
  uint64_t last_position() const { return points_.empty() ? 0 : points_.back().position; }
  /// The last point at or before `position`, or nullptr.
  const Point* before(uint64_t position) const;

 private:
  std::vector<Point> points_;
};

/// Reads a file front to back. Not shared by threads; several streams may read one file.
class ByteStream {
 public:
  /// UserError when the file cannot be read. `points` (may be null) serve seek() and must outlive
  /// the stream.
  explicit ByteStream(fs::path path, const RestartPoints* points = nullptr);
  ~ByteStream();
  ByteStream(ByteStream&& other) noexcept;
  ByteStream& operator=(ByteStream&& other) noexcept;

  /// Fills `out` from the current position; fewer bytes only at the end. UserError when a gzip file
  /// is damaged or ends too early.
  size_t read(std::span<char> out);
  /// Goes to an uncompressed position. A gzip file is inflated from the nearest restart point
  /// before it.
  void seek(uint64_t position);
  uint64_t position() const { return position_; }
  const fs::path& path() const { return path_; }
  bool gzip() const { return inflater_ != nullptr; }

  /// Adds a restart point at the current position when the last one lies RestartPoints::kSpacing
  /// behind.
  void record(RestartPoints& points) const;

 private:
  size_t read_file(std::span<char> out);
  size_t inflate_some(std::span<char> out);
  void start_inflater();

  fs::path path_;
  const RestartPoints* points_ = nullptr;
  int fd_ = -1;
  uint64_t file_position_ = 0;  // next byte of the file to be read
  uint64_t position_ = 0;
  std::shared_ptr<z_stream> inflater_;  // null for a plain file
  std::vector<unsigned char> input_;    // compressed bytes the inflater has not taken yet
  bool inside_member_ = false;
};

}  // namespace rlhf
