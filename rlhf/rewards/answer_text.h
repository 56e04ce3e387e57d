// The normal form of an answer's text: one spelling for what LaTeX and prose write in many.
//
// Numbers keep their digits; what answer.cpp reads from the form beside them: `a/b` a fraction,
// `w&a/b` a mixed number, `a*1000000` a number with its multiplier's word, \x01 and \x02 the braces
// of a set.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <utility>

namespace rlhf {

/// Words behind a number that multiply it, and by what.
inline constexpr auto kMultipliers = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"dozen", "12"},
    {"hundred", "100"},
    {"thousand", "1000"},
    {"million", "1000000"},
    {"billion", "1000000000"},
    {"trillion", "1000000000000"},
});

/// The normal form of `raw`, without white space.
std::string normal_answer(std::string_view raw);

/// `x = 5`, `f(x) = 5` and `x \in S` to their right sides.
void drop_name(std::string& text);

}  // namespace rlhf
