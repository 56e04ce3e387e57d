#include "rlhf/text/jinja_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>

#include "rlhf/text/jinja_value.h"

namespace rlhf::jinja {
namespace {

constexpr char32_t kRawByte = 0xDC00;  // U+DC80..U+DCFF stand for the bytes 0x80..0xFF

/// The code point at `at`, which moves past it.
char32_t next_point(std::string_view text, size_t& at) {
  const auto* data = reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at;
  if (*data < 0x80) {
    ++at;
    return *data;
  }
  utf8proc_int32_t point = 0;
  const auto used = utf8proc_iterate(data, static_cast<utf8proc_ssize_t>(text.size() - at), &point);
  if (used <= 0) {
    ++at;
    return kRawByte + *data;
  }
  at += static_cast<size_t>(used);
  return static_cast<char32_t>(point);
}

utf8proc_category_t category(char32_t point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(point));
}

// The expanding mappings of SpecialCasing.txt that occur in running text; utf8proc maps one to one.
struct Expansion {
  char32_t from;
  char32_t to[3];  // zero: no more
};
constexpr Expansion kUpper[] = {
    {U'ß', {U'S', U'S'}},      {U'ﬀ', {U'F', U'F'}},       {U'ﬁ', {U'F', U'I'}},
    {U'ﬂ', {U'F', U'L'}},      {U'ﬃ', {U'F', U'F', U'I'}}, {U'ﬄ', {U'F', U'F', U'L'}},
    {U'ﬅ', {U'S', U'T'}},      {U'ﬆ', {U'S', U'T'}},       {U'ŉ', {U'ʼ', U'N'}},
    {U'ǰ', {U'J', U'\u030C'}}, {U'և', {U'Ե', U'Ւ'}},
};

void append_upper(std::u32string& out, char32_t point) {
  for (const Expansion& each : kUpper) {
    if (each.from != point) continue;
    for (const char32_t to : each.to) {
      if (to) out.push_back(to);
    }
    return;
  }
  out.push_back(static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(point))));
}

bool is_cased(char32_t point) {
  const auto kind = category(point);
  return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LL ||
         kind == UTF8PROC_CATEGORY_LT;
}

void append_title(std::u32string& out, char32_t point) {
  std::u32string upper_form;
  append_upper(upper_form, point);
  if (upper_form.size() == 1) {
    out += static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(point)));
    return;
  }
  out += upper_form[0];
  for (size_t i = 1; i < upper_form.size(); ++i) {
    out += static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(upper_form[i])));
  }
}

void append_lower(std::u32string& out, const std::u32string& text, size_t at) {
  const char32_t point = text[at];
  if (point == U'İ') {
    out.push_back(U'i');
    out.push_back(U'\u0307');
    return;
  }
  if (point == U'Σ') {  // final sigma: after a letter, before none
    const bool after = at > 0 && is_cased(text[at - 1]);
    const bool before = at + 1 < text.size() && is_cased(text[at + 1]);
    out += after && !before ? U'ς' : U'σ';
    return;
  }
  out += static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point)));
}

template <class Map>
std::string map_ascii(std::string_view text, Map map) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), map);
  return out;
}
char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool is_line_end(char32_t point) {
  return (point >= 0x0A && point <= 0x0D) || (point >= 0x1C && point <= 0x1E) || point == 0x85 ||
         point == 0x2028 || point == 0x2029;
}

std::vector<std::string> split_space(const std::u32string& text, int64_t limit) {
  std::vector<std::string> out;
  size_t at = 0;
  while (true) {
    while (at < text.size() && is_space(text[at])) ++at;
    if (at == text.size()) return out;
    size_t end = at;
    if (limit >= 0 && static_cast<int64_t>(out.size()) == limit) {
      end = text.size();
      while (end > at && is_space(text[end - 1])) --end;
      out.push_back(encode(std::u32string_view(text).substr(at, end - at)));
      return out;
    }
    while (end < text.size() && !is_space(text[end])) ++end;
    out.push_back(encode(std::u32string_view(text).substr(at, end - at)));
    at = end;
  }
}

}  // namespace

std::u32string decode(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) out += next_point(text, at);
  return out;
}

void append_point(std::string& out, char32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
    return;
  }
  if (point >= kRawByte + 0x80 && point <= kRawByte + 0xFF) {
    out += static_cast<char>(point - kRawByte);
    return;
  }
  utf8proc_uint8_t bytes[4];
  const auto used = utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(used));
}

std::string encode(std::u32string_view points) {
  std::string out;
  out.reserve(points.size());
  for (const char32_t point : points) append_point(out, point);
  return out;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

size_t point_count(std::string_view text) {
  if (is_ascii(text)) return text.size();
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) next_point(text, at);
  return count;
}

bool is_space(char32_t point) {
  return (point >= 0x09 && point <= 0x0D) || (point >= 0x1C && point <= 0x20) || point == 0x85 ||
         point == 0xA0 || point == 0x1680 || (point >= 0x2000 && point <= 0x200A) ||
         point == 0x2028 || point == 0x2029 || point == 0x202F || point == 0x205F ||
         point == 0x3000;
}

bool is_alpha(char32_t point) {
  const auto kind = category(point);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t point) { return category(point) == UTF8PROC_CATEGORY_ND; }

