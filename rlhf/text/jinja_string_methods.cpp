// Methods of strings.
#include <algorithm>

#include "rlhf/text/jinja_methods.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

template <std::string (*Map)(std::string_view)>
Value mapped(Run&, const Value& self, Args& args) {
  require_no_args(args, "the method");
  return same_kind(self, Map(self.as_string()));
}

template <Side side>
Value stripped(Run&, const Value& self, Args& args) {
  const auto given = args.bind("strip", {"chars"}, 0);
  if (!given[0] || given[0]->is(Type::none))
    return same_kind(self, std::string(strip(self.as_string(), side)));
  const std::string_view chars = require_text(*given[0], "the characters of strip");
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
    const std::string_view separator = require_text(*given[0], "the separator of split");
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
    const std::u32string want =
        decode(require_text(affix, "what startswith or endswith looks for"));
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
  const std::u32string want = decode(require_text(*given[0], "what find looks for"));
  const Window part = window(self, given[1], given[2]);
  size_t at = std::u32string::npos;
  if (part.start >= 0) at = FromRight ? part.points.rfind(want) : part.points.find(want);
  if (at != std::u32string::npos) return Value::integer(part.start + static_cast<int64_t>(at));
  if (MustFind) throw Fault{"index: the substring is not there.", ""};
  return Value::integer(-1);
}

Value counted(Run&, const Value& self, Args& args) {
  const auto given = args.bind("count", {"sub", "start", "end"}, 1);
  const std::u32string want = decode(require_text(*given[0], "what count looks for"));
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
  return same_kind(self,
                   replace(self.as_string(), require_text(*given[0], "what replace looks for"),
                           require_text(*given[1], "what replace puts in"), limit));
}

Value joined(Run&, const Value& self, Args& args) {
  const auto given = args.bind("join", {"iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : iterate(*given[0])) {
    if (!first) out += self.as_string();
    first = false;
    out += require_text(item, "each item of join");
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
  require_no_args(args, "the method");
  const std::u32string points = decode(self.as_string());
  return Value::boolean(!points.empty() && std::all_of(points.begin(), points.end(), Test));
}
bool is_alnum(char32_t point) { return is_alpha(point) || is_decimal(point); }

template <bool Upper>
Value has_case(Run&, const Value& self, Args& args) {
  require_no_args(args, "the method");
  bool any = false;
  for (const char32_t point : decode(self.as_string())) {
    if (Upper ? is_cased_lower(point) : is_cased_upper(point)) return Value::boolean(false);
    any = any || (Upper ? is_cased_upper(point) : is_cased_lower(point));
  }
  return Value::boolean(any);
}

Value is_title(Run&, const Value& self, Args& args) {
  require_no_args(args, "istitle");
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
  const std::string fill = given[1] ? require_text(*given[1], "the fill character") : " ";
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
  const std::string& affix = require_text(*given[0], "the affix");
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
  const std::string& separator = require_text(*given[0], "the separator of partition");
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
  require_no_args(args, "swapcase");
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

}  // namespace

std::span<const MethodRow> string_methods() { return kStringMethods; }

}  // namespace rlhf::jinja
