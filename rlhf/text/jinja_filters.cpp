// Filters on text and numbers, and the table of all filters.
#include "rlhf/text/jinja_filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

const std::string& filter_text(const Value& value, std::string_view filter) {
  require_defined(value);
  if (!value.is(Type::string)) {
    throw Fault{fmt::format("{} needs a string, got '{}'.", filter, type_name(value)), ""};
  }
  return value.as_string();
}

template <std::string (*Map)(std::string_view)>
Value text_filter(Run&, const Value& subject, Args& args) {
  args.bind("the filter", {}, 0);
  return same_kind(subject, Map(to_text(subject)));
}

/// Jinja2's own title: a word begins after white space or one of -({[<.
std::string title_words(std::string_view text) {
  std::string out;
  std::u32string word;
  const auto flush = [&] {
    if (word.empty()) return;
    out += upper(encode(std::u32string_view(word).substr(0, 1)));
    out += lower(encode(std::u32string_view(word).substr(1)));
    word.clear();
  };
  for (const char32_t point : decode(text)) {
    if (is_space(point) || std::u32string_view(U"-({[<").find(point) != std::u32string_view::npos) {
      flush();
      append_point(out, point);
    } else {
      word += point;
    }
  }
  flush();
  return out;
}

Value trim(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("trim", {"chars"}, 0);
  const std::string text = to_text(subject);
  if (!given[0] || given[0]->is(Type::none))
    return same_kind(subject, std::string(strip(text, kBothSides)));
  const std::string_view chars = filter_text(*given[0], "trim");
  return same_kind(subject, std::string(strip(text, kBothSides, &chars)));
}

Value replace_text(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("replace", {"old", "new", "count"}, 2);
  const bool all = !given[2] || given[2]->is(Type::none);
  return Value::string(replace(to_text(subject), to_text(*given[0]), to_text(*given[1]),
                               all ? -1 : require_int(*given[2], "the count of replace")));
}

Value make_string(Run&, const Value& subject, Args& args) {
  args.bind("string", {}, 0);
  return same_kind(subject, to_text(subject));
}

Value mark_safe(Run&, const Value& subject, Args& args) {
  args.bind("safe", {}, 0);
  return Value::string(to_text(subject), /*markup=*/true);
}

Value escape(Run&, const Value& subject, Args& args) {
  args.bind("escape", {}, 0);
  return Value::string(escaped(subject), /*markup=*/true);
}

Value force_escape(Run&, const Value& subject, Args& args) {
  args.bind("forceescape", {}, 0);
  return Value::string(escaped(Value::string(to_text(subject))), /*markup=*/true);
}

Value center(Run& run, const Value& subject, Args& args) {
  const auto given = args.bind("center", {"width"}, 0);
  Args width;
  width.positional.push_back(given[0] ? *given[0] : Value::integer(80));
  const Value text = same_kind(subject, to_text(subject));
  return find_method(text, "center")(run, text, width);
}

Value word_count(Run&, const Value& subject, Args& args) {
  args.bind("wordcount", {}, 0);
  int64_t count = 0;
  bool inside = false;
  for (const char32_t point : decode(to_text(subject))) {
    const bool word = is_alpha(point) || is_decimal(point) || point == U'_';
    count += word && !inside;
    inside = word;
  }
  return Value::integer(count);
}

Value indent(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("indent", {"width", "first", "blank"}, 0);
  filter_text(subject, "indent");
  std::string step(4, ' ');
  if (given[0] && given[0]->is(Type::string)) {
    step = given[0]->as_string();
  } else if (given[0]) {
    const int64_t width = require_int(*given[0], "the width of indent");
    require_text_size(static_cast<size_t>(std::max<int64_t>(0, width)));
    step.assign(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
  }
  const bool blank = given[2] && given[2]->truth();
  std::string out;
  bool first = true;
  for (const std::string& line : split_lines(subject.as_string() + "\n", /*keep_ends=*/false)) {
    if (!first) out += '\n';
    const bool indents = first ? given[1] && given[1]->truth() : blank || !line.empty();
    if (indents) out += step;
    out += line;
    first = false;
    require_text_size(out.size());
  }
  return same_kind(subject, std::move(out));
}

Value truncate(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("truncate", {"length", "killwords", "end", "leeway"}, 0);
  const std::u32string text = decode(filter_text(subject, "truncate"));
  const std::u32string end = given[2] ? decode(filter_text(*given[2], "truncate")) : U"...";
  const int64_t limit = given[0] ? require_int(*given[0], "the length of truncate") : 255;
  const int64_t leeway =
      given[3] && !given[3]->is(Type::none) ? require_int(*given[3], "the leeway") : 5;
  if (limit < static_cast<int64_t>(end.size()) || leeway < 0)
    throw Fault{"truncate was given too small a length.", ""};
  if (limit > static_cast<int64_t>(text.size()) - leeway) return subject;
  if (static_cast<int64_t>(text.size()) <= limit + leeway) return subject;
  std::u32string kept = text.substr(0, static_cast<size_t>(limit) - end.size());
  if (!(given[1] && given[1]->truth())) kept = kept.substr(0, kept.rfind(U' '));
  return same_kind(subject, encode(kept + end));
}

Value format_text(Run&, const Value& subject, Args& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    throw Fault{"format takes positional or keyword arguments, not both.", ""};
  }
  const Value text = same_kind(subject, to_text(subject));
  if (args.named.empty()) return percent_format(text, Value::list(args.positional, Form::tuple));
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : args.named) dict->set(Value::string(name), value);
  return percent_format(text, Value::of(std::move(dict)));
}

