#include "rlhf/text/charsmap.h"

#include <fmt/format.h>

#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') {
    return c - 'A';
  }
  if (c >= 'a' && c <= 'z') {
    return c - 'a' + 26;
  }
  if (c >= '0' && c <= '9') {
    return c - '0' + 52;
  }
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

std::optional<std::string> decode_base64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  while (!text.empty() && text.back() == '=') {
    text.remove_suffix(1);
  }
  for (const char c : text) {
    const int value = base64_value(c);
    if (value < 0) {
      return std::nullopt;
    }
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xFF);
    }
  }
  return out;
}

uint32_t little_endian(const char* bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t leaf_value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset(uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

}  // namespace

std::optional<Charsmap> Charsmap::from_base64(std::string_view text, std::string* error) {
  const std::optional<std::string> bytes = decode_base64(text);
  if (!bytes || bytes->size() < 4) {
    *error = "is no base64 of a character map";
    return std::nullopt;
  }
  const uint32_t size = little_endian(bytes->data());
  if (size % 4 != 0 || size == 0 || size > bytes->size() - 4) {
    *error = fmt::format("says its trie has {} bytes, and has {}", size, bytes->size() - 4);
    return std::nullopt;
  }
  Charsmap map;
  for (size_t at = 4; at < 4 + size_t{size}; at += 4) {
    map.units_.push_back(little_endian(bytes->data() + at));
  }
  map.replacements_ = bytes->substr(4 + size_t{size});
  if (!valid_utf8(map.replacements_)) {
    *error = "has replacements that are not valid UTF-8";
    return std::nullopt;
  }
  return map;
}

std::optional<std::string_view> Charsmap::replacement(std::string_view chunk) const {
  size_t node = offset(units_[0]);
  for (const char c : chunk) {
    const auto byte = static_cast<unsigned char>(c);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label(units_[node]) != byte) {
      return std::nullopt;
    }
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (node >= units_.size()) {
      return std::nullopt;
    }
    if (has_leaf(unit)) {
      const size_t begin = leaf_value(units_[node]);
      if (begin >= replacements_.size() ||
          (static_cast<unsigned char>(replacements_[begin]) & 0xC0) == 0x80) {
        return std::nullopt;
      }
      return std::string_view(replacements_.c_str() + begin);
    }
  }
  return std::nullopt;
}

std::string Charsmap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t end = grapheme_end(text, at);
    const std::string_view cluster = text.substr(at, end - at);
    const auto whole = cluster.size() < 6 ? replacement(cluster) : std::nullopt;
    if (whole) {
      out += *whole;
    }
    for (size_t i = 0; !whole && i < cluster.size();) {
      const size_t length = utf8_length(static_cast<unsigned char>(cluster[i]));
      const std::string_view one = cluster.substr(i, length);
      out += replacement(one).value_or(one);
      i += length;
    }
    at = end;
  }
  return out;
}

}  // namespace rlhf
