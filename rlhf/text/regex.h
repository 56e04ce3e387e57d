// Regular expressions of tokenizer.json: written for Oniguruma (Ruby syntax), run by PCRE2 with its
// JIT.
//
// Most syntax is common to both. Translated: `\h` (a hexadecimal digit), `\s` `\w` `\b` and
// `[:punct:]` by their Unicode definitions, `^` and `$` (always by line), `(?m)` (dot matches all),
// long property names (`\p{Letter}`), scripts as `sc:`, nested classes and class intersection
// (`[a-z&&[^q]]`). PCRE2 10.42 knows Unicode 14, Oniguruma Unicode 16: letters assigned since then
// (CJK extensions H and I, a few scripts) are no `\p{L}` here.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/text/json_fields.h"

namespace rlhf {

/// A span of a text and whether the pattern matched it.
struct Match {
  size_t begin;
  size_t end;
  bool matched;
};

/// A compiled pattern; immutable, shared by threads.
class Regex {
 public:
  /// UserError naming `where` when the pattern cannot be compiled.
  Regex(const std::string& pattern, const std::string& where);
  /// Matches `text` itself, character for character.
  static Regex literal(std::string_view text, const std::string& where);

  /// Covers `text` (valid UTF-8) with matched and unmatched spans in order, appended to `out`.
  /// Empty matches appear except right behind a match. An empty text gives one empty unmatched
  /// span.
  void find_all(std::string_view text, std::vector<Match>& out) const;

  /// `text` with every match replaced by `replacement`, taken literally.
  std::string replace_all(std::string_view text, std::string_view replacement) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

/// The `pattern` field of a Split or Replace: {"String": "..."} or {"Regex": "..."}. nullopt after
/// adding a problem.
std::optional<Regex> make_pattern(const JsonFields& part);

/// The pattern in PCRE2's syntax. UserError when it uses what has no counterpart.
std::string translate_pattern(std::string_view pattern, const std::string& where);

}  // namespace rlhf
