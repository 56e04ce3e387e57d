// What a model's answer says: found in its text, brought to a normal form, compared.
//
// Found: the last `\boxed{…}` (braces balanced), GSM8K's `#### …`, "the answer is …", a number in
// prose. Normal form: LaTeX spacing, `\left`, `\right`, `$`, degrees and units go; `\dfrac`,
// `\tfrac`, `\frac12` become a/b; `\times` becomes `*`; letters become small. Compared: numbers
// exactly (fractions, percentages, mixed numbers, thousands separators, `3\times10^4`), lists part
// by part, everything else by its normal form. No algebra: `x+1` and `1+x` differ.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/rewards/rational.h"

namespace rlhf {

/// An answer in normal form.
struct Answer {
  std::string text;               ///< the normal form
  std::optional<Rational> value;  ///< where it is a number; of `50%` the 50
  bool percent = false;           ///< the number carried a per cent sign
  char open = 0;              ///< bracket of a list: `(`, `[`, `{`; 0 for a bare list or no list
  char close = 0;             ///< its closing bracket, which may be of another kind (an interval)
  std::vector<Answer> parts;  ///< of a list, two or more; or the one element of a set
};

/// Reads an answer with nothing around it, such as the inside of a box.
Answer parse_answer(std::string_view text);

/// Whether two answers say the same. Numbers by value; a percentage equals both 50 and 0.5 where
/// only one side carries the sign. Tuples and intervals in order; sets and bare lists in any order.
bool same_answer(const Answer& a, const Answer& b);

/// Inside of the last `\boxed{…}` or `\fbox{…}` whose braces close, or of `\boxed 5`.
std::optional<std::string> last_boxed(std::string_view text);

/// Rest of the line behind the last `####`.
std::optional<std::string> after_hashes(std::string_view text);

/// Rest of the line behind the last "answer is" or "answer:", in any case.
std::optional<std::string> after_answer_phrase(std::string_view text);

/// Numbers written in prose, in order: `-1,234.5`, `3/4`, `2 1/2`, `\frac{3}{4}`, each with a
/// following per cent sign. Digits that hang on a letter (`x2`) are none.
std::vector<std::string> numbers_in(std::string_view text);

}  // namespace rlhf
