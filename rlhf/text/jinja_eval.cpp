// Expressions.
#include <fmt/format.h>

#include <algorithm>

#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_run_depth.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

struct BoundMethod : Function {
  Value self;
  Method method;
  Value call(Run& run, Args& args) override { return method(run, self, args); }
};

Value missing(const Value& object, std::string_view name) {
  return Value::undefined(
      fmt::format("a value of type '{}' has no attribute '{}'.", type_name(object), name));
}

/// Position of an index in a sequence of `size`, or npos.
size_t position(int64_t index, size_t size) {
  const auto count = static_cast<int64_t>(size);
  if (index < 0) index += count;
  return index < 0 || index >= count ? std::string::npos : static_cast<size_t>(index);
}

Value code_point(const Value& text, int64_t index) {
  const std::string& bytes = text.as_string();
  if (is_ascii(bytes)) {
    const size_t at = position(index, bytes.size());
    return at == std::string::npos ? Value()
                                   : Value::string(std::string(1, bytes[at]), text.is_markup());
  }
  const std::u32string points = decode(bytes);
  const size_t at = position(index, points.size());
  if (at == std::string::npos) return Value();
  return Value::string(encode(std::u32string_view(points).substr(at, 1)), text.is_markup());
}

/// Positions start, start + step ... as slice.indices gives them.
std::vector<size_t> slice_positions(const Value* bounds, size_t size) {
  const auto count = static_cast<int64_t>(size);
  const auto number = [](const Value& value) { return require_int(value, "a slice bound"); };
  const int64_t step = bounds[2].is(Type::none) ? 1 : number(bounds[2]);
  if (step == 0) throw Fault{"a slice step is zero.", ""};
  const auto clamp = [&](const Value& value, int64_t absent) {
    if (value.is(Type::none)) return absent;
    int64_t at = number(value);
    if (at < 0) at += count;
    return step > 0 ? std::clamp<int64_t>(at, 0, count) : std::clamp<int64_t>(at, -1, count - 1);
  };
  const int64_t start = clamp(bounds[0], step > 0 ? 0 : count - 1);
  const int64_t stop = clamp(bounds[1], step > 0 ? count : -1);
  std::vector<size_t> out;
  // A step beyond the size takes one item; clamping it keeps the sum from overflowing.
  const int64_t stride = std::clamp<int64_t>(step, -count - 1, count + 1);
  for (int64_t at = start; step > 0 ? at < stop : at > stop; at += stride)
    out.push_back(static_cast<size_t>(at));
  return out;
}

Value sliced(const Value& object, const Value* bounds) {
  if (object.is(Type::string)) {
    const std::u32string points = decode(object.as_string());
    std::u32string out;
    for (const size_t at : slice_positions(bounds, points.size())) out += points[at];
    return Value::string(encode(out), object.is_markup());
  }
  if (object.is(Type::list) && object.as_list().form != Form::iterator &&
      object.as_list().form != Form::view) {
    const List& list = object.as_list();
    std::vector<Value> out;
    for (const size_t at : slice_positions(bounds, list.items.size()))
      out.push_back(list.items[at]);
    return Value::list(std::move(out), list.form, list.form == Form::range ? "range" : "");
  }
  require_defined(object);
  throw Fault{fmt::format("a value of type '{}' has no slices.", type_name(object)), ""};
}

bool compare(Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::eq:
      return equal(a, b);
    case Op::ne:
      return !equal(a, b);
    case Op::lt:
      return less(a, b);
    case Op::gt:
      return less(b, a);
    case Op::le:
      return less(a, b) || equal(a, b);
    case Op::ge:
      return less(b, a) || equal(a, b);
    case Op::in:
      return contains(b, a);
    default:
      return !contains(b, a);
  }
}

}  // namespace

void Run::tick(int line) {
  line_ = line;
  if (++steps_ > kMaxSteps)
    throw Fault{fmt::format("the template takes more than {} steps.", kMaxSteps), ""};
}

