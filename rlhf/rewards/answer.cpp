// The normal form of an answer and when two are the same. Finding answers in a text is
// find_answer.cpp.
#include "rlhf/rewards/answer.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

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

constexpr std::array kMultipliers = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"dozen", "12"},
    {"hundred", "100"},
    {"thousand", "1000"},
    {"million", "1000000"},
    {"billion", "1000000000"},
    {"trillion", "1000000000000"},
});

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

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

std::string trimmed(const std::string& text) {
  size_t begin = 0;
  size_t end = text.size();
  while (begin < end && is_space(text[begin])) {
    ++begin;
  }
  while (end > begin && is_space(text[end - 1])) {
    --end;
  }
  return text.substr(begin, end - begin);
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
    const std::string word = trimmed(inside);
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
  const std::string numerator = expand_fractions(trimmed(argument(text, end)));
  const std::string denominator = expand_fractions(trimmed(argument(text, end)));
  const std::string before = trimmed(text.substr(0, at));
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
  rest = trimmed(rest);
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

/// `x = 5`, `f(x) = 5` and `x \in S` to their right sides.
void drop_name(std::string& text) {
  for (const std::string_view sign : {"=", "\\in"}) {
    const size_t at = text.find(sign);
    const size_t behind = at + sign.size();
    if (at == std::string::npos || text.find(sign, behind) != std::string::npos ||
        (sign == "\\in" && behind < text.size() && is_letter(text[behind]))) {
      continue;
    }
    const std::string name = trimmed(text.substr(0, at));
    const bool letter = name.size() == 1 && is_letter(name[0]);
    const bool indexed = name.size() == 3 && is_letter(name[0]) && name[1] == '_';
    const bool function =
        name.size() == 4 && is_letter(name[0]) && name[1] == '(' && name[3] == ')';
    const bool command =
        name.size() > 1 && name[0] == '\\' && std::all_of(name.begin() + 1, name.end(), is_letter);
    if (letter || indexed || function || command) {
      text = trimmed(text.substr(behind));
    }
  }
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

std::string normal_form(std::string_view raw) {
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
  text = trimmed(text);
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

/// A number, or a whole part joined to a fraction by `&`, or a/b with either in parentheses.
std::optional<Rational> parse_fraction(std::string_view text) {
  if (const auto value = parse_decimal(text)) {
    return value;
  }
  if (const size_t joint = text.find('&'); joint != std::string_view::npos) {
    const auto whole = parse_decimal(text.substr(0, joint));
    const auto fraction = parse_fraction(text.substr(joint + 1));
    if (!whole || !fraction || whole->denominator != "1" || fraction->negative) {
      return std::nullopt;
    }
    return join_mixed(*whole, *fraction);
  }
  const bool negative = !text.empty() && text.front() == '-';
  if (negative) {
    text.remove_prefix(1);
  }
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos || text.find('/', slash + 1) != std::string_view::npos) {
    return std::nullopt;
  }
  const auto part = [](std::string_view side) {
    if (side.size() > 2 && side.front() == '(' && side.back() == ')') {
      side = side.substr(1, side.size() - 2);
    }
    return parse_decimal(side);
  };
  const auto numerator = part(text.substr(0, slash));
  const auto denominator = part(text.substr(slash + 1));
  auto value = numerator && denominator ? divide(*numerator, *denominator) : std::nullopt;
  if (value && negative) {
    value->negative = !value->negative && value->numerator != "0";
  }
  return value;
}

/// The numbers of parse_fraction, and `a*10^n`, `a*1000000`, `10^{n}`.
std::optional<Rational> parse_number(std::string_view text) {
  const size_t star = text.find('*');
  std::string_view power = star == std::string_view::npos ? text : text.substr(star + 1);
  std::optional<Rational> factor;
  if (power.starts_with("10^")) {
    power.remove_prefix(3);
    if (power.size() > 2 && power.front() == '{' && power.back() == '}') {
      power = power.substr(1, power.size() - 2);
    }
    factor = parse_decimal("1e" + std::string(power));
  } else if (star != std::string_view::npos) {
    factor = parse_decimal(power);
    const auto is_multiplier = [&](const auto& entry) { return entry.second == power; };
    if (std::none_of(kMultipliers.begin(), kMultipliers.end(), is_multiplier)) {
      return std::nullopt;  // 2*3 is an expression, not a number
    }
  } else {
    return parse_fraction(text);
  }
  const auto first =
      star == std::string_view::npos ? parse_decimal("1") : parse_fraction(text.substr(0, star));
  if (!first || !factor || factor->numerator == "0") {
    return std::nullopt;
  }
  return divide(*first, *divide(Rational{.numerator = "1"}, *factor));
}

bool opens(char c) { return c == '(' || c == '[' || c == '{' || c == '\x01'; }
bool closes(char c) { return c == ')' || c == ']' || c == '}' || c == '\x02'; }

/// Index of the bracket, of whatever kind (an interval's may differ), that closes the one at
/// `open`; npos where none does.
size_t closing_bracket(const std::string& text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    depth += opens(text[i]) ? 1 : 0;
    depth -= closes(text[i]) ? 1 : 0;
    if (depth == 0) {
      return i;
    }
  }
  return std::string::npos;
}

/// Positions of the commas outside all brackets of text[begin, end).
std::vector<size_t> outer_commas(const std::string& text, size_t begin, size_t end) {
  std::vector<size_t> commas;
  int depth = 0;
  for (size_t i = begin; i < end; ++i) {
    depth += opens(text[i]) ? 1 : 0;
    depth -= closes(text[i]) ? 1 : 0;
    if (text[i] == ',' && depth == 0) {
      commas.push_back(i);
    }
  }
  return commas;
}

Answer parse_normal(const std::string& text, int depth);

/// Fills open, close and parts where the text is a list.
void parse_parts(Answer& answer, int depth) {
  const std::string& text = answer.text;
  size_t begin = 0;
  size_t end = text.size();
  const bool bracket = end >= 3 && opens(text.front()) && closing_bracket(text, 0) == end - 1;
  if (bracket) {
    ++begin;
    --end;
  }
  std::vector<size_t> commas = outer_commas(text, begin, end);
  const bool set = bracket && text.front() == '\x01' && text.back() == '\x02';
  if (commas.empty() && !set) {
    return;
  }
  if (bracket) {
    answer.open = text.front() == '\x01' ? '{' : text.front();
    answer.close = text.back() == '\x02' ? '}' : text.back();
  }
  commas.push_back(end);
  for (const size_t comma : commas) {
    std::string part = text.substr(begin, comma - begin);
    drop_name(part);
    answer.parts.push_back(parse_normal(part, depth + 1));
    begin = comma + 1;
  }
}

Answer parse_normal(const std::string& text, int depth) {
  constexpr int kMaxDepth = 8;  // of lists in lists; deeper ones compare as text
  Answer answer;
  answer.text = text;
  std::string_view number = text;
  if (number.ends_with('%')) {
    number.remove_suffix(1);
    answer.percent = true;
  }
  answer.value = parse_number(number);
  answer.percent = answer.percent && answer.value.has_value();
  if (!answer.value && depth < kMaxDepth) {
    parse_parts(answer, depth);
  }
  return answer;
}

bool same_number(const Answer& a, const Answer& b) {
  if (*a.value == *b.value) {
    return true;
  }
  const Rational hundred{.numerator = "100"};
  return (a.percent && !b.percent && *divide(*a.value, hundred) == *b.value) ||
         (b.percent && !a.percent && *divide(*b.value, hundred) == *a.value);
}

bool same_parts(const Answer& a, const Answer& b) {
  const auto unordered = [](const Answer& answer) {
    return answer.open == 0 || answer.open == '{';
  };
  if (a.parts.size() != b.parts.size() || unordered(a) != unordered(b)) {
    return false;
  }
  if (!unordered(a)) {
    return a.open == b.open && a.close == b.close &&
           std::equal(a.parts.begin(), a.parts.end(), b.parts.begin(), same_answer);
  }
  std::vector<bool> taken(b.parts.size(), false);
  return std::all_of(a.parts.begin(), a.parts.end(), [&](const Answer& part) {
    for (size_t i = 0; i < b.parts.size(); ++i) {
      if (!taken[i] && same_answer(part, b.parts[i])) {
        taken[i] = true;
        return true;
      }
    }
    return false;
  });
}

}  // namespace

Answer parse_answer(std::string_view text) {
  constexpr size_t kLongest = 4000;  // a whole solution is no answer: it is compared as it is
  if (text.size() > kLongest) {
    Answer answer;
    answer.text = text;
    return answer;
  }
  return parse_normal(normal_form(text), /*depth=*/0);
}

bool same_answer(const Answer& a, const Answer& b) {
  if (a.value && b.value) {
    return same_number(a, b);
  }
  if (!a.parts.empty() && !b.parts.empty()) {
    return same_parts(a, b);
  }
  return !a.text.empty() && a.text == b.text;
}

}  // namespace rlhf
