// Methods of dicts and lists, and which methods there are.
#include "rlhf/text/jinja_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>

namespace rlhf::jinja {
namespace {

// --- dicts ---

Value dict_get(Run&, const Value& self, Args& args) {
  const auto given = args.bind("get", {"key", "default"}, 1);
  if (!args.named.empty()) throw Fault{"dict.get takes no keyword arguments.", ""};
  require_hashable(*given[0]);
  if (const Value* value = self.as_dict().find(*given[0])) return *value;
  return given[1] ? *given[1] : Value::none();
}

Value dict_items(Run&, const Value& self, Args& args) {
  require_no_args(args, "items");
  std::vector<Value> out;
  for (const auto& [key, value] : self.as_dict().items)
    out.push_back(Value::list({key, value}, Form::tuple));
  return Value::list(std::move(out), Form::view, "dict_items");
}

Value dict_keys(Run&, const Value& self, Args& args) {
  require_no_args(args, "keys");
  return Value::list(iterate(self), Form::view, "dict_keys");
}

Value dict_values(Run&, const Value& self, Args& args) {
  require_no_args(args, "values");
  std::vector<Value> out;
  for (const auto& item : self.as_dict().items) out.push_back(item.second);
  return Value::list(std::move(out), Form::view, "dict_values");
}

Value copied(Run&, const Value& self, Args& args) {
  require_no_args(args, "copy");
  if (self.is(Type::list)) return Value::list(self.as_list().items);
  return Value::of(std::make_shared<Dict>(self.as_dict()));
}

// --- lists ---

Value list_index(Run&, const Value& self, Args& args) {
  const auto given = args.bind("index", {"value", "start", "stop"}, 1);
  const auto& items = self.as_list().items;
  const auto size = static_cast<int64_t>(items.size());
  const auto bound = [&](const Value* value, int64_t absent) {
    if (!value) return absent;
    const int64_t at = require_int(*value, "a position");
    return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size);
  };
  const int64_t stop = bound(given[2], size);
  for (int64_t i = bound(given[1], 0); i < stop; ++i) {
    if (equal(items[static_cast<size_t>(i)], *given[0])) return Value::integer(i);
  }
  throw Fault{fmt::format("{} is not in the list.", to_repr(*given[0])), ""};
}

Value list_count(Run&, const Value& self, Args& args) {
  const auto given = args.bind("count", {"value"}, 1);
  const auto& items = self.as_list().items;
  return Value::integer(std::count_if(items.begin(), items.end(),
                                      [&](const Value& v) { return equal(v, *given[0]); }));
}

constexpr MethodRow kDictMethods[] = {{"copy", copied},
                                      {"get", dict_get},
                                      {"items", dict_items},
                                      {"keys", dict_keys},
                                      {"values", dict_values}};
constexpr MethodRow kListMethods[] = {
    {"copy", copied}, {"count", list_count}, {"index", list_index}};

Method find_row(std::span<const MethodRow> rows, std::string_view name) {
  const auto row = std::find_if(rows.begin(), rows.end(),
                                [&](const MethodRow& each) { return each.first == name; });
  return row == rows.end() ? nullptr : row->second;
}

}  // namespace

Method find_method(const Value& self, std::string_view name) {
  switch (self.type()) {
    case Type::string:
      return find_row(string_methods(), name);
    case Type::dict:
      return self.as_dict().is_namespace ? nullptr : find_row(kDictMethods, name);
    case Type::list:
      if (self.as_list().form == Form::list) return find_row(kListMethods, name);
      if (self.as_list().form == Form::view || self.as_list().form == Form::iterator)
        return nullptr;
      return name == "copy" ? nullptr : find_row(kListMethods, name);
    default:
      return nullptr;
  }
}

bool is_mutator(const Value& self, std::string_view name) {
  static constexpr std::string_view kList[] = {"append", "clear", "pop",    "reverse",
                                               "insert", "sort",  "extend", "remove"};
  static constexpr std::string_view kDict[] = {"clear", "pop", "popitem", "setdefault", "update"};
  const auto among = [&](std::span<const std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (self.is(Type::dict)) return !self.as_dict().is_namespace && among(kDict);
  return self.is_sequence(Form::list) && among(kList);
}

const std::string& require_text(const Value& value, std::string_view what) {
  if (!value.is(Type::string)) {
    throw Fault{fmt::format("{} must be a string, got '{}'.", what, type_name(value)), ""};
  }
  return value.as_string();
}

void require_no_args(const Args& args, std::string_view method) { args.bind(method, {}, 0); }

}  // namespace rlhf::jinja
