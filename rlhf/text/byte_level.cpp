#include "rlhf/text/byte_level.h"

#include <array>
#include <cstdint>

#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

struct Alphabet {
  std::array<std::string, 256> chars;
  std::array<int16_t, 0x144> bytes;  // by code point, -1 for none

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = itself ? b : next++;
      append_utf8(chars[b], c);
      bytes[c] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

std::string_view byte_level_char(unsigned char byte) { return alphabet().chars[byte]; }

void append_byte_level(std::string& out, std::string_view bytes) {
  const auto& chars = alphabet().chars;
  for (const char c : bytes) {
    out += chars[static_cast<unsigned char>(c)];
  }
}

bool append_from_byte_level(std::string& out, std::string_view text) {
  const auto& bytes = alphabet().bytes;
  const size_t before = out.size();
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    if (c.value >= bytes.size() || bytes[c.value] < 0) {
      out.resize(before);
      out += text;
      return false;
    }
    out += static_cast<char>(bytes[c.value]);
    at += c.length;
  }
  return true;
}

}  // namespace rlhf
