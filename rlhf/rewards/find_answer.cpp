// Where an answer stands in a text. The other half of answer.h, what an answer says, is answer.cpp.
#include <cctype>

#include "rlhf/rewards/answer.h"
#include "rlhf/rewards/ascii.h"

namespace rlhf {
namespace {

std::string_view line_from(std::string_view text, size_t begin) {
  return text.substr(begin, text.find('\n', begin) - begin);
}

/// Index behind the brace that closes the one at `open`; npos where none does.
size_t behind_closing_brace(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;  // an escaped brace does not count
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && --depth == 0) {
      return i + 1;
    }
  }
  return std::string_view::npos;
}

/// Inside of the box whose command ends at `at`; empty where it does not close.
std::optional<std::string> box_at(std::string_view text, size_t at) {
  while (at < text.size() && text[at] == ' ') {
    ++at;
  }
  if (at >= text.size()) {
    return std::nullopt;
  }
  if (text[at] != '{') {  // \boxed 5
    const std::string_view word = text.substr(at, text.find_first_of(" \n$", at) - at);
    return word.empty() ? std::nullopt : std::optional(std::string(word));
  }
  const size_t end = behind_closing_brace(text, at);
  if (end == std::string_view::npos) {
    return std::nullopt;
  }
  return std::string(text.substr(at + 1, end - at - 2));
}

/// End of the digits, separators and fraction of a number at `at`; `at` where there is none. A
/// point or separator counts only with a digit (three digits) behind it: `18.` and `1, 2` end at
/// the first digit's end.
size_t end_of_number(std::string_view text, size_t at) {
  const auto digits = [&](size_t from) {
    while (from < text.size() && is_digit(text[from])) {
      ++from;
    }
    return from;
  };
  size_t end = digits(at);
  while (end > at && end < text.size() && text[end] == ',' && digits(end + 1) == end + 4) {
    end += 4;
  }
  if (end < text.size() && text[end] == '.' && digits(end + 1) > end + 1) {
    end = digits(end + 1);
  }
  return end;
}

/// End of `/4` or ` 1/2` behind a number that ends at `end`.
size_t end_of_fraction(std::string_view text, size_t end) {
  if (end < text.size() && text[end] == '/') {
    const size_t denominator = end_of_number(text, end + 1);
    return denominator > end + 1 ? denominator : end;
  }
  if (end < text.size() && text[end] == ' ') {
    const size_t numerator = end_of_number(text, end + 1);
    if (numerator > end + 1 && numerator < text.size() && text[numerator] == '/') {
      const size_t denominator = end_of_number(text, numerator + 1);
      return denominator > numerator + 1 ? denominator : end;
    }
  }
  return end;
}

constexpr size_t kLongestFrac = 400;  // keeps a text of open braces from costing its square

/// End of `\frac{…}{…}` at `at`; `at` where there is none.
size_t end_of_frac(std::string_view text, size_t at) {
  for (const std::string_view name : {"\\frac{", "\\dfrac{", "\\tfrac{"}) {
    if (text.substr(at).starts_with(name)) {
      text = text.substr(0, at + kLongestFrac);
      const size_t middle = behind_closing_brace(text, at + name.size() - 1);
      if (middle == std::string_view::npos || middle >= text.size() || text[middle] != '{') {
        return at;
      }
      const size_t end = behind_closing_brace(text, middle);
      return end == std::string_view::npos ? at : end;
    }
  }
  return at;
}

/// Whether a minus at `at` is a sign: nothing that could be subtracted from stands before it.
bool is_sign(std::string_view text, size_t at) {
  if (text[at] != '-') {
    return false;
  }
  if (at == 0) {
    return true;
  }
  const char before = text[at - 1];
  return !is_digit(before) && !is_letter(before) && before != ')' && before != '}' && before != '-';
}

}  // namespace

std::optional<std::string> last_boxed(std::string_view text) {
  std::optional<std::string> found;
  size_t found_at = 0;
  for (const std::string_view name : {"\\boxed", "\\fbox"}) {
    for (size_t at = text.rfind(name); at != std::string_view::npos;
         at = at == 0 ? std::string_view::npos : text.rfind(name, at - 1)) {
      const size_t behind = at + name.size();
      if (behind < text.size() && is_letter(text[behind])) {
        continue;
      }
      if (auto box = box_at(text, behind)) {
        if (!found || at > found_at) {
          found = std::move(box);
          found_at = at;
        }
        break;
      }
    }
  }
  return found;
}

std::optional<std::string> after_hashes(std::string_view text) {
  const size_t at = text.rfind("####");
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  return std::string(line_from(text, at + 4));
}

std::optional<std::string> after_answer_phrase(std::string_view text) {
  std::string small(text);
  for (char& c : small) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  size_t behind = std::string::npos;
  for (const std::string_view phrase : {"answer is", "answer:"}) {
    const size_t at = small.rfind(phrase);
    if (at != std::string::npos && (behind == std::string::npos || at + phrase.size() > behind)) {
      behind = at + phrase.size();
    }
  }
  if (behind == std::string::npos) {
    return std::nullopt;
  }
  behind = text.find_first_not_of(": \t*", behind);  // "answer is: 5", "**Answer:** 5"
  if (behind == std::string_view::npos) {
    return std::nullopt;
  }
  return std::string(line_from(text, behind));
}

std::vector<std::string> numbers_in(std::string_view raw) {
  constexpr std::string_view kMinus = "\u2212";
  std::string text(raw);
  for (size_t at = text.find(kMinus); at != std::string::npos; at = text.find(kMinus, at)) {
    text.replace(at, kMinus.size(), 1, '-');
  }
  std::vector<std::string> numbers;
  for (size_t i = 0; i < text.size();) {
    const size_t sign = is_sign(text, i) ? 1 : 0;
    size_t digits = i + sign;
    if (sign == 1 && digits < text.size() && text[digits] == '$') {
      ++digits;  // -$5
    }
    size_t end = end_of_frac(text, digits);
    if (end == digits) {
      const bool hangs = digits > 0 && (is_letter(text[digits - 1]) || text[digits - 1] == '_');
      end = hangs ? digits : end_of_number(text, digits);
      if (end > digits) {
        const size_t whole = end;
        end = end_of_fraction(text, whole);
        if (end == whole) {
          end = end_of_frac(text, whole);  // 1\frac{1}{2}
        }
      }
    }
    if (end == digits) {
      const bool skip_run = is_digit(text[i]);  // digits that hang on a letter
      ++i;
      while (skip_run && i < text.size() && is_digit(text[i])) {
        ++i;
      }
      continue;
    }
    if (text.compare(end, 2, "\\%") == 0) {
      end += 2;
    } else if (text.compare(end, 1, "%") == 0) {
      end += 1;
    }
    std::string& number = numbers.emplace_back(sign, '-');
    number.append(text, digits, end - digits);
    i = end;
  }
  return numbers;
}

}  // namespace rlhf