void append_url(std::string& out, std::string_view text, bool slash_is_safe, bool plus_for_space) {
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos ||
                       (c == '/' && slash_is_safe);
    if (plain) {
      out += c;
    } else if (c == ' ' && plus_for_space) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
  }
}

Value url_encode(Run&, const Value& subject, Args& args) {
  args.bind("urlencode", {}, 0);
  std::string out;
  if (!subject.is(Type::list) && !subject.is(Type::dict)) {
    append_url(out, to_text(subject), /*slash_is_safe=*/true, /*plus_for_space=*/false);
    return Value::string(std::move(out));
  }
  std::vector<Value> pairs;
  if (subject.is(Type::dict)) {
    for (const auto& [key, value] : subject.as_dict().items)
      pairs.push_back(Value::list({key, value}, Form::tuple));
  } else {
    pairs = iterate(subject);
  }
  for (const Value& pair : pairs) {
    const std::vector<Value> parts = iterate(pair);
    if (parts.size() != 2) throw Fault{"urlencode needs pairs.", ""};
    if (!out.empty()) out += '&';
    append_url(out, to_text(parts[0]), /*slash_is_safe=*/false, /*plus_for_space=*/true);
    out += '=';
    append_url(out, to_text(parts[1]), /*slash_is_safe=*/false, /*plus_for_space=*/true);
    require_text_size(out.size());
  }
  return Value::string(std::move(out));
}

Value json_filter(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ensure_ascii = given[0] && given[0]->truth();
  style.sort_keys = given[3] && given[3]->truth();
  if (given[1] && !given[1]->is(Type::none)) {
    style.pretty = true;
    if (given[1]->is(Type::string)) {
      style.indent = given[1]->as_string();
    } else {
      const int64_t width =
          std::clamp<int64_t>(require_int(*given[1], "the indent of tojson"), 0, 1000);
      style.indent.assign(static_cast<size_t>(width), ' ');
    }
    style.item_separator.assign(1, ',');
  }
  if (given[2] && !given[2]->is(Type::none)) {
    const std::vector<Value> pair = iterate(*given[2]);
    if (pair.size() != 2) throw Fault{"the separators of tojson must be two strings.", ""};
    style.item_separator = filter_text(pair[0], "tojson");
    style.key_separator = filter_text(pair[1], "tojson");
  }
  return Value::string(to_json(subject, style));
}

// --- numbers ---

std::string number_digits(std::string_view text) {
  std::string out(strip(text, kBothSides));
  for (size_t i = 0; i + 2 < out.size(); ++i) {  // single underscores between digits
    if (out[i + 1] == '_' && std::isalnum(static_cast<unsigned char>(out[i])) &&
        std::isalnum(static_cast<unsigned char>(out[i + 2]))) {
      out.erase(i + 1, 1);
    }
  }
  return out;
}

bool parse_real(std::string_view text, double& out) {
  std::string digits = number_digits(text);
  const size_t sign = !digits.empty() && (digits[0] == '+' || digits[0] == '-') ? 1 : 0;
  const std::string word = lower(std::string_view(digits).substr(sign));
  const bool special = word == "inf" || word == "infinity" || word == "nan";
  if (!special && word.find_first_not_of("0123456789.e+-") != std::string::npos) return false;
  if (word.empty() || word[0] == '+' || word[0] == '-') return false;
  char* end = nullptr;
  out = std::strtod(digits.c_str(), &end);
  return end == digits.c_str() + digits.size();
}