bool is_printable(char32_t point) {
  if (point == U' ') return true;
  switch (category(point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return false;
    default:
      return true;
  }
}

bool is_cased_upper(char32_t point) { return category(point) == UTF8PROC_CATEGORY_LU; }
bool is_cased_lower(char32_t point) { return category(point) == UTF8PROC_CATEGORY_LL; }

std::string upper(std::string_view text) {
  if (is_ascii(text)) return map_ascii(text, ascii_upper);
  std::u32string out;
  for (const char32_t point : decode(text)) append_upper(out, point);
  return encode(out);
}

std::string lower(std::string_view text) {
  if (is_ascii(text)) return map_ascii(text, ascii_lower);
  const std::u32string points = decode(text);
  std::u32string out;
  for (size_t i = 0; i < points.size(); ++i) append_lower(out, points, i);
  return encode(out);
}

std::string capitalize(std::string_view text) {
  const std::u32string points = decode(text);
  std::u32string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      append_title(out, points[i]);
    } else {
      append_lower(out, points, i);
    }
  }
  return encode(out);
}

std::string title(std::string_view text) {
  const std::u32string points = decode(text);
  std::u32string out;
  bool inside = false;
  for (size_t i = 0; i < points.size(); ++i) {
    if (inside) {
      append_lower(out, points, i);
    } else {
      append_title(out, points[i]);
    }
    inside = is_cased(points[i]);
  }
  return encode(out);
}

std::string_view strip(std::string_view text, Side side, const std::string_view* chars) {
  const std::u32string set = chars ? decode(*chars) : std::u32string();
  const auto goes = [&](char32_t point) {
    return chars ? set.find(point) != std::u32string::npos : is_space(point);
  };
  size_t begin = 0;
  while ((side & kLeft) && begin < text.size()) {
    size_t after = begin;
    if (!goes(next_point(text, after))) break;
    begin = after;
  }
  size_t end = text.size();
  while ((side & kRight) && end > begin) {
    size_t start = end - 1;
    while (start > begin && end - start < 4 &&
           (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80)
      --start;
    size_t after = start;
    char32_t point = next_point(text, after);
    if (after != end) {  // not one whole character: a lone byte
      start = after = end - 1;
      point = next_point(text, after);
    }
    if (!goes(point)) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  size_t line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t start = at;
    const char32_t point = next_point(text, at);
    if (!is_line_end(point)) continue;
    if (point == U'\r' && at < text.size() && text[at] == '\n') ++at;
    out.emplace_back(text.substr(line, (keep_ends ? at : start) - line));
    line = at;
  }
  if (line < text.size()) out.emplace_back(text.substr(line));
  return out;
}

std::vector<std::string> split(std::string_view text, const std::string_view* separator,
                               int64_t limit, bool from_right) {
  std::vector<std::string> out;
  if (!separator) {
    std::u32string points = decode(text);
    if (!from_right) return split_space(points, limit);
    std::reverse(points.begin(), points.end());
    out = split_space(points, limit);
    for (std::string& part : out) {
      std::u32string back = decode(part);
      std::reverse(back.begin(), back.end());
      part = encode(back);
    }
    std::reverse(out.begin(), out.end());
    return out;
  }
  if (separator->empty()) throw Fault{"split was given an empty separator.", ""};
  if (from_right) {
    size_t end = text.size();
    while (limit < 0 || static_cast<int64_t>(out.size()) < limit) {
      if (end < separator->size()) break;
      const size_t found = text.rfind(*separator, end - separator->size());
      if (found == std::string_view::npos) break;
      out.emplace_back(text.substr(found + separator->size(), end - found - separator->size()));
      end = found;
    }
    out.emplace_back(text.substr(0, end));
    std::reverse(out.begin(), out.end());
    return out;
  }
  size_t begin = 0;
  while (limit < 0 || static_cast<int64_t>(out.size()) < limit) {
    const size_t found = text.find(*separator, begin);
    if (found == std::string_view::npos) break;
    out.emplace_back(text.substr(begin, found - begin));
    begin = found + separator->size();
  }
  out.emplace_back(text.substr(begin));
  return out;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t limit) {
  std::string out;
  int64_t done = 0;
  size_t at = 0;
  if (from.empty()) {  // between all characters
    while (limit < 0 || done < limit) {
      out += to;
      require_text_size(out.size());
      ++done;
      if (at == text.size()) return out;
      const size_t start = at;
      next_point(text, at);
      out += text.substr(start, at - start);
    }
    return out.append(text.substr(at));
  }
  for (; limit < 0 || done < limit; ++done) {
    const size_t found = text.find(from, at);
    if (found == std::string_view::npos) break;
    out.append(text.substr(at, found - at)).append(to);
    require_text_size(out.size());
    at = found + from.size();
  }
  return out.append(text.substr(at));
}

std::string quote(std::string_view text) {
  const char mark =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"'
                                                                                            : '\'';
  std::string out(1, mark);
  for (const char32_t point : decode(text)) {
    if (point == static_cast<char32_t>(mark) || point == U'\\') {
      out += '\\';
      out += static_cast<char>(point);
    } else if (point == U'\n') {
      out += "\\n";
    } else if (point == U'\r') {
      out += "\\r";
    } else if (point == U'\t') {
      out += "\\t";
    } else if (is_printable(point)) {
      append_point(out, point);
    } else {
      const auto code = static_cast<uint32_t>(point);
      out += code < 0x100     ? fmt::format("\\x{:02x}", code)
             : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                              : fmt::format("\\U{:08x}", code);
    }
  }
  return out += mark;
}

}  // namespace rlhf::jinja
