#include "rlhf/rewards/answer_text.h"

#include <algorithm>
#include <cctype>

#include "rlhf/rewards/ascii.h"
#include "rlhf/rewards/rational.h"

namespace rlhf {
namespace {

using Replacement = std::pair<std::string_view, std::string_view>;

// Plain substrings, in this order.
constexpr std::array kSymbols = std::to_array<Replacement>({
    {"\u2212", "-"},
    {"\u00d7", "*"},
    {"\u00b7", "*"},
    {"\u00f7", "/"},
    {"^{\\circ}", ""},
    {"^\\circ", ""},
    {"\u00b0", ""},
    {"\u03c0", "\\pi"},
    {"\u00a0", " "},
    {"\u202f", ""},
    {"\u2009", ""},
    {"\u20ac", ""},
    {"\u00a3", ""},
    {"\\%", "%"},
    {"\\$", ""},
    {"$", ""},
    {"\u00bd", "\\frac{1}{2}"},
    {"\u00bc", "\\frac{1}{4}"},
    {"\u00be", "\\frac{3}{4}"},
    {"\\!", ""},
    {"\\,", ""},
    {"\\;", " "},
    {"\\:", " "},
    {"\\ ", " "},
    {"~", " "},
    {"\\(", ""},
    {"\\)", ""},
    {"\\[", ""},
    {"\\]", ""},
    {"{,}", ","},
    {"**", ""},
    {"`", ""},
    {"\\{", "\x01"},
    {"\\}", "\x02"},
});

// Commands: the name must end there.
constexpr std::array kCommands = std::to_array<Replacement>({
    {"\\dfrac", "\\frac"}, {"\\tfrac", "\\frac"}, {"\\cfrac", "\\frac"}, {"\\left", ""},
    {"\\right", ""},       {"\\big", ""},         {"\\Big", ""},         {"\\displaystyle", ""},
    {"\\quad", " "},       {"\\qquad", " "},      {"\\cdot", "*"},       {"\\times", "*"},
    {"\\div", "/"},        {"\\degree", ""},      {"\\lbrace", "\x01"},  {"\\rbrace", "\x02"},
    {"\\leq", "\\le"},     {"\\geq", "\\ge"},     {"\\neq", "\\ne"},     {"\\infin", "\\infty"},
});

constexpr std::array<std::string_view, 11> kWrappers = {
    "\\text",   "\\mathrm", "\\textbf", "\\textrm",       "\\textnormal", "\\mbox",
    "\\mathbf", "\\emph",   "\\textit", "\\operatorname", "\\boldsymbol"};

// Words behind a number that are part of the mathematics, not a unit.
constexpr std::array<std::string_view, 14> kNoUnits = {
    "pi", "sqrt", "sin", "cos", "tan", "log", "ln", "exp", "and", "or", "to", "by", "mod", "i"};

void replace_all(std::string& text, std::string_view from, std::string_view to, bool command) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    const size_t behind = at + from.size();
    if (command && behind < text.size() && is_letter(text[behind])) {
      at = behind;
      continue;
    }
    text.replace(at, from.size(), to);
    at += to.size();
  }
}

/// Index of the brace that closes the one at `open`; npos where none does.
size_t closing_brace(const std::string& text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    depth += text[i] == '{' ? 1 : text[i] == '}' ? -1 : 0;
    if (depth == 0) {
      return i;
    }
  }
  return std::string::npos;
}

