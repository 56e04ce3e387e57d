// Methods of strings, dicts and lists, and the global functions.
#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

using MethodRow = std::pair<std::string_view, Method>;

const std::string& text_of(const Value& value, std::string_view what) {
  if (!value.is(Type::string)) {
    throw Fault{fmt::format("{} must be a string, got '{}'.", what, type_name(value)), ""};
  }
  return value.as_string();
}

Value same_kind(const Value& self, std::string text) {
  return Value::string(std::move(text), self.is_markup());
}

void no_args(const Args& args, std::string_view method) { args.bind(method, {}, 0); }

template <std::string (*Map)(std::string_view)>
Value mapped(Run&, const Value& self, Args& args) {
  no_args(args, "the method");
  return same_kind(self, Map(self.as_string()));
}

template <Side side>
Value stripped(Run&, const Value& self, Args& args) {
  const auto given = args.bind("strip", {"chars"}, 0);
  if (!given[0] || given[0]->is(Type::none))
    return same_kind(self, std::string(strip(self.as_string(), side)));
  const std::string_view chars = text_of(*given[0], "the characters of strip");
  return same_kind(self, std::string(strip(self.as_string(), side, &chars)));
}

template <bool FromRight>
Value split_up(Run&, const Value& self, Args& args) {
  const auto given = args.bind("split", {"sep", "maxsplit"}, 0);
  const int64_t limit = given[1] ? require_int(*given[1], "maxsplit") : -1;
  std::vector<std::string> parts;
  if (!given[0] || given[0]->is(Type::none)) {
    parts = split(self.as_string(), nullptr, limit, FromRight);
  } else {
    const std::string_view separator = text_of(*given[0], "the separator of split");
    parts = split(self.as_string(), &separator, limit, FromRight);
  }
  std::vector<Value> out;
  for (std::string& part : parts) out.push_back(same_kind(self, std::move(part)));
  return Value::list(std::move(out));
}

/// The part of a string between optional start and end (code points), and where it begins in bytes.
struct Window {
  std::u32string points;
  int64_t start = 0;
};
Window window(const Value& self, const Value* start, const Value* end) {
  Window out{decode(self.as_string()), 0};
  const auto size = static_cast<int64_t>(out.points.size());
  const auto clamp = [&](const Value* value, int64_t absent) {
    if (!value || value->is(Type::none)) return absent;
    int64_t at = require_int(*value, "a position");
    if (at < 0) at = std::max<int64_t>(0, at + size);
    return at;
  };
  out.start = clamp(start, 0);
  const int64_t stop = std::min(clamp(end, size), size);
  if (out.start > stop) {
    out.start = -1;  // nothing there, not even an empty match
    out.points.clear();
  } else {
    out.points =
        out.points.substr(static_cast<size_t>(out.start), static_cast<size_t>(stop - out.start));
  }
  return out;
}

template <bool AtEnd>
Value has_affix(Run&, const Value& self, Args& args) {
  const auto given = args.bind(AtEnd ? "endswith" : "startswith", {"affix", "start", "end"}, 1);
  const Window part = window(self, given[1], given[2]);
  const auto matches = [&](const Value& affix) {
    const std::u32string want = decode(text_of(affix, "what startswith or endswith looks for"));
    if (part.start < 0) return false;
    return AtEnd ? part.points.ends_with(want) : part.points.starts_with(want);
  };
  if (!given[0]->is_sequence(Form::tuple)) return Value::boolean(matches(*given[0]));
  const auto& all = given[0]->as_list().items;
  return Value::boolean(std::any_of(all.begin(), all.end(), matches));
}

template <bool FromRight, bool MustFind>
Value found(Run&, const Value& self, Args& args) {
  const auto given = args.bind("find", {"sub", "start", "end"}, 1);
  const std::u32string want = decode(text_of(*given[0], "what find looks for"));
  const Window part = window(self, given[1], given[2]);
  size_t at = std::u32string::npos;
  if (part.start >= 0) at = FromRight ? part.points.rfind(want) : part.points.find(want);
  if (at != std::u32string::npos) return Value::integer(part.start + static_cast<int64_t>(at));
  if (MustFind) throw Fault{"index: the substring is not there.", ""};
  return Value::integer(-1);
}

