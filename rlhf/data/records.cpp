#include "rlhf/data/records.h"

#include <algorithm>
#include <cstring>

#include "rlhf/core/json_text.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

constexpr size_t kChunk = size_t{256} << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r\v\f") == std::string_view::npos;
}

std::string place(const std::string& path, int64_t line) {
  return fmt::format("{}:{}", path, line);
}

}  // namespace

RowScanner::RowScanner(ByteStream stream)
    : stream_(std::move(stream)), path_(stream_.path().string()) {
  while (buffer_.size() < kByteOrderMark.size() && refill()) {
  }
  if (buffer_.starts_with(kByteOrderMark)) begin_ = kByteOrderMark.size();
  // A row is an object, so a '[' in front of everything opens an array of rows.
  size_t space = 0;
  do {
    while (begin_ + space < buffer_.size() && is_space(buffer_[begin_ + space])) ++space;
  } while (begin_ + space == buffer_.size() && refill());
  if (begin_ + space < buffer_.size() && buffer_[begin_ + space] == '[') layout_ = Layout::array;
}

RowScanner::RowScanner(ByteStream stream, Layout layout, uint64_t position, int64_t line)
    : stream_(std::move(stream)),
      path_(stream_.path().string()),
      layout_(layout),
      line_(line),
      array_open_(true) {
  stream_.seek(position);
  buffer_position_ = position;
}

// Drops what is consumed and appends a chunk; false at the end of the file. Indices into buffer_
// lose begin_.
bool RowScanner::refill() {
  const size_t kept = buffer_.size() - begin_;
  if (kept > kLongestRow) {
    throw UserError(place(path_, line_),
                    fmt::format("a row of at most {} bytes was expected.", kLongestRow),
                    "is this one JSON object a line?");
  }
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    buffer_position_ += begin_;
    begin_ = 0;
  }
  // Doubling keeps the cost of a very long row linear.
  const size_t wanted = std::max(kChunk, kept);
  buffer_.resize(kept + wanted);
  const size_t got = stream_.read({buffer_.data() + kept, wanted});
  buffer_.resize(kept + got);
  return got > 0;
}

bool RowScanner::next(RawRow& row) {
  return layout_ == Layout::lines ? next_line(row) : next_element(row);
}

bool RowScanner::next_line(RawRow& row) {
  size_t searched = 0;  // bytes behind begin_ known to hold no line end
  for (;;) {
    const char* from = buffer_.data() + begin_ + searched;
    const auto* end =
        static_cast<const char*>(std::memchr(from, '\n', buffer_.size() - begin_ - searched));
    if (end == nullptr) {
      searched = buffer_.size() - begin_;
      if (refill()) continue;
      if (searched == 0) return false;
    }
    const size_t length =
        end != nullptr ? static_cast<size_t>(end - buffer_.data()) - begin_ : searched;
    row = {std::string_view(buffer_).substr(begin_, length), line_, buffer_position_ + begin_};
    if (row.text.ends_with('\r')) row.text.remove_suffix(1);
    begin_ += length + (end != nullptr ? 1 : 0);
    ++line_;
    if (!is_blank(row.text)) return true;
    ++blank_lines_;
    searched = 0;
  }
}

void RowScanner::skip_space() {
  for (;;) {
    while (begin_ < buffer_.size() && is_space(buffer_[begin_])) line_ += buffer_[begin_++] == '\n';
    if (begin_ < buffer_.size() || !refill()) return;
  }
}

void RowScanner::malformed(std::string_view expected) {
  const bool ended = begin_ >= buffer_.size();
  throw UserError(place(path_, line_),
                  fmt::format("{} was expected in the JSON array, got {}.", expected,
                              ended ? "the end of the file" : fmt::format("'{}'", buffer_[begin_])),
                  "the file must hold one JSON array of objects, or one object a line.");
}

