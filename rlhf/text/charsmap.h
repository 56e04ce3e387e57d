// SentencePiece's precompiled character map: a double-array trie (darts-clone) from byte strings to
// replacements.
//
// Layout after base64: 32-bit size of the trie in bytes, the trie's 32-bit units, then the
// replacements, each ended by a zero byte; all little-endian. A unit holds a label (bits 0-7), a
// leaf mark (8), a large-offset mark (9) and an offset (10-30); a leaf unit holds the position of
// its replacement. `tokenizers` looks up a whole grapheme cluster of up to five bytes first, and
// takes the *shortest* entry that begins it; then each character by itself. So does this.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rlhf {

class Charsmap {
 public:
  /// From the base64 text of `precompiled_charsmap`; nullopt and `*error` when it is damaged.
  static std::optional<Charsmap> from_base64(std::string_view text, std::string* error);

  /// `text` (valid UTF-8) with its characters replaced.
  std::string apply(std::string_view text) const;

 private:
  /// The replacement of the shortest entry that begins `chunk`.
  std::optional<std::string_view> replacement(std::string_view chunk) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace rlhf