Value counted(Run&, const Value& self, Args& args) {
  const auto given = args.bind("count", {"sub", "start", "end"}, 1);
  const std::u32string want = decode(text_of(*given[0], "what count looks for"));
  const Window part = window(self, given[1], given[2]);
  if (part.start < 0) return Value::integer(0);
  if (want.empty()) return Value::integer(static_cast<int64_t>(part.points.size()) + 1);
  int64_t count = 0;
  for (size_t at = part.points.find(want); at != std::u32string::npos;
       at = part.points.find(want, at + want.size())) {
    ++count;
  }
  return Value::integer(count);
}

Value replaced(Run&, const Value& self, Args& args) {
  const auto given = args.bind("replace", {"old", "new", "count"}, 2);
  const int64_t limit = given[2] ? require_int(*given[2], "the count of replace") : -1;
  return same_kind(self, replace(self.as_string(), text_of(*given[0], "what replace looks for"),
                                 text_of(*given[1], "what replace puts in"), limit));
}

Value joined(Run&, const Value& self, Args& args) {
  const auto given = args.bind("join", {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : iterate(*given[0])) {
    if (!first) out += self.as_string();
    first = false;
    out += text_of(item, "each item of join");
    require_text_size(out.size());
  }
  return same_kind(self, std::move(out));
}

Value lines(Run&, const Value& self, Args& args) {
  const auto given = args.bind("splitlines", {"keepends"}, 0);
  std::vector<Value> out;
  for (std::string& line : split_lines(self.as_string(), given[0] && given[0]->truth())) {
    out.push_back(same_kind(self, std::move(line)));
  }
  return Value::list(std::move(out));
}

template <bool (*Test)(char32_t)>
Value all_points(Run&, const Value& self, Args& args) {
  no_args(args, "the method");
  const std::u32string points = decode(self.as_string());
  return Value::boolean(!points.empty() && std::all_of(points.begin(), points.end(), Test));
}
bool is_alnum(char32_t point) { return is_alpha(point) || is_decimal(point); }

template <bool Upper>
Value has_case(Run&, const Value& self, Args& args) {
  no_args(args, "the method");
  bool any = false;
  for (const char32_t point : decode(self.as_string())) {
    if (Upper ? is_cased_lower(point) : is_cased_upper(point)) return Value::boolean(false);
    any = any || (Upper ? is_cased_upper(point) : is_cased_lower(point));
  }
  return Value::boolean(any);
}

Value is_title(Run&, const Value& self, Args& args) {
  no_args(args, "istitle");
  bool inside = false;
  bool any = false;
  for (const char32_t point : decode(self.as_string())) {
    const bool up = is_cased_upper(point);
    const bool low = is_cased_lower(point);
    if ((up && inside) || (low && !inside)) return Value::boolean(false);
    inside = up || low;
    any = any || inside;
  }
  return Value::boolean(any);
}

std::string padded(const std::string& text, int64_t left, int64_t right, std::string_view fill) {
  require_text_size(static_cast<size_t>(std::max<int64_t>(0, left) + std::max<int64_t>(0, right)) *
                    fill.size());
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = 0; i < right; ++i) out += fill;
  return out;
}

/// -1 pads at the right, +1 at the left, 0 on both sides.
template <int Where>
Value justified(Run&, const Value& self, Args& args) {
  const auto given = args.bind("padding", {"width", "fillchar"}, 1);
  const std::string fill = given[1] ? text_of(*given[1], "the fill character") : " ";
  if (point_count(fill) != 1)
    throw Fault{"the fill character must be exactly one character long.", ""};
  const int64_t width =
      std::min(require_int(*given[0], "the width"), static_cast<int64_t>(kMaxText) + 1);
  const int64_t lack = width - length(self);
  if (lack <= 0) return self;
  // As CPython: an odd rest goes left where the width is odd.
  const int64_t left = Where > 0 ? lack : Where < 0 ? 0 : lack / 2 + (lack & width & 1);
  return same_kind(self, padded(self.as_string(), left, lack - left, fill));
}

Value zero_filled(Run&, const Value& self, Args& args) {
  const auto given = args.bind("zfill", {"width"}, 1);
  const int64_t width =
      std::min(require_int(*given[0], "the width"), static_cast<int64_t>(kMaxText) + 1);
  const std::string& text = self.as_string();
  const bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
  const std::string zeros = padded("", width - length(self), 0, "0");
  return same_kind(self, (sign ? text.substr(0, 1) : "") + zeros + text.substr(sign ? 1 : 0));
}

