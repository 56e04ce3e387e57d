#include "rlhf/text/jinja_value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

int depth_of(const Value& value) {
  if (value.is(Type::list)) return value.as_list().depth;
  if (value.is(Type::dict) && !value.as_dict().is_namespace) return value.as_dict().depth;
  return 0;
}

void check_depth(int depth) {
  if (depth > kMaxDepth)
    throw Fault{fmt::format("lists or dicts are nested more than {} deep.", kMaxDepth), ""};
}

bool equal_items(const std::vector<Value>& a, const std::vector<Value>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&](const auto& item) {
    const Value* other = b.find(item.first);
    return other && equal(item.second, *other);
  });
}

[[noreturn]] void fail_kind(const Value& value, std::string_view what) {
  require_defined(value);
  throw Fault{fmt::format("a value of type '{}' {}.", type_name(value), what), ""};
}

}  // namespace

void require_defined(const Value& value) {
  if (!value.is(Type::undefined)) return;
  throw Fault{value.shared() ? value.as_string() : "a value is undefined.",
              "test it with 'is defined' or give it a default."};
}

Value same_kind(const Value& like, std::string text) {
  return Value::string(std::move(text), like.is_markup());
}

bool Function::attribute(Run&, std::string_view, Value&) { return false; }

const Value* Dict::find(const Value& key) const {
  for (const auto& [name, value] : items) {
    if (equal(name, key)) return &value;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name.is(Type::string) && name.as_string() == key) return &value;
  }
  return nullptr;
}

void Dict::set(Value key, Value value) {
  require_hashable(key);
  if (!is_namespace) {
    depth = std::max(depth, 1 + depth_of(value));
    check_depth(depth);
  }
  for (auto& [name, old] : items) {
    if (equal(name, key)) {
      old = std::move(value);
      return;
    }
  }
  require_item_count(items.size() + 1);
  items.emplace_back(std::move(key), std::move(value));
}

Value Value::undefined(std::string message) {
  Value value;
  value.object_ = std::make_shared<Text>(Text{std::move(message)});
  return value;
}

Value Value::none() {
  Value value;
  value.type_ = Type::none;
  return value;
}

Value Value::boolean(bool truth) {
  Value value;
  value.type_ = Type::boolean;
  value.number_.integer = truth ? 1 : 0;
  return value;
}

Value Value::integer(int64_t number) {
  Value value;
  value.type_ = Type::integer;
  value.number_.integer = number;
  return value;
}

Value Value::real(double number) {
  Value value;
  value.type_ = Type::real;
  value.number_.real = number;
  return value;
}

Value Value::string(std::string text, bool markup) {
  require_text_size(text.size());
  Value value;
  value.type_ = Type::string;
  value.markup_ = markup;
  value.object_ = std::make_shared<Text>(Text{std::move(text)});
  return value;
}

Value Value::list(std::vector<Value> items, Form form, std::string label) {
  require_item_count(items.size());
  auto made = std::make_shared<List>();
  for (const Value& item : items) made->depth = std::max(made->depth, 1 + depth_of(item));
  check_depth(made->depth);
  made->items = std::move(items);
  made->form = form;
  made->label = std::move(label);
  return of(std::move(made));
}

Value Value::dict(std::vector<std::pair<Value, Value>> items) {
  auto made = std::make_shared<Dict>();
  for (auto& [key, value] : items) made->set(std::move(key), std::move(value));
  return of(std::move(made));
}

Value Value::of(std::shared_ptr<List> list) {
  Value value;
  value.type_ = Type::list;
  value.object_ = std::move(list);
  return value;
}

Value Value::of(std::shared_ptr<Dict> dict) {
  Value value;
  value.type_ = Type::dict;
  value.object_ = std::move(dict);
  return value;
}

Value Value::of(std::shared_ptr<Function> function) {
  Value value;
  value.type_ = Type::function;
  value.object_ = std::move(function);
  return value;
}

bool Value::is_number() const { return is_integral() || type_ == Type::real; }
bool Value::is_sequence(Form form) const { return type_ == Type::list && as_list().form == form; }
double Value::as_real() const {
  return type_ == Type::real ? number_.real : static_cast<double>(number_.integer);
}
const std::string& Value::as_string() const {
  return static_cast<const Text*>(object_.get())->text;
}
List& Value::as_list() const { return *static_cast<List*>(object_.get()); }
Dict& Value::as_dict() const { return *static_cast<Dict*>(object_.get()); }
Function& Value::as_function() const { return *static_cast<Function*>(object_.get()); }

bool Value::truth() const {
  switch (type_) {
    case Type::undefined:
    case Type::none:
      return false;
    case Type::boolean:
    case Type::integer:
      return number_.integer != 0;
    case Type::real:
      return number_.real != 0.0;
    case Type::string:
      return !as_string().empty();
    case Type::list:
      return as_list().form == Form::iterator || !as_list().items.empty();
    case Type::dict:
      return as_dict().is_namespace || !as_dict().items.empty();
    case Type::function:
      return true;
  }
  return true;
}

std::vector<const Value*> Args::bind(std::string_view function,
                                     std::initializer_list<std::string_view> names,
                                     size_t required) const {
  std::vector<const Value*> out(names.size(), nullptr);
  if (positional.size() > names.size()) {
    throw Fault{fmt::format("{} takes at most {} arguments, got {}.", function, names.size(),
                            positional.size()),
                ""};
  }
  for (size_t i = 0; i < positional.size(); ++i) out[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end())
      throw Fault{fmt::format("{} has no argument '{}'.", function, name), ""};
    const Value*& slot = out[static_cast<size_t>(found - names.begin())];
    if (slot) throw Fault{fmt::format("{} was given its argument '{}' twice.", function, name), ""};
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!out[i])
      throw Fault{fmt::format("{} needs its argument '{}'.", function, names.begin()[i]), ""};
  }
  return out;
}

