// Operators on numbers, strings and lists, with Python's results.
#include <fmt/format.h>

#include <cmath>

#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

constexpr std::string_view kSigns[] = {"+", "-", "*", "/", "//", "%", "**"};

[[noreturn]] void fail_operands(Op op, const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  throw Fault{fmt::format("'{}' and '{}' have no operator '{}'.", type_name(a), type_name(b),
                          kSigns[static_cast<size_t>(op)]),
              ""};
}

[[noreturn]] void fail_overflow() { throw Fault{"an integer does not fit 64 bits.", ""}; }

int64_t floor_div(int64_t a, int64_t b) {
  if (b == -1) {
    int64_t out = 0;
    if (__builtin_sub_overflow(int64_t{0}, a, &out)) fail_overflow();
    return out;
  }
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

int64_t floor_mod(int64_t a, int64_t b) {
  if (b == -1) return 0;
  const int64_t rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

double real_mod(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0.0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double real_floor_div(double a, double b) {
  const double quotient = (a - real_mod(a, b)) / b;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1.0 : whole;
}

int64_t int_power(int64_t base, int64_t exponent) {
  int64_t out = 1;
  while (true) {
    if ((exponent & 1) && __builtin_mul_overflow(out, base, &out)) fail_overflow();
    exponent >>= 1;
    if (!exponent) return out;
    if (__builtin_mul_overflow(base, base, &base)) fail_overflow();
  }
}

Value integers(Op op, int64_t a, int64_t b) {
  int64_t out = 0;
  switch (op) {
    case Op::add:
      if (__builtin_add_overflow(a, b, &out)) fail_overflow();
      return Value::integer(out);
    case Op::sub:
      if (__builtin_sub_overflow(a, b, &out)) fail_overflow();
      return Value::integer(out);
    case Op::mul:
      if (__builtin_mul_overflow(a, b, &out)) fail_overflow();
      return Value::integer(out);
    case Op::pow:
      if (b < 0) return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)));
      return Value::integer(int_power(a, b));
    default:
      break;
  }
  if (op == Op::div) return Value::real(static_cast<double>(a) / static_cast<double>(b));
  return Value::integer(op == Op::floordiv ? floor_div(a, b) : floor_mod(a, b));
}

Value reals(Op op, double a, double b) {
  switch (op) {
    case Op::add:
      return Value::real(a + b);
    case Op::sub:
      return Value::real(a - b);
    case Op::mul:
      return Value::real(a * b);
    case Op::div:
      return Value::real(a / b);
    case Op::floordiv:
      return Value::real(real_floor_div(a, b));
    case Op::mod:
      return Value::real(real_mod(a, b));
    default: {
      const double out = std::pow(a, b);
      if (std::isinf(out) && !std::isinf(a) && !std::isinf(b))
        throw Fault{"a power is too large.", ""};
      if (std::isnan(out) && !std::isnan(a) && !std::isnan(b))
        throw Fault{"a power is no real number.", ""};
      return Value::real(out);
    }
  }
}

Value numbers(Op op, const Value& a, const Value& b) {
  const bool divides = op == Op::div || op == Op::floordiv || op == Op::mod;
  if (divides && b.as_real() == 0.0) throw Fault{"division by zero.", ""};
  if (op == Op::pow && a.as_real() == 0.0 && b.as_real() < 0.0)
    throw Fault{"zero has no negative power.", ""};
  if (a.is_integral() && b.is_integral()) return integers(op, a.as_int(), b.as_int());
  return reals(op, a.as_real(), b.as_real());
}

Value repeated(const Value& value, int64_t count) {
  const auto times = static_cast<size_t>(std::max<int64_t>(0, count));
  if (value.is(Type::string)) {
    const std::string& text = value.as_string();
    if (!text.empty() && times > kMaxText / text.size()) require_text_size(kMaxText + 1);
    std::string out;
    out.reserve(text.size() * times);
    for (size_t i = 0; i < times && !text.empty(); ++i) out += text;
    return Value::string(std::move(out), value.is_markup());
  }
  const List& list = value.as_list();
  if (!list.items.empty() && times > kMaxItems / list.items.size())
    require_item_count(kMaxItems + 1);
  std::vector<Value> out;
  for (size_t i = 0; i < times && !list.items.empty(); ++i)
    out.insert(out.end(), list.items.begin(), list.items.end());
  return Value::list(std::move(out), list.form);
}

bool is_repeatable(const Value& value) {
  return value.is(Type::string) || value.is_sequence(Form::list) || value.is_sequence(Form::tuple);
}

Value added(const Value& a, const Value& b) {
  if (a.is(Type::string) && b.is(Type::string)) {
    if (!a.is_markup() && !b.is_markup()) {
      require_text_size(a.as_string().size() + b.as_string().size());
      return Value::string(a.as_string() + b.as_string());
    }
    return Value::string(escaped(a) + escaped(b), /*markup=*/true);
  }
  for (const Form form : {Form::list, Form::tuple}) {
    if (!a.is_sequence(form) || !b.is_sequence(form)) continue;
    std::vector<Value> items = a.as_list().items;
    items.insert(items.end(), b.as_list().items.begin(), b.as_list().items.end());
    return Value::list(std::move(items), form);
  }
  fail_operands(Op::add, a, b);
}

}  // namespace

Value arithmetic(Op op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return numbers(op, a, b);
  if (op == Op::add) return added(a, b);
  if (op == Op::mod && a.is(Type::string)) return percent_format(a, b);
  if (op == Op::mul && is_repeatable(a) && b.is_integral()) return repeated(a, b.as_int());
  if (op == Op::mul && is_repeatable(b) && a.is_integral()) return repeated(b, a.as_int());
  fail_operands(op, a, b);
}

std::string escaped(const Value& value) {
  std::string text = to_text(value);
  if (value.is_markup()) return text;
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  require_text_size(out.size());
  return out;
}

}  // namespace rlhf::jinja