// One past the last byte of the value at begin_: the bracket that closes it. Strings hide brackets.
size_t RowScanner::element_end() {
  int64_t depth = 0;
  bool in_string = false;
  for (size_t offset = 0;; ++offset) {
    if (begin_ + offset >= buffer_.size() && !refill()) {
      begin_ = buffer_.size();
      malformed("the end of an object");
    }
    const char c = buffer_[begin_ + offset];
    if (in_string) {
      if (c == '\\') {
        ++offset;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (--depth == 0) return offset + 1;
    }
  }
}

bool RowScanner::next_element(RawRow& row) {
  if (array_done_) return false;
  skip_space();
  if (!array_open_) {
    ++begin_;  // '[': the constructor has seen it
    array_open_ = true;
    skip_space();
  }
  if (begin_ < buffer_.size() && !first_element_) {
    if (buffer_[begin_] != ',' && buffer_[begin_] != ']') malformed("',' or ']'");
  }
  if (begin_ < buffer_.size() && buffer_[begin_] == ']') {
    ++begin_;
    array_done_ = true;
    skip_space();
    if (begin_ < buffer_.size()) malformed("the end of the file");
    return false;
  }
  if (!first_element_ && begin_ < buffer_.size()) {
    ++begin_;
    skip_space();
  }
  if (begin_ >= buffer_.size() || buffer_[begin_] != '{') malformed("an object");
  first_element_ = false;
  const size_t length = element_end();
  row = {std::string_view(buffer_).substr(begin_, length), line_, buffer_position_ + begin_};
  for (const char c : row.text) line_ += c == '\n';
  begin_ += length;
  return true;
}

DataFile::DataFile(fs::path path) : path_(std::move(path)) {
  RowScanner scanner{ByteStream(path_)};
  layout_ = scanner.layout();
  for (RawRow row; scanner.next(row); ++rows_) {
    if (rows_ % kMarkRows == 0) marks_.push_back({row.position, row.line});
    bytes_ = row.position + row.text.size();
    scanner.record(points_);
  }
  blank_lines_ = scanner.blank_lines();
}

uint64_t DataFile::position_near(int64_t row) const {
  if (row >= rows_) return bytes_;
  return marks_[static_cast<size_t>(row / kMarkRows)].position;
}

RawRow DataFile::Cursor::read(int64_t row) {
  check(row >= 0 && row < file_->rows_, file_->path_.string(), "row {} of {} was asked for.", row,
        file_->rows_);
  if (!scanner_ || row < next_ || row >= next_ + kMarkRows) {
    const int64_t mark = row / kMarkRows;
    const Mark& start = file_->marks_[static_cast<size_t>(mark)];
    scanner_.emplace(ByteStream(file_->path_, &file_->points_), file_->layout_, start.position,
                     start.line);
    next_ = mark * kMarkRows;
  }
  RawRow raw;
  do {
    check(scanner_->next(raw), file_->path_.string(),
          "the file has fewer rows than when it was scanned.");
  } while (next_++ < row);
  return raw;
}

bool has_column(const Json& row, std::string_view column) {
  const auto found = row.find(column);
  return found != row.end() && !found->is_null();
}

bool Record::has(std::string_view column) const { return has_column(row, column); }

const Json& Record::at(std::string_view column) const {
  static const Json absent;
  const auto found = row.find(column);
  return found != row.end() ? *found : absent;
}

const std::string& Record::text(std::string_view column) const {
  const Json& value = at(column);
  check(value.is_string(), where, "column `{}` is no text.", column);
  return value.get_ref<const std::string&>();
}

std::vector<int32_t> Record::ids(std::string_view column) const {
  const Json& value = at(column);
  check(value.is_array(), where, "column `{}` is no list of ids.", column);
  return value.get<std::vector<int32_t>>();
}

std::optional<Problem> parse_record(const RawRow& raw, const fs::path& file, Record& record) {
  record.where = place(file.string(), raw.line);
  if (const size_t at = invalid_utf8_at(raw.text); at != std::string_view::npos) {
    return Problem{record.where,
                   fmt::format("UTF-8 was expected, got byte 0x{:02x} at byte {} of the row.",
                               static_cast<unsigned char>(raw.text[at]), at + 1),
                   "convert the file, for example with `iconv -t UTF-8`."};
  }
  if (const int depth = json_depth(raw.text); depth > kMaxJsonDepth) {
    return Problem{
        record.where,
        fmt::format("JSON of at most {} levels was expected, got {}.", kMaxJsonDepth, depth),
        "no column needs that many brackets in brackets."};
  }
  try {
    record.row = Json::parse(raw.text);
  } catch (const Json::exception& error) {
    // nlohmann: "[json.exception.parse_error.101] parse error at line 1, column 7: ..."; its line
    // is the row's own.
    std::string_view text = error.what();
    if (const size_t at = text.find("column "); at != std::string_view::npos)
      text.remove_prefix(at);
    return Problem{record.where, fmt::format("a JSON object was expected, got {}.", text),
                   "one complete JSON object a line."};
  }
  if (!record.row.is_object()) {
    return Problem{record.where,
                   fmt::format("a JSON object was expected, got {}.", record.row.type_name()),
                   "one complete JSON object a line, such as {\"text\": \"...\"}."};
  }
  return std::nullopt;
}

}  // namespace rlhf