/// `\text{…}`: "and" and "or" become commas, a unit behind a number goes with its exponent, other
/// content stays.
void unwrap(std::string& text, std::string_view name) {
  for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at)) {
    const size_t open = at + name.size();
    const size_t close =
        open < text.size() && text[open] == '{' ? closing_brace(text, open) : std::string::npos;
    if (close == std::string::npos) {
      at = open;
      continue;
    }
    std::string inside = text.substr(open + 1, close - open - 1);
    const std::string word(trimmed(inside));
    size_t end = close + 1;
    size_t before = at;
    while (before > 0 && is_space(text[before - 1])) {
      --before;
    }
    const char last = before > 0 ? text[before - 1] : ' ';
    if (word == "and" || word == "or") {
      inside.assign(1, ',');
    } else if ((is_digit(last) || last == '}') && !word.empty() && is_letter(word.front())) {
      inside.assign(1, ' ').append(word);  // as a written unit: strip_units decides
      if (text.compare(end, 2, "^{") == 0) {
        end = std::min(text.size(), closing_brace(text, end + 1) + 1);
      } else if (end + 1 < text.size() && text[end] == '^') {
        end += 2;
      }
    }
    text.replace(at, end - at, inside);
    at += inside.size();
  }
}

/// Next argument of a command at `at`: `{…}`, a command or one character. Returns its text; `at`
/// moves behind it.
std::string argument(const std::string& text, size_t& at) {
  while (at < text.size() && text[at] == ' ') {
    ++at;
  }
  if (at >= text.size()) {
    return "";
  }
  if (text[at] != '{') {
    const size_t begin = at++;
    while (text[begin] == '\\' && at < text.size() && is_letter(text[at])) {
      ++at;
    }
    return text.substr(begin, at - begin);
  }
  const size_t close = closing_brace(text, at);
  const size_t begin = at + 1;
  at = close == std::string::npos ? text.size() : close + 1;
  return text.substr(begin, (close == std::string::npos ? text.size() : close) - begin);
}

/// In parentheses unless it is one number, letter or command, so that `1/(2x)` and `1/2x` stay
/// apart.
std::string grouped(const std::string& part) {
  const bool command = part.size() > 1 && part.front() == '\\' &&
                       std::all_of(part.begin() + 1, part.end(), is_letter);
  return command || part.size() == 1 || parse_decimal(part) ? part : "(" + part + ")";
}

/// `\frac{a}{b}` and `\frac12` to `a/b`; behind a digit the two are joined as a mixed number by
/// `&`.
std::string expand_fractions(const std::string& text) {
  constexpr std::string_view kFrac = "\\frac";
  const size_t at = text.find(kFrac);
  if (at == std::string::npos) {
    return text;
  }
  size_t end = at + kFrac.size();
  const std::string numerator = expand_fractions(std::string(trimmed(argument(text, end))));
  const std::string denominator = expand_fractions(std::string(trimmed(argument(text, end))));
  const std::string before(trimmed(std::string_view(text).substr(0, at)));
  const bool mixed = !before.empty() && is_digit(before.back());
  return before + (mixed ? "&" : "") + grouped(numerator) + "/" + grouped(denominator) +
         expand_fractions(text.substr(end));
}

/// `1 1/2`: the space between a number and a fraction joins them.
void join_written_mixed(std::string& text) {
  for (size_t i = 1; i + 2 < text.size(); ++i) {
    if (text[i] != ' ' || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) {
      continue;
    }
    size_t end = i + 1;
    while (end < text.size() && is_digit(text[end])) {
      ++end;
    }
    if (end < text.size() && text[end] == '/') {
      text[i] = '&';
    }
  }
}

/// Behind the sign, digits, separators, fraction and exponent at the front: where a unit may begin.
size_t end_of_leading_number(const std::string& text) {
  size_t end = 0;
  bool digit = false;
  while (end < text.size() &&
         (is_digit(text[end]) ||
          std::string_view("+-.,/%&*^(){}").find(text[end]) != std::string_view::npos)) {
    digit = digit || is_digit(text[end]);
    ++end;
  }
  return digit ? end : 0;
}

