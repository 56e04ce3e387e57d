// GPT-2's byte alphabet: each of the 256 bytes as one printable character, so that a byte-level
// vocabulary can be written as text. Printable Latin-1 bytes stand for themselves; the other 68, in
// order, are U+0100 and up (space is U+0120, `Ġ`). Radford et al., "Language Models are
// Unsupervised Multitask Learners" (2019), section 2.2.
#pragma once

#include <string>
#include <string_view>

namespace rlhf {

/// The character that stands for `byte`, in UTF-8 (one or two bytes).
std::string_view byte_level_char(unsigned char byte);

/// Appends the characters that stand for `bytes`.
void append_byte_level(std::string& out, std::string_view bytes);

/// Appends the bytes that the characters of `text` (valid UTF-8) stand for; where one of them
/// stands for no byte, `text` itself is appended and false returned.
bool append_from_byte_level(std::string& out, std::string_view text);

}  // namespace rlhf
