#include "rlhf/core/utf8.h"

#include <cstdint>
#include <cstring>

namespace rlhf {
namespace {

bool continuation(unsigned char byte) { return (byte & 0xC0) == 0x80; }

/// Bytes of the well-formed character at `at`, or 0; `*bad` gets the length of the maximal
/// ill-formed run.
size_t well_formed(std::string_view text, size_t at, size_t* bad) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) {
    return 1;
  }
  size_t length = 0;
  unsigned char low = 0x80;
  unsigned char high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    low = lead == 0xE0 ? 0xA0 : low;
    high = lead == 0xED ? 0x9F : high;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    low = lead == 0xF0 ? 0x90 : low;
    high = lead == 0xF4 ? 0x8F : high;
  } else {
    *bad = 1;
    return 0;
  }
  for (size_t i = 1; i < length; ++i) {
    if (at + i >= text.size() || byte(at + i) < low || byte(at + i) > high) {
      *bad = i;
      return 0;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

size_t invalid_utf8_at(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    while (at + 8 <= text.size()) {
      uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if (word & 0x8080808080808080u) {
        break;
      }
      at += 8;
    }
    if (at >= text.size()) {
      break;
    }
    size_t bad = 0;
    const size_t length = well_formed(text, at, &bad);
    if (length == 0) {
      return at;
    }
    at += length;
  }
  return std::string_view::npos;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  size_t bad_at = invalid_utf8_at(bytes);
  if (bad_at == std::string_view::npos) {
    return std::string(bytes);
  }
  std::string out;
  out.reserve(bytes.size());
  while (bad_at != std::string_view::npos) {
    size_t bad = 0;
    well_formed(bytes, bad_at, &bad);
    out += bytes.substr(0, bad_at);
    out += "\xEF\xBF\xBD";
    bytes.remove_prefix(bad_at + bad);
    bad_at = invalid_utf8_at(bytes);
  }
  out += bytes;
  return out;
}

size_t incomplete_utf8_tail(std::string_view bytes) {
  for (size_t back = 1; back <= 3 && back <= bytes.size(); ++back) {
    const size_t at = bytes.size() - back;
    if (continuation(static_cast<unsigned char>(bytes[at]))) {
      continue;
    }
    size_t bad = 0;
    return well_formed(bytes, at, &bad) == 0 && bad == back &&
                   utf8_length(static_cast<unsigned char>(bytes[at])) > back
               ? back
               : 0;
  }
  return 0;
}

}  // namespace rlhf
