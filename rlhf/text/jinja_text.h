// Python's `str` over UTF-8, as far as templates need it: lengths and positions are code points.
//
// Bytes that are no UTF-8 survive every function here unchanged: they are decoded to U+DC80..U+DCFF
// and encoded back, as Python's `surrogateescape` does. Case mapping and categories come from
// utf8proc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rlhf::jinja {

std::u32string decode(std::string_view text);
std::string encode(std::u32string_view points);
void append_point(std::string& out, char32_t point);
/// Number of code points.
size_t point_count(std::string_view text);
bool is_ascii(std::string_view text);

bool is_space(char32_t point);      ///< str.isspace
bool is_alpha(char32_t point);      ///< str.isalpha: category L*
bool is_decimal(char32_t point);    ///< category Nd
bool is_printable(char32_t point);  ///< what repr leaves unescaped
bool is_cased_upper(char32_t point);
bool is_cased_lower(char32_t point);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
/// str.title: a letter after a non-letter is upper case, every other one lower.
std::string title(std::string_view text);

enum Side : unsigned { kLeft = 1, kRight = 2, kBothSides = 3 };
/// str.strip, lstrip, rstrip; white space when `chars` is null.
std::string_view strip(std::string_view text, Side side, const std::string_view* chars = nullptr);

/// str.splitlines with its eleven line ends.
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
/// str.split and rsplit; white space runs when `separator` is null; `limit` < 0 splits everywhere.
std::vector<std::string> split(std::string_view text, const std::string_view* separator,
                               int64_t limit, bool from_right);
/// str.replace; `limit` < 0 replaces everywhere. Throws Fault when the result exceeds the text
/// limit.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    int64_t limit = -1);

/// repr of a string: quotes as Python chooses them.
std::string quote(std::string_view text);

}  // namespace rlhf::jinja