template <bool Prefix>
Value without_affix(Run&, const Value& self, Args& args) {
  const auto given = args.bind("removeprefix", {"affix"}, 1);
  const std::string& affix = text_of(*given[0], "the affix");
  const std::string& text = self.as_string();
  if (Prefix && text.starts_with(affix)) return same_kind(self, text.substr(affix.size()));
  if (!Prefix && text.ends_with(affix))
    return same_kind(self, text.substr(0, text.size() - affix.size()));
  return self;
}

template <bool FromRight>
Value partitioned(Run&, const Value& self, Args& args) {
  const auto given = args.bind("partition", {"sep"}, 1);
  const std::string& text = self.as_string();
  const std::string& separator = text_of(*given[0], "the separator of partition");
  if (separator.empty()) throw Fault{"partition was given an empty separator.", ""};
  const size_t at = FromRight ? text.rfind(separator) : text.find(separator);
  std::string parts[3];
  if (at == std::string::npos) {
    parts[FromRight ? 2 : 0] = text;
  } else {
    parts[0] = text.substr(0, at);
    parts[1] = separator;
    parts[2] = text.substr(at + separator.size());
  }
  return Value::list(
      {same_kind(self, parts[0]), same_kind(self, parts[1]), same_kind(self, parts[2])},
      Form::tuple);
}

Value swapped_case(Run&, const Value& self, Args& args) {
  no_args(args, "swapcase");
  std::string out;
  for (const char32_t point : decode(self.as_string())) {
    std::string one;
    append_point(one, point);
    out += is_cased_upper(point) ? lower(one) : is_cased_lower(point) ? upper(one) : one;
  }
  return same_kind(self, std::move(out));
}

Value formatted(Run& run, const Value& self, Args& args) {
  return same_kind(self, brace_format(run, self.as_string(), args));
}

// --- dicts ---

Value dict_get(Run&, const Value& self, Args& args) {
  const auto given = args.bind("get", {"key", "default"}, 1);
  if (!args.named.empty()) throw Fault{"dict.get takes no keyword arguments.", ""};
  require_hashable(*given[0]);
  if (const Value* value = self.as_dict().find(*given[0])) return *value;
  return given[1] ? *given[1] : Value::none();
}

Value dict_items(Run&, const Value& self, Args& args) {
  no_args(args, "items");
  std::vector<Value> out;
  for (const auto& [key, value] : self.as_dict().items)
    out.push_back(Value::list({key, value}, Form::tuple));
  return Value::list(std::move(out), Form::view, "dict_items");
}

Value dict_keys(Run&, const Value& self, Args& args) {
  no_args(args, "keys");
  return Value::list(iterate(self), Form::view, "dict_keys");
}

Value dict_values(Run&, const Value& self, Args& args) {
  no_args(args, "values");
  std::vector<Value> out;
  for (const auto& item : self.as_dict().items) out.push_back(item.second);
  return Value::list(std::move(out), Form::view, "dict_values");
}

