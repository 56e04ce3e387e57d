#include <fmt/format.h>

#include <algorithm>

#include "rlhf/text/jinja_filters.h"
#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

using Key = std::function<Value(const Value&)>;

Value fold_case(Value value) {
  return value.is(Type::string) ? Value::string(lower(value.as_string())) : value;
}

/// What sort, unique, min, max and groupby compare.
Key make_key(Run& run, const Value* attribute, bool case_sensitive) {
  return [&run, attribute, case_sensitive](const Value& item) {
    Value value = attribute ? run.attribute_path(item, *attribute) : item;
    return case_sensitive ? value : fold_case(std::move(value));
  };
}

/// Stable; a Fault in the order leaves nothing half done.
std::vector<Value> sorted(std::vector<Value> items, const Key& key, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : items) keyed.emplace_back(key(item), std::move(item));
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first) : less(a.first, b.first);
  });
  items.clear();
  for (auto& pair : keyed) items.push_back(std::move(pair.second));
  return items;
}

bool flag(const Value* value) { return value && value->truth(); }

Value iterator(std::vector<Value> items) { return Value::list(std::move(items), Form::iterator); }

Value count(Run&, const Value& subject, Args& args) {
  args.bind("length", {}, 0);
  return Value::integer(length(subject));
}

Value fallback(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("default", {"default_value", "boolean"}, 0);
  if (!subject.is(Type::undefined) && !(flag(given[1]) && !subject.truth())) return subject;
  return given[0] ? *given[0] : Value::string("");
}

Value join(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("join", {"d", "attribute"}, 0);
  const std::string separator = given[0] ? to_text(*given[0]) : "";
  std::string out;
  bool first = true;
  for (const Value& item : iterate(subject)) {
    if (!first) out += separator;
    first = false;
    out += to_text(given[1] ? run.attribute_path(item, *given[1]) : item);
    require_text_size(out.size());
  }
  return Value::string(std::move(out));
}

Value first(Run&, const Value& subject, Args& args) {
  args.bind("first", {}, 0);
  if (subject.is_sequence(Form::iterator)) {
    auto& items = subject.as_list().items;
    if (items.empty()) return Value::undefined("there is no first item.");
    Value out = items.front();
    items.erase(items.begin());
    return out;
  }
  const std::vector<Value> items = iterate(subject);
  return items.empty() ? Value::undefined("there is no first item.") : items.front();
}

void refuse_iterator(const Value& subject, std::string_view filter) {
  if (subject.is_sequence(Form::iterator)) {
    throw Fault{fmt::format("{} needs a list, got a generator.", filter),
                "put '| list' before it."};
  }
}

Value last(Run&, const Value& subject, Args& args) {
  args.bind("last", {}, 0);
  refuse_iterator(subject, "last");
  const std::vector<Value> items = iterate(subject);
  return items.empty() ? Value::undefined("there is no last item.") : items.back();
}

Value to_list(Run&, const Value& subject, Args& args) {
  args.bind("list", {}, 0);
  return Value::list(iterate(subject));
}

Value reverse(Run&, const Value& subject, Args& args) {
  args.bind("reverse", {}, 0);
  if (subject.is(Type::string)) {
    const std::u32string points = decode(subject.as_string());
    return Value::string(encode(std::u32string(points.rbegin(), points.rend())),
                         subject.is_markup());
  }
  std::vector<Value> items = iterate(subject);
  std::reverse(items.begin(), items.end());
  return subject.is_sequence(Form::iterator) ? Value::list(std::move(items))
                                             : iterator(std::move(items));
}

Value items_of(Run& run, const Value& subject, Args& args) {
  args.bind("items", {}, 0);
  if (subject.is(Type::undefined)) return iterator({});
  const Method items = find_method(subject, "items");
  if (!items) throw Fault{fmt::format("items needs a dict, got '{}'.", type_name(subject)), ""};
  return iterator(iterate(items(run, subject, args)));
}