Value Run::eval(const Expr& expr) {
  using Kind = Expr::Kind;
  const Depth guard(depth_);
  tick(expr.line);
  switch (expr.kind) {
    case Kind::constant:
      return expr.value;
    case Kind::name:
      return eval_name(expr);
    case Kind::list:
    case Kind::tuple:
    case Kind::dict:
      return eval_constructor(expr);
    case Kind::attribute:
      return attribute(eval(*expr.items[0]), expr.text);
    case Kind::item: {
      const Value object = eval(*expr.items[0]);
      return item(object, eval(*expr.items[1]));
    }
    case Kind::slice:
      return eval_slice(expr);
    case Kind::call:
      return eval_call(expr);
    case Kind::filter:
    case Kind::test:
      return eval_builtin(expr);
    case Kind::negation:
      return Value::boolean(!eval(*expr.items[0]).truth());
    case Kind::negative: {
      const Value operand = eval(*expr.items[0]);
      return operand.is(Type::real) ? Value::real(-operand.as_real())
                                    : arithmetic(Op::sub, Value::integer(0), operand);
    }
    case Kind::positive:
      return arithmetic(Op::add, Value::integer(0), eval(*expr.items[0]));
    case Kind::binary:
      return eval_binary(expr);
    case Kind::both: {
      Value left = eval(*expr.items[0]);
      return left.truth() ? eval(*expr.items[1]) : left;
    }
    case Kind::either: {
      Value left = eval(*expr.items[0]);
      return left.truth() ? left : eval(*expr.items[1]);
    }
    case Kind::compare:
      return eval_compare(expr);
    case Kind::concat:
      return eval_concat(expr);
    case Kind::conditional:
      if (eval(*expr.items[0]).truth()) return eval(*expr.items[1]);
      if (expr.items[2]) return eval(*expr.items[2]);
      return Value::undefined("the inline if evaluated to false and has no else.");
    case Kind::block_text:
      return block_text_;
  }
  return Value();
}

Value Run::eval_name(const Expr& expr) {
  const Value* found = scope_->find(expr.name);
  return found ? *found : Value::undefined(fmt::format("'{}' is undefined.", expr.text));
}

Value Run::eval_constructor(const Expr& expr) {
  std::vector<Value> items;
  items.reserve(expr.items.size());
  for (const ExprPtr& item : expr.items) items.push_back(eval(*item));
  if (expr.kind != Expr::Kind::dict) {
    return Value::list(std::move(items), expr.kind == Expr::Kind::list ? Form::list : Form::tuple);
  }
  auto dict = std::make_shared<Dict>();
  for (size_t i = 0; i + 1 < items.size(); i += 2) dict->set(items[i], items[i + 1]);
  return Value::of(std::move(dict));
}

Value Run::eval_slice(const Expr& expr) {
  const Value object = eval(*expr.items[0]);
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i)
    bounds[i] = expr.items[i + 1] ? eval(*expr.items[i + 1]) : Value::none();
  return sliced(object, bounds);
}

Value Run::eval_binary(const Expr& expr) {
  const Value left = eval(*expr.items[0]);
  const Value right = eval(*expr.items[1]);
  line_ = expr.line;
  return arithmetic(expr.op, left, right);
}