std::string type_name(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return "undefined";
    case Type::none:
      return "NoneType";
    case Type::boolean:
      return "bool";
    case Type::integer:
      return "int";
    case Type::real:
      return "float";
    case Type::string:
      return value.is_markup() ? "Markup" : "str";
    case Type::list:
      switch (value.as_list().form) {
        case Form::list:
          return "list";
        case Form::tuple:
          return "tuple";
        case Form::range:
          return "range";
        case Form::view:
          return value.as_list().label;
        case Form::iterator:
          return "generator";
      }
      return "list";
    case Type::dict:
      return value.as_dict().is_namespace ? "Namespace" : "dict";
    case Type::function:
      return "function";
  }
  return "object";
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.as_int() == b.as_int();
    return a.as_real() == b.as_real();
  }
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Type::undefined:
    case Type::none:
      return true;
    case Type::string:
      return a.as_string() == b.as_string();
    case Type::list: {
      const List& x = a.as_list();
      const List& y = b.as_list();
      if (&x == &y) return true;
      return x.form == y.form && x.form != Form::iterator && equal_items(x.items, y.items);
    }
    case Type::dict:
      if (&a.as_dict() == &b.as_dict()) return true;
      return !a.as_dict().is_namespace && !b.as_dict().is_namespace &&
             equal_dicts(a.as_dict(), b.as_dict());
    default:
      return a.shared() == b.shared();
  }
}

bool less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return a.as_int() < b.as_int();
    return a.as_real() < b.as_real();
  }
  if (a.is(Type::string) && b.is(Type::string))
    return a.as_string() < b.as_string();  // UTF-8 keeps the order
  for (const Form form : {Form::list, Form::tuple}) {
    if (!a.is_sequence(form) || !b.is_sequence(form)) continue;
    const auto& x = a.as_list().items;
    const auto& y = b.as_list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  require_defined(a);
  require_defined(b);
  throw Fault{fmt::format("'{}' and '{}' have no order.", type_name(a), type_name(b)), ""};
}

bool contains(const Value& container, const Value& item) {
  switch (container.type()) {
    case Type::undefined:
      return false;
    case Type::string:
      if (!item.is(Type::string)) {
        throw Fault{
            fmt::format("'in <string>' needs a string at its left, got '{}'.", type_name(item)),
            ""};
      }
      return container.as_string().find(item.as_string()) != std::string::npos;
    case Type::dict:
      if (container.as_dict().is_namespace) break;
      require_hashable(item);
      return container.as_dict().find(item) != nullptr;
    case Type::list: {
      const std::vector<Value> items = iterate(container);
      return std::any_of(items.begin(), items.end(),
                         [&](const Value& each) { return equal(each, item); });
    }
    default:
      break;
  }
  fail_kind(container, "is no container for 'in'");
}

std::vector<Value> iterate(const Value& value) {
  std::vector<Value> out;
  switch (value.type()) {
    case Type::undefined:
      return out;
    case Type::list: {
      List& list = value.as_list();
      if (list.form == Form::iterator) {
        out.swap(list.items);
        return out;
      }
      return list.items;
    }
    case Type::dict:
      if (value.as_dict().is_namespace) break;
      for (const auto& item : value.as_dict().items) out.push_back(item.first);
      return out;
    case Type::string:
      require_item_count(value.as_string().size());
      for (const char32_t point : decode(value.as_string())) {
        std::string one;
        append_point(one, point);
        out.push_back(Value::string(std::move(one), value.is_markup()));
      }
      return out;
    default:
      break;
  }
  fail_kind(value, "cannot be iterated");
}

int64_t length(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return 0;
    case Type::string:
      return static_cast<int64_t>(point_count(value.as_string()));
    case Type::list:
      if (value.as_list().form == Form::iterator) break;
      return static_cast<int64_t>(value.as_list().items.size());
    case Type::dict:
      if (value.as_dict().is_namespace) break;
      return static_cast<int64_t>(value.as_dict().items.size());
    default:
      break;
  }
  fail_kind(value, "has no length");
}

void require_hashable(const Value& value) {
  const bool bad = value.is(Type::dict)
                       ? !value.as_dict().is_namespace
                       : value.is(Type::list) && value.as_list().form == Form::list;
  if (bad) throw Fault{fmt::format("a {} cannot be a key.", type_name(value)), ""};
  if (value.is_sequence(Form::tuple)) {
    for (const Value& item : value.as_list().items) require_hashable(item);
  }
}

void require_text_size(size_t size) {
  if (size > kMaxText)
    throw Fault{fmt::format("the template makes a text of more than {} MiB.", kMaxText >> 20), ""};
}

void require_item_count(size_t count) {
  if (count > kMaxItems)
    throw Fault{fmt::format("the template makes a list of more than {} items.", kMaxItems), ""};
}

int64_t require_int(const Value& value, std::string_view what) {
  if (!value.is_integral()) {
    throw Fault{fmt::format("{} must be an integer, got '{}'.", what, type_name(value)), ""};
  }
  return value.as_int();
}

}  // namespace rlhf::jinja
