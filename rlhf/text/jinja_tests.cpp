// The tests of `x is ...`.
#include <fmt/format.h>

#include <algorithm>

#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

Value yes(bool value) { return Value::boolean(value); }

template <bool (*Test)(const Value&)>
Value plain(Run&, const Value& subject, Args& args) {
  args.bind("the test", {}, 0);
  return yes(Test(subject));
}

bool is_defined(const Value& v) { return !v.is(Type::undefined); }
bool is_undefined(const Value& v) { return v.is(Type::undefined); }
bool is_none(const Value& v) { return v.is(Type::none); }
bool is_boolean(const Value& v) { return v.is(Type::boolean); }
bool is_true(const Value& v) { return v.is(Type::boolean) && v.as_bool(); }
bool is_false(const Value& v) { return v.is(Type::boolean) && !v.as_bool(); }
bool is_integer(const Value& v) { return v.is(Type::integer); }
bool is_float(const Value& v) { return v.is(Type::real); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is(Type::string); }
bool is_mapping(const Value& v) { return v.is(Type::dict) && !v.as_dict().is_namespace; }
bool is_callable(const Value& v) { return v.is(Type::function) || v.is(Type::undefined); }
bool is_escaped(const Value& v) { return v.is_markup(); }
bool is_iterable(const Value& v) {
  return v.is(Type::string) || v.is(Type::list) || v.is(Type::undefined) || is_mapping(v);
}
bool is_sequence(const Value& v) {
  if (v.is(Type::list)) return v.as_list().form != Form::iterator && v.as_list().form != Form::view;
  return v.is(Type::string) || v.is(Type::undefined) || is_mapping(v);
}

template <bool Upper>
bool has_case(const Value& value) {
  bool any = false;
  for (const char32_t point : decode(to_text(value))) {
    if (Upper ? is_cased_lower(point) : is_cased_upper(point)) return false;
    any = any || (Upper ? is_cased_upper(point) : is_cased_lower(point));
  }
  return any;
}

bool remainder_is(const Value& value, const Value& divisor, int64_t want) {
  return equal(arithmetic(Op::mod, value, divisor), Value::integer(want));
}
bool is_odd(const Value& v) { return remainder_is(v, Value::integer(2), 1); }
bool is_even(const Value& v) { return remainder_is(v, Value::integer(2), 0); }

Value divisible_by(Run&, const Value& subject, Args& args) {
  return yes(remainder_is(subject, *args.bind("divisibleby", {"num"}, 1)[0], 0));
}

Value same_as(Run&, const Value& subject, Args& args) {
  const Value& other = *args.bind("sameas", {"other"}, 1)[0];
  if (subject.type() != other.type()) return yes(false);
  if (subject.is(Type::list) || subject.is(Type::dict) || subject.is(Type::function)) {
    return yes(subject.shared() == other.shared());
  }
  return yes(equal(subject, other));
}

Value in(Run&, const Value& subject, Args& args) {
  return yes(contains(*args.bind("in", {"seq"}, 1)[0], subject));
}

template <Op op>
Value compares(Run&, const Value& subject, Args& args) {
  const Value& other = *args.bind("the comparison", {"other"}, 1)[0];
  switch (op) {
    case Op::eq:
      return yes(equal(subject, other));
    case Op::ne:
      return yes(!equal(subject, other));
    case Op::lt:
      return yes(less(subject, other));
    case Op::gt:
      return yes(less(other, subject));
    case Op::le:
      return yes(less(subject, other) || equal(subject, other));
    default:
      return yes(less(other, subject) || equal(subject, other));
  }
}

Value names_filter(Run&, const Value& subject, Args& args) {
  args.bind("filter", {}, 0);
  return yes(subject.is(Type::string) && find_filter(subject.as_string()));
}
Value names_test(Run&, const Value& subject, Args& args) {
  args.bind("test", {}, 0);
  return yes(subject.is(Type::string) && find_test(subject.as_string()));
}

constexpr Builtin kTests[] = {
    {"!=", compares<Op::ne>},
    {"<", compares<Op::lt>},
    {"<=", compares<Op::le>},
    {"==", compares<Op::eq>},
    {">", compares<Op::gt>},
    {">=", compares<Op::ge>},
    {"boolean", plain<is_boolean>},
    {"callable", plain<is_callable>},
    {"defined", plain<is_defined>},
    {"divisibleby", divisible_by},
    {"eq", compares<Op::eq>},
    {"equalto", compares<Op::eq>},
    {"escaped", plain<is_escaped>},
    {"even", plain<is_even>},
    {"false", plain<is_false>},
    {"filter", names_filter},
    {"float", plain<is_float>},
    {"ge", compares<Op::ge>},
    {"greaterthan", compares<Op::gt>},
    {"gt", compares<Op::gt>},
    {"in", in},
    {"integer", plain<is_integer>},
    {"iterable", plain<is_iterable>},
    {"le", compares<Op::le>},
    {"lessthan", compares<Op::lt>},
    {"lower", plain<has_case<false>>},
    {"lt", compares<Op::lt>},
    {"mapping", plain<is_mapping>},
    {"ne", compares<Op::ne>},
    {"none", plain<is_none>},
    {"number", plain<is_number>},
    {"odd", plain<is_odd>},
    {"sameas", same_as},
    {"sequence", plain<is_sequence>},
    {"string", plain<is_string>},
    {"test", names_test},
    {"true", plain<is_true>},
    {"undefined", plain<is_undefined>},
    {"upper", plain<has_case<true>>},
};

}  // namespace

const Builtin* find_test(std::string_view name) {
  const auto row = std::find_if(std::begin(kTests), std::end(kTests),
                                [&](const Builtin& b) { return b.name == name; });
  return row == std::end(kTests) ? nullptr : row;
}

std::string test_names() {
  std::vector<std::string_view> names;
  for (const Builtin& row : kTests) names.push_back(row.name);
  return fmt::format("{}.", fmt::join(names, ", "));
}

}  // namespace rlhf::jinja