Value Run::eval_compare(const Expr& expr) {
  Value left = eval(*expr.items[0]);
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    Value right = eval(*expr.items[i + 1]);
    if (!compare(expr.ops[i], left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Run::eval_concat(const Expr& expr) {
  std::string out;
  for (const ExprPtr& item : expr.items) {
    out += to_text(eval(*item));
    require_text_size(out.size());
  }
  return Value::string(std::move(out));
}

void Run::eval_args(const CallArgs& from, Args& to) {
  for (const ExprPtr& each : from.positional) to.positional.push_back(eval(*each));
  for (const auto& [name, each] : from.named) to.named.emplace_back(name, eval(*each));
  if (from.star) {
    for (Value& each : iterate(eval(*from.star))) to.positional.push_back(std::move(each));
  }
  if (from.star_star) {
    const Value extra = eval(*from.star_star);
    if (!extra.is(Type::dict)) throw Fault{"the argument after '**' must be a dict.", ""};
    for (const auto& [key, each] : extra.as_dict().items) {
      if (!key.is(Type::string)) throw Fault{"names of arguments after '**' must be strings.", ""};
      to.named.emplace_back(key.as_string(), each);
    }
  }
}

Value Run::eval_call(const Expr& expr) {
  const Expr& callee = *expr.items[0];
  Args args;
  if (callee.kind == Expr::Kind::attribute) {
    const Value self = eval(*callee.items[0]);
    const Method method = find_method(self, callee.text);
    if (method) {
      eval_args(*expr.args, args);
      line_ = expr.line;
      return method(*this, self, args);
    }
    const Value function = attribute(self, callee.text);
    eval_args(*expr.args, args);
    line_ = expr.line;
    return call(function, args);
  }
  const Value function = eval(callee);
  eval_args(*expr.args, args);
  line_ = expr.line;
  return call(function, args);
}

Value Run::eval_builtin(const Expr& expr) {
  if (!expr.builtin) {
    throw Fault{fmt::format("there is no {} named '{}'.",
                            expr.kind == Expr::Kind::filter ? "filter" : "test", expr.text),
                ""};
  }
  const Value subject = eval(*expr.items[0]);
  Args args;
  eval_args(*expr.args, args);
  line_ = expr.line;
  return expr.builtin->run(*this, subject, args);
}

Value Run::call(const Value& callee, Args& args) {
  const Depth guard(depth_);
  require_defined(callee);
  if (!callee.is(Type::function)) {
    throw Fault{fmt::format("a value of type '{}' cannot be called.", type_name(callee)), ""};
  }
  const int line = line_;
  Value result = callee.as_function().call(*this, args);
  line_ = line;
  return result;
}

Value Run::attribute(const Value& object, const std::string& name) {
  require_defined(object);
  if (object.is(Type::function)) {
    Value out;
    return object.as_function().attribute(*this, name, out) ? out : missing(object, name);
  }
  if (const Method method = find_method(object, name)) {
    auto bound = std::make_shared<BoundMethod>();
    bound->name = name;
    bound->self = object;
    bound->method = method;
    return Value::of(std::static_pointer_cast<Function>(bound));
  }
  if (is_mutator(object, name)) {
    return Value::undefined(fmt::format(
        "'{}' of a {} is unsafe: a template cannot change its values.", name, type_name(object)));
  }
  if (object.is(Type::dict)) {
    if (const Value* found = object.as_dict().find(std::string_view(name))) return *found;
  }
  if (object.is(Type::list)) {
    const auto& fields = object.as_list().fields;
    const auto field = std::find(fields.begin(), fields.end(), name);
    if (field != fields.end())
      return object.as_list().items[static_cast<size_t>(field - fields.begin())];
  }
  return missing(object, name);
}

Value Run::item(const Value& object, const Value& key) {
  require_defined(object);
  if (object.is(Type::dict) && !object.as_dict().is_namespace) {
    const bool hashable = !key.is(Type::list) && !key.is(Type::dict);
    if (key.is(Type::string)) {
      if (const Value* found = object.as_dict().find(key.as_string())) return *found;
    } else if (hashable || key.is_sequence(Form::tuple)) {
      if (const Value* found = object.as_dict().find(key)) return *found;
    }
  }
  if (key.is_integral()) {
    if (object.is(Type::string)) {
      Value found = code_point(object, key.as_int());
      if (!found.is(Type::undefined)) return found;
    }
    const bool indexed = object.is_sequence(Form::list) || object.is_sequence(Form::tuple) ||
                         object.is_sequence(Form::range);
    if (indexed) {
      const auto& items = object.as_list().items;
      const size_t at = position(key.as_int(), items.size());
      if (at != std::string::npos) return items[at];
    }
  }
  if (key.is(Type::string)) {
    // As Jinja2: an attribute of that name, though never again an item.
    if (object.is(Type::dict) && !object.as_dict().is_namespace &&
        !find_method(object, key.as_string()) && !is_mutator(object, key.as_string())) {
      return missing(object, key.as_string());
    }
    return attribute(object, key.as_string());
  }
  return Value::undefined(
      fmt::format("a value of type '{}' has no item {}.", type_name(object), to_repr(key)));
}

Value Run::attribute_path(const Value& object, const Value& path, const Value* fallback) {
  const bool has_fallback = fallback && !fallback->is(Type::none);
  const auto step = [&](const Value& from, const Value& key) {
    Value found = item(from, key);
    return found.is(Type::undefined) && has_fallback ? *fallback : found;
  };
  if (path.is(Type::none)) return object;
  if (!path.is(Type::string)) return step(object, path);
  Value value = object;
  const std::string_view dot = ".";
  for (const std::string& part : split(path.as_string(), &dot, -1, /*from_right=*/false)) {
    const bool number =
        !part.empty() && part.size() < 18 &&
        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    value = step(value, number ? Value::integer(std::stoll(part)) : Value::string(part));
  }
  return value;
}

}  // namespace rlhf::jinja
