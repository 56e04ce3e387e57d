// Exact fractions read from text: an answer of thirty digits compares as exactly as one of two.
//
// Numbers stay strings of decimal digits; a/b = c/d is decided by a·d = c·b in schoolbook
// arithmetic.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rlhf {

/// (negative ? -1 : 1) · numerator / denominator. Digits only, no leading zeros ("0" is zero, never
/// negative); the denominator is not zero. Not reduced: compare with ==.
struct Rational {
  bool negative = false;
  std::string numerator = "0";
  std::string denominator = "1";
};

bool operator==(const Rational& a, const Rational& b);

/// `[+-]digits[.digits][e[+-]digits]`, with thousands separators (`1,234,567.8`) where every group
/// fits. Nothing else around it, no white space. Empty for anything else, and for numbers of more
/// than 1000 digits.
std::optional<Rational> parse_decimal(std::string_view text);

/// a / b; empty where b is zero.
std::optional<Rational> divide(const Rational& a, const Rational& b);

/// whole + fraction, the sign of `whole` before the sum: -1 and 1/2 give -3/2. `whole` is an
/// integer, `fraction` not negative.
Rational join_mixed(const Rational& whole, const Rational& fraction);

}  // namespace rlhf