/// Words behind a number: "percent" becomes a sign, "million" a factor, anything else is a unit and
/// goes. A single letter that touches the number (`5x`) is mathematics and stays.
void strip_units(std::string& text) {
  const size_t begin = end_of_leading_number(text);
  if (begin == 0 || begin == text.size()) {
    return;
  }
  std::string number = text.substr(0, begin);
  std::string rest = text.substr(begin);
  while (!rest.empty() && (rest.back() == '.' || rest.back() == '!' || is_space(rest.back()))) {
    rest.pop_back();
  }
  if (!std::all_of(rest.begin(), rest.end(),
                   [](char c) { return is_letter(c) || is_space(c) || c == '/' || c == '-'; })) {
    return;
  }
  const bool touches = !rest.empty() && !is_space(rest.front());
  rest = std::string(trimmed(rest));
  const std::string word = rest.substr(0, rest.find_first_of(" /-"));
  if (std::find(kNoUnits.begin(), kNoUnits.end(), word) != kNoUnits.end() ||
      (touches && word.size() == 1) || (word.size() == 1 && rest.size() > 1 && rest[1] != '/')) {
    return;
  }
  if (word == "percent") {
    number += '%';
  }
  for (const auto& [name, factor] : kMultipliers) {
    if (word == name) {
      number.append(1, '*').append(factor);
    }
  }
  text = number;
}

/// Brackets that only wrap: braces around the whole, parentheses around one letter (a choice) or
/// one number.
void strip_wrapping(std::string& text) {
  while (text.size() >= 2 && text.front() == '{' && closing_brace(text, 0) == text.size() - 1) {
    text = text.substr(1, text.size() - 2);
  }
  if (text.size() >= 3 && text.front() == '(' && text.back() == ')') {
    const std::string inside = text.substr(1, text.size() - 2);
    if ((inside.size() == 1 && is_letter(inside[0])) ||
        (parse_decimal(inside) && inside.find(',') == std::string::npos)) {
      text = inside;
    }
  }
}

}  // namespace

void drop_name(std::string& text) {
  for (const std::string_view sign : {"=", "\\in"}) {
    const size_t at = text.find(sign);
    const size_t behind = at + sign.size();
    if (at == std::string::npos || text.find(sign, behind) != std::string::npos ||
        (sign == "\\in" && behind < text.size() && is_letter(text[behind]))) {
      continue;
    }
    const std::string name(trimmed(std::string_view(text).substr(0, at)));
    const bool letter = name.size() == 1 && is_letter(name[0]);
    const bool indexed = name.size() == 3 && is_letter(name[0]) && name[1] == '_';
    const bool function =
        name.size() == 4 && is_letter(name[0]) && name[1] == '(' && name[3] == ')';
    const bool command =
        name.size() > 1 && name[0] == '\\' && std::all_of(name.begin() + 1, name.end(), is_letter);
    if (letter || indexed || function || command) {
      text = std::string(trimmed(std::string_view(text).substr(behind)));
    }
  }
}

std::string normal_answer(std::string_view raw) {
  std::string text(raw);
  for (const auto& [from, to] : kSymbols) {
    replace_all(text, from, to, /*command=*/false);
  }
  for (const auto& [from, to] : kCommands) {
    replace_all(text, from, to, /*command=*/true);
  }
  for (const std::string_view name : kWrappers) {
    unwrap(text, name);
  }
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return is_space(c) ? ' ' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  replace_all(text, " and ", ",", /*command=*/false);
  replace_all(text, " or ", ",", /*command=*/false);
  text = std::string(trimmed(text));
  drop_name(text);
  text = expand_fractions(text);
  join_written_mixed(text);
  strip_units(text);
  for (size_t at = text.find("\\sqrt"); at != std::string::npos; at = text.find("\\sqrt", at + 5)) {
    size_t end = at + 5;
    const std::string inside = argument(text, end);
    text.replace(at, end - at, "\\sqrt{" + inside + "}");
  }
  std::erase_if(text, is_space);
  while (!text.empty() && std::string_view(".,;:!").find(text.back()) != std::string_view::npos) {
    text.pop_back();
  }
  strip_wrapping(text);
  if (!text.empty() && text.front() == '+') {
    text.erase(0, 1);
  }
  return text;
}

}  // namespace rlhf
