// What a normal form says, and when two answers are the same. The form itself is answer_text.h,
// finding answers in a text is find_answer.cpp.
#include "rlhf/rewards/answer.h"

#include <algorithm>

#include "rlhf/rewards/answer_text.h"

namespace rlhf {
namespace {

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
  return parse_normal(normal_answer(text), /*depth=*/0);
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