Value copied(Run&, const Value& self, Args& args) {
  no_args(args, "copy");
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

constexpr MethodRow kStringMethods[] = {
    {"capitalize", mapped<capitalize>},
    {"casefold", mapped<lower>},
    {"center", justified<0>},
    {"count", counted},
    {"endswith", has_affix<true>},
    {"find", found<false, false>},
    {"format", formatted},
    {"index", found<false, true>},
    {"isalnum", all_points<is_alnum>},
    {"isalpha", all_points<is_alpha>},
    {"isdecimal", all_points<is_decimal>},
    {"isdigit", all_points<is_decimal>},
    {"islower", has_case<false>},
    {"isnumeric", all_points<is_decimal>},
    {"isspace", all_points<is_space>},
    {"istitle", is_title},
    {"isupper", has_case<true>},
    {"join", joined},
    {"ljust", justified<-1>},
    {"lower", mapped<lower>},
    {"lstrip", stripped<kLeft>},
    {"partition", partitioned<false>},
    {"removeprefix", without_affix<true>},
    {"removesuffix", without_affix<false>},
    {"replace", replaced},
    {"rfind", found<true, false>},
    {"rindex", found<true, true>},
    {"rjust", justified<1>},
    {"rpartition", partitioned<true>},
    {"rsplit", split_up<true>},
    {"rstrip", stripped<kRight>},
    {"split", split_up<false>},
    {"splitlines", lines},
    {"startswith", has_affix<false>},
    {"strip", stripped<kBothSides>},
    {"swapcase", swapped_case},
    {"title", mapped<title>},
    {"upper", mapped<upper>},
    {"zfill", zero_filled},
};
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

struct Lambda : Function {
  std::function<Value(Run&, Args&)> body;
  Value call(Run& run, Args& args) override { return body(run, args); }
};

Value make_range(Run&, Args& args) {
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty()) {
    throw Fault{"range takes one to three integers.", ""};
  }
  int64_t bounds[3] = {0, 0, 1};
  for (size_t i = 0; i < args.positional.size(); ++i)
    bounds[i] = require_int(args.positional[i], "a bound of range");
  if (args.positional.size() == 1) std::swap(bounds[0], bounds[1]);
  const auto [start, stop, step] = bounds;
  if (step == 0) throw Fault{"the step of range is zero.", ""};
  std::vector<Value> out;
  bool overflow = false;
  for (int64_t at = start; !overflow && (step > 0 ? at < stop : at > stop);
       overflow = __builtin_add_overflow(at, step, &at)) {
    if (static_cast<int64_t>(out.size()) == kMaxRange) {
      throw Fault{fmt::format("a range of more than {} items.", kMaxRange), ""};
    }
    out.push_back(Value::integer(at));
  }
  const std::string label = step == 1 ? fmt::format("range({}, {})", start, stop)
                                      : fmt::format("range({}, {}, {})", start, stop, step);
  return Value::list(std::move(out), Form::range, label);
}

Value make_dict(Run&, Args& args) {
  if (args.positional.size() > 1) throw Fault{"dict takes at most one positional argument.", ""};
  auto dict = std::make_shared<Dict>();
  for (const Value& from : args.positional) {
    if (from.is(Type::dict)) {
      for (const auto& [key, value] : from.as_dict().items) dict->set(key, value);
      continue;
    }
    for (const Value& pair : iterate(from)) {
      const std::vector<Value> parts = iterate(pair);
      if (parts.size() != 2) throw Fault{"dict needs pairs of key and value.", ""};
      dict->set(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) dict->set(Value::string(name), value);
  return Value::of(std::move(dict));
}

Value time_now(Run& run, Args& args) {
  const auto given = args.bind("strftime_now", {"format"}, 1);
  const std::string& format = text_of(*given[0], "the format of strftime_now");
  if (format.empty()) return Value::string("");
  const std::tm now = run.clock()();
  std::string out(256 + 64 * format.size(), '\0');
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &now));
  return Value::string(std::move(out));
}

Value make_joiner(Run&, Args& args) {
  const auto given = args.bind("joiner", {"sep"}, 0);
  const Value separator = given[0] ? *given[0] : Value::string(", ");
  return make_function("joiner", [separator, used = false](Run&, Args&) mutable {
    return std::exchange(used, true) ? separator : Value::string("");
  });
}

}  // namespace

Method find_method(const Value& self, std::string_view name) {
  switch (self.type()) {
    case Type::string:
      return find_row(kStringMethods, name);
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

Value make_function(std::string name, std::function<Value(Run&, Args&)> body) {
  auto made = std::make_shared<Lambda>();
  made->name = std::move(name);
  made->body = std::move(body);
  return Value::of(std::static_pointer_cast<Function>(made));
}

Value find_global(std::string_view name) {
  if (name == "range") return make_function("range", make_range);
  if (name == "dict") return make_function("dict", make_dict);
  if (name == "namespace")
    return make_function("namespace", [](Run& run, Args& args) { return run.new_namespace(args); });
  if (name == "strftime_now") return make_function("strftime_now", time_now);
  if (name == "joiner") return make_function("joiner", make_joiner);
  if (name == "raise_exception") {
    return make_function("raise_exception", [](Run&, Args& args) -> Value {
      const auto given = args.bind("raise_exception", {"message"}, 1);
      throw Fault{fmt::format("the template refuses this conversation: {}", to_text(*given[0])),
                  ""};
    });
  }
  return Value();
}

}  // namespace rlhf::jinja
