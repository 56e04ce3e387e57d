// Whether a text matches a regular expression: the rule `regex`, by PCRE2 with its JIT.
//
// Perl's syntax. Patterns and texts are UTF-8; `\w`, `\d`, `\s` and upper and lower case are those
// of Unicode, as in Python's `re`; a line ends at \n. A byte of a text that is no UTF-8 matches
// nothing, not even a dot.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace rlhf {

/// A compiled pattern; immutable, shared by threads.
class RegexRule {
 public:
  /// `flags`, one letter each: i any case, s a dot matches a line's end too, m `^` and
  /// `$` at every line, x white space in the pattern means nothing. `full`: the whole text must
  /// match. UserError naming `where` for an empty pattern, one that does not compile, other letters.
  RegexRule(const std::string& pattern, const std::string& flags, bool full,
            const std::string& where);

  /// Error where the search was stopped: a pattern such as `(a+)+$` may need time exponential in
  /// the text's length, so the steps from one start are bounded (kSteps in the source).
  bool matches(std::string_view text) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace rlhf
