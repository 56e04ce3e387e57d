// Whether bytes are UTF-8 (RFC 3629: no surrogates, no overlong forms, nothing above U+10FFFF).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rlhf {

/// Position of the first byte that is not part of well-formed UTF-8, or npos when all of it
/// is.
size_t invalid_utf8_at(std::string_view text);

inline bool valid_utf8(std::string_view text) {
  return invalid_utf8_at(text) == std::string_view::npos;
}

/// Bytes of the character that starts with `lead`; 1 for a byte that starts none.
inline size_t utf8_length(unsigned char lead) {
  return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/// Well-formed text: every maximal ill-formed run becomes one U+FFFD, as the Unicode standard (3.9)
/// recommends.
std::string replace_invalid_utf8(std::string_view bytes);

/// Bytes at the end of `bytes` that begin a character but do not complete it (0 to 3).
size_t incomplete_utf8_tail(std::string_view bytes);

}  // namespace rlhf