Value dict_sort(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("dictsort", {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = given[1] ? to_text(*given[1]) : "key";
  if (by != "key" && by != "value") throw Fault{"dictsort sorts by 'key' or 'value'.", ""};
  const Method items = find_method(subject, "items");
  if (!items) throw Fault{fmt::format("dictsort needs a dict, got '{}'.", type_name(subject)), ""};
  const Value position = Value::integer(by == "key" ? 0 : 1);
  Args none;
  return Value::list(sorted(iterate(items(run, subject, none)),
                            make_key(run, &position, flag(given[0])), flag(given[2])));
}

Value sort(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("sort", {"reverse", "case_sensitive", "attribute"}, 0);
  const bool case_sensitive = flag(given[1]);
  Key key = make_key(run, given[2], case_sensitive);
  if (given[2] && given[2]->is(Type::string) &&
      given[2]->as_string().find(',') != std::string::npos) {
    const std::string_view comma = ",";
    key = [&run, case_sensitive,
           parts = split(given[2]->as_string(), &comma, -1, false)](const Value& item) {
      std::vector<Value> values;
      for (const std::string& part : parts) {
        Value value = run.attribute_path(item, Value::string(part));
        values.push_back(case_sensitive ? value : fold_case(value));
      }
      return Value::list(std::move(values));
    };
  }
  return Value::list(sorted(iterate(subject), key, flag(given[0])));
}

Value unique(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("unique", {"case_sensitive", "attribute"}, 0);
  const Key key = make_key(run, given[1], flag(given[0]));
  Dict seen;
  std::vector<Value> out;
  for (Value& item : iterate(subject)) {
    Value value = key(item);
    require_hashable(value);
    if (seen.find(value)) continue;
    seen.set(std::move(value), Value::none());
    out.push_back(std::move(item));
  }
  return iterator(std::move(out));
}

template <bool Max>
Value extreme(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind(Max ? "max" : "min", {"case_sensitive", "attribute"}, 0);
  const Key key = make_key(run, given[1], flag(given[0]));
  const std::vector<Value> items = iterate(subject);
  if (items.empty()) return Value::undefined("the sequence is empty.");
  size_t best = 0;
  Value best_key = key(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value value = key(items[i]);
    if (Max ? less(best_key, value) : less(value, best_key)) {
      best = i;
      best_key = std::move(value);
    }
  }
  return items[best];
}

Value sum(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("sum", {"attribute", "start"}, 0);
  Value total = given[1] ? *given[1] : Value::integer(0);
  if (total.is(Type::string)) throw Fault{"sum cannot add strings.", "use join."};
  const bool by_attribute = given[0] && !given[0]->is(Type::none);
  for (const Value& item : iterate(subject)) {
    total = arithmetic(Op::add, total, by_attribute ? run.attribute_path(item, *given[0]) : item);
  }
  return total;
}

Value batch(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("batch", {"linecount", "fill_with"}, 1);
  const int64_t size = require_int(*given[0], "the size of batch");
  std::vector<Value> out;
  std::vector<Value> row;
  for (Value& item : iterate(subject)) {
    if (static_cast<int64_t>(row.size()) == size)
      out.push_back(Value::list(std::exchange(row, {})));
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    if (given[1] && !given[1]->is(Type::none)) {
      require_item_count(static_cast<size_t>(std::max<int64_t>(0, size)));
      while (static_cast<int64_t>(row.size()) < size) row.push_back(*given[1]);
    }
    out.push_back(Value::list(std::move(row)));
  }
  return iterator(std::move(out));
}

Value slice(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("slice", {"slices", "fill_with"}, 1);
  const std::vector<Value> items = iterate(subject);
  const int64_t slices = require_int(*given[0], "the count of slice");
  if (slices == 0) throw Fault{"slice was given a count of zero.", ""};
  if (slices > 0) require_item_count(static_cast<size_t>(slices));
  const auto size = static_cast<int64_t>(items.size());
  std::vector<Value> out;
  int64_t begin = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t end = begin + size / slices + (i < size % slices ? 1 : 0);
    std::vector<Value> part(items.begin() + begin, items.begin() + end);
    if (given[1] && !given[1]->is(Type::none) && i >= size % slices) part.push_back(*given[1]);
    out.push_back(Value::list(std::move(part)));
    begin = end;
  }
  return iterator(std::move(out));
}

Value group_by(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("groupby", {"attribute", "default", "case_sensitive"}, 1);
  const auto lookup = [&](const Value& item) {
    return run.attribute_path(item, *given[0], given[1]);
  };
  const bool case_sensitive = flag(given[2]);
  const Key key = [&](const Value& item) {
    return case_sensitive ? lookup(item) : fold_case(lookup(item));
  };
  std::vector<Value> out;
  std::vector<Value> members;
  const auto flush = [&] {
    if (members.empty()) return;
    Value group = Value::list({lookup(members[0]), Value::list(members)}, Form::tuple);
    group.as_list().fields = {"grouper", "list"};
    out.push_back(std::move(group));
    members.clear();
  };
  for (Value& item : sorted(iterate(subject), key, /*reverse=*/false)) {
    if (!members.empty() && !equal(key(members[0]), key(item))) flush();
    members.push_back(std::move(item));
  }
  flush();
  return Value::list(std::move(out));
}

Value attribute(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("attr", {"name"}, 1);
  const std::string name = to_text(*given[0]);
  if (subject.is(Type::dict) && !subject.as_dict().is_namespace && !find_method(subject, name)) {
    return Value::undefined(fmt::format("a dict has no attribute '{}'.", name));
  }
  return run.attribute(subject, name);
}

Value map(Run& run, const Value& subject, Args& args) {
  std::vector<Value> out;
  if (!subject.truth()) return iterator({});
  const auto named = std::find_if(args.named.begin(), args.named.end(),
                                  [](auto& a) { return a.first == "attribute"; });
  if (args.positional.empty() && named != args.named.end()) {
    Args only;
    only.named = args.named;
    const auto given = only.bind("map", {"attribute", "default"}, 1);
    for (const Value& item : iterate(subject)) {
      out.push_back(run.attribute_path(item, *given[0], given[1]));
    }
    return iterator(std::move(out));
  }
  if (args.positional.empty()) throw Fault{"map needs the name of a filter or an attribute.", ""};
  const Builtin* filter = find_filter(to_text(args.positional[0]));
  if (!filter) {
    throw Fault{fmt::format("there is no filter named '{}'.", to_text(args.positional[0])),
                "supported: " + filter_names()};
  }
  Args rest;
  rest.positional.assign(args.positional.begin() + 1, args.positional.end());
  rest.named = args.named;
  for (const Value& item : iterate(subject)) {
    Args each = rest;
    out.push_back(filter->run(run, item, each));
  }
  return iterator(std::move(out));
}

template <bool Keep, bool ByAttribute>
Value select(Run& run, const Value& subject, Args& args) {
  std::vector<Value> out;
  if (!subject.truth()) return iterator({});
  const size_t used = ByAttribute ? 1 : 0;
  if (args.positional.size() < used)
    throw Fault{"selectattr and rejectattr need the name of an attribute.", ""};
  const Builtin* test = nullptr;
  Args rest;
  if (args.positional.size() > used) {
    test = find_test(to_text(args.positional[used]));
    if (!test) {
      throw Fault{fmt::format("there is no test named '{}'.", to_text(args.positional[used])),
                  "supported: " + test_names()};
    }
    rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(used) + 1,
                           args.positional.end());
    rest.named = args.named;
  }
  for (Value& item : iterate(subject)) {
    const Value value = ByAttribute ? run.attribute_path(item, args.positional[0]) : item;
    Args each = rest;
    const bool passes = test ? test->run(run, value, each).truth() : value.truth();
    if (passes == Keep) out.push_back(std::move(item));
  }
  return iterator(std::move(out));
}

constexpr Builtin kFilters[] = {
    {"attr", attribute},
    {"batch", batch},
    {"count", count},
    {"d", fallback},
    {"default", fallback},
    {"dictsort", dict_sort},
    {"first", first},
    {"groupby", group_by},
    {"items", items_of},
    {"join", join},
    {"last", last},
    {"length", count},
    {"list", to_list},
    {"map", map},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"slice", slice},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

std::span<const Builtin> sequence_filters() { return kFilters; }

}  // namespace rlhf::jinja