bool parse_int(std::string_view text, int base, int64_t& out) {
  std::string digits = number_digits(text);
  const bool negative = !digits.empty() && digits[0] == '-';
  if (!digits.empty() && (digits[0] == '-' || digits[0] == '+')) digits.erase(0, 1);
  if (digits.size() > 2 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    if ((kind == 'x' && base == 16) || (kind == 'o' && base == 8) || (kind == 'b' && base == 2))
      digits.erase(0, 2);
  }
  if (digits.empty() || digits[0] == '-' || digits[0] == '+') return false;
  if (negative) digits.insert(0, 1, '-');
  const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), out, base);
  if (done.ptr != digits.data() + digits.size()) return false;
  if (done.ec == std::errc::result_out_of_range)
    throw Fault{"an integer does not fit 64 bits.", ""};
  return done.ec == std::errc();
}

bool whole(double value, int64_t& out) {
  if (!(std::fabs(value) < 9.2e18)) return false;
  out = static_cast<int64_t>(value);
  return true;
}

Value to_int(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("int", {"default", "base"}, 0);
  require_defined(subject);
  const int64_t base = given[1] ? require_int(*given[1], "the base of int") : 10;
  int64_t out = 0;
  double real = 0;
  if (subject.is_integral()) return Value::integer(subject.as_int());
  if (subject.is(Type::real) && whole(subject.as_real(), out)) return Value::integer(out);
  if (subject.is(Type::string)) {
    if (base >= 2 && base <= 36 && parse_int(subject.as_string(), static_cast<int>(base), out))
      return Value::integer(out);
    if (parse_real(subject.as_string(), real) && whole(real, out)) return Value::integer(out);
  }
  return given[0] ? *given[0] : Value::integer(0);
}

Value to_float(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("float", {"default"}, 0);
  require_defined(subject);
  double out = 0;
  if (subject.is_number()) return Value::real(subject.as_real());
  if (subject.is(Type::string) && parse_real(subject.as_string(), out)) return Value::real(out);
  return given[0] ? *given[0] : Value::real(0.0);
}

Value absolute(Run&, const Value& subject, Args& args) {
  args.bind("abs", {}, 0);
  if (subject.is(Type::real)) return Value::real(std::fabs(subject.as_real()));
  const int64_t number = require_int(subject, "abs");
  return number < 0 ? arithmetic(Op::sub, Value::integer(0), Value::integer(number))
                    : Value::integer(number);
}

/// round(value, digits) as Python does it: correctly rounded, halves of the exact value to even.
double rounded(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return value;
  if (digits < -300) return std::copysign(0.0, value);
  if (digits >= 0) return std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr);
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return std::nearbyint(value / scale) * scale;
}

Value round_number(Run&, const Value& subject, Args& args) {
  const auto given = args.bind("round", {"precision", "method"}, 0);
  const int64_t digits = given[0] ? require_int(*given[0], "the precision of round") : 0;
  const std::string method = given[1] ? to_text(*given[1]) : "common";
  if (!subject.is_number())
    throw Fault{fmt::format("round needs a number, got '{}'.", type_name(subject)), ""};
  if (method == "common") {
    if (!subject.is_integral()) return Value::real(rounded(subject.as_real(), digits));
    if (digits >= 0) return Value::integer(subject.as_int());
    return Value::integer(static_cast<int64_t>(rounded(subject.as_real(), digits)));
  }
  if (method != "ceil" && method != "floor")
    throw Fault{"the method of round must be common, ceil or floor.", ""};
  const double scale = std::pow(10.0, static_cast<double>(digits));
  const double scaled = subject.as_real() * scale;
  if (!std::isfinite(scaled)) throw Fault{"round was given a number without end.", ""};
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

constexpr Builtin kTextFilters[] = {
    {"abs", absolute},
    {"capitalize", text_filter<capitalize>},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"float", to_float},
    {"forceescape", force_escape},
    {"format", format_text},
    {"indent", indent},
    {"int", to_int},
    {"lower", text_filter<lower>},
    {"replace", replace_text},
    {"round", round_number},
    {"safe", mark_safe},
    {"string", make_string},
    {"title", text_filter<title_words>},
    {"tojson", json_filter},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", text_filter<upper>},
    {"urlencode", url_encode},
    {"wordcount", word_count},
};

}  // namespace

const Builtin* find_filter(std::string_view name) {
  for (const auto rows : {std::span<const Builtin>(kTextFilters), sequence_filters()}) {
    const auto row = std::find_if(rows.begin(), rows.end(),
                                  [&](const Builtin& each) { return each.name == name; });
    if (row != rows.end()) return &*row;
  }
  return nullptr;
}

std::string filter_names() {
  std::vector<std::string_view> names;
  for (const auto rows : {std::span<const Builtin>(kTextFilters), sequence_filters()}) {
    for (const Builtin& row : rows) names.push_back(row.name);
  }
  std::sort(names.begin(), names.end());
  return fmt::format("{}.", fmt::join(names, ", "));
}

}  // namespace rlhf::jinja
