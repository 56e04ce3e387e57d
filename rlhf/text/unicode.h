// Unicode as the tokenizers need it: characters, properties, normal forms, case, grapheme clusters.
//
// Properties and normal forms come from utf8proc (Debian 12: Unicode 14). The `tokenizers` library
// mixes Unicode versions: 8 to 12 for normal forms, marks and punctuation of its own normalisers
// and pre-tokenisers, 16 for regular expressions and white space. Measured over all code points
// against its version 0.23: NFC and NFD, white space, digits and word characters agree on
// everything assigned by Unicode 14 but U+11938; NFKC and NFKD differ on 73 characters (U+32FF
// among them), combining marks on 315 and punctuation on 106, all of them assigned since Unicode 8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "rlhf/core/utf8.h"

namespace rlhf {

/// One character and the bytes it takes.
struct CodePoint {
  char32_t value;
  size_t length;
};

/// The character at `at`; `text` must be valid UTF-8 and `at` on a boundary.
CodePoint decode_utf8(std::string_view text, size_t at);

/// Appends one character; `c` must be a Unicode scalar value.
void append_utf8(std::string& out, char32_t c);

bool is_white_space(char32_t c);        ///< the property White_Space
bool is_ascii_punctuation(char32_t c);  ///< !"#$%&'()*+,-./:;<=>?@[\]^_`{|}~
bool is_punctuation(char32_t c);        ///< general category P*
bool is_numeric(char32_t c);            ///< general category N*
bool is_other(char32_t c);  ///< general category Cc, Cf or Co: control, format, private use
bool is_mark(char32_t c);   ///< general category M*
bool is_nonspacing_mark(char32_t c);  ///< general category Mn
bool is_word_character(
    char32_t c);  ///< \w of the regular expressions: letters, marks, digits, connectors

enum class NormalForm { nfc, nfd, nfkc, nfkd };

/// `text` (valid UTF-8) in a normal form. ASCII comes back as it is.
std::string normal_form(std::string_view text, NormalForm form);

/// Full lower case of one character (context free): U+0130 gives two characters.
void append_lower_case(std::string& out, char32_t c);

/// End of the extended grapheme cluster that starts at `begin`.
size_t grapheme_end(std::string_view text, size_t begin);

}  // namespace rlhf
