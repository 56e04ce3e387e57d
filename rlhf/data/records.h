// Rows of JSONL files (plain or gzip, one JSON object a line) and of files that hold one JSON array
// of objects.
//
// A file is scanned once: rows are counted, and every 64th row's position is kept, so that any row
// can be read later from a bounded amount of memory whatever the file's size. Blank lines are
// skipped and counted, `\r\n` ends a line like `\n`, a byte order mark at the start is skipped. The
// scan reads structure only; parse_record() judges a row.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "rlhf/data/byte_stream.h"

namespace rlhf {

/// One row as it stands in the file.
struct RawRow {
  std::string_view text;  ///< valid until the next read
  int64_t line = 0;       ///< 1 for the first line; of the first character of the row
  uint64_t position = 0;  ///< of that character, in uncompressed bytes
};

/// Reads the rows of one file front to back, in bounded memory (the longest row).
class RowScanner {
 public:
  enum class Layout { lines, array };

  /// From the start of the file; finds out the layout from the first character that is not white
  /// space.
  explicit RowScanner(ByteStream stream);
  /// From the start of a row whose place is known.
  RowScanner(ByteStream stream, Layout layout, uint64_t position, int64_t line);

  /// The next row; false at the end. UserError when the array around the rows is malformed.
  bool next(RawRow& row);

  Layout layout() const { return layout_; }
  int64_t blank_lines() const { return blank_lines_; }
  /// Passes the stream's restart points of what was read so far to `points`.
  void record(RestartPoints& points) const { stream_.record(points); }

  static constexpr size_t kLongestRow = size_t{1} << 30;

 private:
  bool refill();
  void skip_space();
  bool next_line(RawRow& row);
  bool next_element(RawRow& row);
  size_t element_end();
  [[noreturn]] void malformed(std::string_view expected);

  ByteStream stream_;
  std::string path_;
  Layout layout_ = Layout::lines;
  std::string buffer_;
  size_t begin_ = 0;  // start of what is not consumed, an index into buffer_
  uint64_t buffer_position_ = 0;
  int64_t line_ = 1;
  int64_t blank_lines_ = 0;
  bool array_open_ = false;  // behind '['
  bool array_done_ = false;  // behind ']'
  bool first_element_ = true;
};

/// An indexed file. Immutable: threads share it, each with a Cursor of its own.
class DataFile {
 public:
  /// Scans the file. UserError when it cannot be read, is a damaged gzip file or a malformed array.
  explicit DataFile(fs::path path);

  const fs::path& path() const { return path_; }
  int64_t rows() const { return rows_; }
  int64_t blank_lines() const { return blank_lines_; }
  /// Uncompressed bytes.
  uint64_t bytes() const { return bytes_; }
  /// Position of the last indexed row at or before `row`: rises with `row`, for cutting a file into
  /// like pieces.
  uint64_t position_near(int64_t row) const;

  /// Reads rows in any order; in rising order each byte is read once.
  class Cursor {
   public:
    explicit Cursor(std::shared_ptr<const DataFile> file) : file_(std::move(file)) {}
    /// Row `row` of the file, 0 for the first. Error when the file has changed since it was
    /// scanned.
    RawRow read(int64_t row);

   private:
    std::shared_ptr<const DataFile> file_;
    std::optional<RowScanner> scanner_;
    int64_t next_ = 0;
  };

  /// Rows between two indexed positions.
  static constexpr int64_t kMarkRows = 64;

 private:
  struct Mark {
    uint64_t position;
    int64_t line;
  };

  fs::path path_;
  RowScanner::Layout layout_ = RowScanner::Layout::lines;
  std::vector<Mark> marks_;
  RestartPoints points_;
  int64_t rows_ = 0;
  int64_t blank_lines_ = 0;
  uint64_t bytes_ = 0;
};

/// One row: a JSON object, and where it comes from.
struct Record {
  Json row;
  std::string where;  ///< `data/train.jsonl:17`

  bool has(std::string_view column) const;
  /// The column, or null JSON where it is absent.
  const Json& at(std::string_view column) const;
  /// A string column. Error otherwise: schemas are checked before.
  const std::string& text(std::string_view column) const;
  /// A column of integers.
  std::vector<int32_t> ids(std::string_view column) const;
};

/// The row as a record, or what is wrong with it: invalid UTF-8 (with the byte), invalid JSON (with
/// the place), not an object.
std::optional<Problem> parse_record(const RawRow& raw, const fs::path& file, Record& record);

/// A column that is missing or null counts as absent.
bool has_column(const Json& row, std::string_view column);

}  // namespace rlhf
