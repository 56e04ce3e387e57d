#include "rlhf/rewards/rational.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "rlhf/rewards/ascii.h"

namespace rlhf {
namespace {

constexpr size_t kMaxDigits = 1000;

std::string without_leading_zeros(std::string digits) {
  const size_t first = digits.find_first_not_of('0');
  return first == std::string::npos ? "0" : digits.substr(first);
}

std::string multiply(const std::string& a, const std::string& b) {
  std::vector<int> sum(a.size() + b.size(), 0);  // least significant first
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < b.size(); ++j) {
      sum[i + j] += (a[a.size() - 1 - i] - '0') * (b[b.size() - 1 - j] - '0');
    }
  }
  for (size_t k = 0; k + 1 < sum.size(); ++k) {
    sum[k + 1] += sum[k] / 10;
    sum[k] %= 10;
  }
  std::string digits;
  for (auto digit = sum.rbegin(); digit != sum.rend(); ++digit) {
    digits += static_cast<char>('0' + *digit);
  }
  return without_leading_zeros(digits);
}

std::string add(const std::string& a, const std::string& b) {
  std::string digits;
  int carry = 0;
  for (size_t i = 0; i < std::max(a.size(), b.size()) || carry != 0; ++i) {
    const int x = i < a.size() ? a[a.size() - 1 - i] - '0' : 0;
    const int y = i < b.size() ? b[b.size() - 1 - i] - '0' : 0;
    digits += static_cast<char>('0' + (x + y + carry) % 10);
    carry = (x + y + carry) / 10;
  }
  std::reverse(digits.begin(), digits.end());
  return without_leading_zeros(digits);
}

/// Digits with thousands separators taken out; empty where a group does not have three digits.
std::optional<std::string> without_separators(std::string_view text) {
  std::string digits;
  size_t group = 0;
  bool separated = false;
  for (const char c : text) {
    if (is_digit(c)) {
      digits += c;
      ++group;
    } else if (c == ',' && group >= 1 && group <= 3 && (!separated || group == 3)) {
      separated = true;
      group = 0;
    } else {
      return std::nullopt;
    }
  }
  if (separated && group != 3) {
    return std::nullopt;
  }
  return digits;
}

}  // namespace

bool operator==(const Rational& a, const Rational& b) {
  return a.negative == b.negative &&
         multiply(a.numerator, b.denominator) == multiply(b.numerator, a.denominator);
}

std::optional<Rational> parse_decimal(std::string_view text) {
  Rational value;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    value.negative = text.front() == '-';
    text.remove_prefix(1);
  }
  long exponent = 0;
  if (const size_t e = text.find_first_of("eE"); e != std::string_view::npos) {
    std::string_view digits = text.substr(e + 1);
    const bool negative = !digits.empty() && digits.front() == '-';
    if (!digits.empty() && (digits.front() == '-' || digits.front() == '+')) {
      digits.remove_prefix(1);
    }
    if (digits.empty() || digits.size() > 3 ||
        !std::all_of(digits.begin(), digits.end(), is_digit)) {
      return std::nullopt;
    }
    exponent = std::atol(std::string(digits).c_str()) * (negative ? -1 : 1);
    text = text.substr(0, e);
  }
  const size_t point = text.find('.');
  const std::string_view fraction =
      point == std::string_view::npos ? std::string_view() : text.substr(point + 1);
  const auto whole = without_separators(text.substr(0, point));
  if (!whole || !std::all_of(fraction.begin(), fraction.end(), is_digit) ||
      whole->size() + fraction.size() == 0 || whole->size() + fraction.size() > kMaxDigits) {
    return std::nullopt;
  }
  value.numerator = without_leading_zeros(*whole + std::string(fraction));
  const long power = exponent - static_cast<long>(fraction.size());
  if (power >= 0) {
    value.numerator =
        without_leading_zeros(value.numerator + std::string(static_cast<size_t>(power), '0'));
  } else {
    value.denominator += std::string(static_cast<size_t>(-power), '0');
  }
  value.negative = value.negative && value.numerator != "0";
  return value;
}

std::optional<Rational> divide(const Rational& a, const Rational& b) {
  if (b.numerator == "0") {
    return std::nullopt;
  }
  Rational quotient{.negative = a.negative != b.negative,
                    .numerator = multiply(a.numerator, b.denominator),
                    .denominator = multiply(a.denominator, b.numerator)};
  quotient.negative = quotient.negative && quotient.numerator != "0";
  return quotient;
}

Rational join_mixed(const Rational& whole, const Rational& fraction) {
  return Rational{
      .negative = whole.negative,
      .numerator = add(multiply(whole.numerator, fraction.denominator), fraction.numerator),
      .denominator = fraction.denominator};
}

}  // namespace rlhf
