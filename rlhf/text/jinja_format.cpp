// `format % values` and `format.format(...)`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

/// Everything a conversion can ask for, of either kind of format.
struct Spec {
  std::string fill = " ";
  char align = 0;  // < > ^ =
  char sign = 0;   // + or space
  bool alternate = false;
  char group = 0;
  int64_t width = 0;
  int64_t precision = -1;
  char type = 0;
};

std::string with_width(const Spec& spec, const std::string& sign, const std::string& body,
                       char usual_align) {
  const char align = spec.align ? spec.align : usual_align;
  const int64_t lack = spec.width - static_cast<int64_t>(point_count(sign) + point_count(body));
  if (lack <= 0) return sign + body;
  require_text_size(static_cast<size_t>(lack) * spec.fill.size());
  std::string pad[2];
  const int64_t left = align == '<' ? 0 : align == '^' ? lack / 2 : lack;
  for (int64_t i = 0; i < lack; ++i) pad[i < left ? 0 : 1] += spec.fill;
  if (align == '=') return sign + pad[0] + body;
  return pad[0] + sign + body + pad[1];
}

std::string grouped(std::string digits, char mark) {
  if (!mark) return digits;
  size_t end = std::min(digits.find_first_of(".e"), digits.size());
  for (size_t at = end; at > 3; at -= 3) digits.insert(at - 3, 1, mark);
  return digits;
}

std::string sign_text(const Spec& spec, bool negative) {
  return negative ? "-" : spec.sign ? std::string(1, spec.sign) : "";
}

std::string format_integer(const Spec& spec, int64_t number, char type) {
  const uint64_t size =
      number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  std::string digits;
  std::string prefix;
  switch (type) {
    case 'x':
      digits = fmt::format("{:x}", size);
      prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", size);
      prefix = "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", size);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", size);
      prefix = "0b";
      break;
    default:
      digits = grouped(std::to_string(size), spec.group);
  }
  if (spec.precision > static_cast<int64_t>(digits.size())) {
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  if (!spec.alternate) prefix.clear();
  return with_width(spec, sign_text(spec, number < 0) + prefix, digits, '>');
}

std::string format_real(const Spec& spec, double number, char type) {
  const bool upper_case = type == 'F' || type == 'E' || type == 'G';
  const bool negative = std::signbit(number) && !std::isnan(number);
  const double size = std::fabs(number);
  std::string body;
  if (std::isnan(size) || std::isinf(size)) {
    body = std::isnan(size) ? "nan" : "inf";
  } else {
    const auto precision =
        static_cast<int>(spec.precision < 0 ? 6 : std::min<int64_t>(spec.precision, 400));
    const double value = type == '%' ? size * 100 : size;
    const char lower_type = type == '%' ? 'f' : upper_case ? static_cast<char>(type | 0x20) : type;
    const std::string format = std::string(spec.alternate ? "%#.*" : "%.*") + lower_type;
    char buffer[1024];
    const int used = std::snprintf(buffer, sizeof buffer, format.c_str(), precision, value);
    body = grouped(std::string(buffer, static_cast<size_t>(used)), spec.group);
    if (type == '%') body += '%';
  }
  if (upper_case) body = upper(body);
  return with_width(spec, sign_text(spec, negative), body, '>');
}

std::string format_text(const Spec& spec, std::string text) {
  if (spec.precision >= 0) {
    const std::u32string points = decode(text);
    text = encode(std::u32string_view(points).substr(0, static_cast<size_t>(spec.precision)));
  }
  return with_width(spec, "", text, '<');
}

int64_t read_number(std::string_view text, size_t& at) {
  int64_t out = 0;
  while (at < text.size() && text[at] >= '0' && text[at] <= '9') {
    out = out * 10 + (text[at++] - '0');
    if (out > kMaxWidth) throw Fault{"a format asks for too great a width.", ""};
  }
  return out;
}

// --- percent ---

class Percent {
 public:
  Percent(const Value& format, const Value& args) : format_(format.as_string()), args_(args) {
    if (args.is_sequence(Form::tuple)) {
      for (const Value& each : args.as_list().items) values_.push_back(each);
    } else {
      values_.push_back(args);
    }
  }

  std::string run() {
    while (at_ < format_.size()) {
      const char c = format_[at_++];
      if (c != '%') {
        out_ += c;
      } else {
        convert();
      }
    }
    const bool needs_all = !named_ && !args_.is(Type::dict);
    const bool lone_sequence = !args_.is_sequence(Form::tuple) && args_.is(Type::list);
    if (needs_all && !lone_sequence && next_ < values_.size()) {
      throw Fault{"not all arguments of a '%' format are used.", ""};
    }
    return std::move(out_);
  }

 private:
  char peek() const {
    if (at_ >= format_.size()) throw Fault{"a '%' format is incomplete.", ""};
    return format_[at_];
  }

  Value take() {
    if (next_ >= values_.size()) throw Fault{"not enough arguments for a '%' format.", ""};
    return values_[next_++];
  }

  int64_t number_or_star() {
    if (peek() != '*') return read_number(format_, at_);
    ++at_;
    const int64_t out = require_int(take(), "'*' of a format");
    if (std::abs(out) > kMaxWidth) throw Fault{"a format asks for too great a width.", ""};
    return out;
  }

  void convert() {
    Value named_value;
    const bool has_name = peek() == '(';
    if (has_name) {
      const size_t close = format_.find(')', at_);
      if (close == std::string::npos || !args_.is(Type::dict))
        throw Fault{"a named '%' format needs a dict.", ""};
      const Value* found =
          args_.as_dict().find(std::string_view(format_).substr(at_ + 1, close - at_ - 1));
      if (!found) throw Fault{"a '%' format names a key that is not there.", ""};
      named_value = *found;
      named_ = true;
      at_ = close + 1;
    }
    Spec spec;
    bool zero = false;
    for (;; ++at_) {
      const char c = peek();
      if (c == '-') {
        spec.align = '<';
      } else if (c == '+' || (c == ' ' && !spec.sign)) {
        spec.sign = c;
      } else if (c == '0') {
        zero = true;
      } else if (c == '#') {
        spec.alternate = true;
      } else if (c != ' ') {
        break;
      }
    }
    spec.width = number_or_star();
    if (spec.width < 0) {
      spec.align = '<';
      spec.width = -spec.width;
    }
    if (peek() == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(0, number_or_star());
    }
    while (peek() == 'l' || peek() == 'h' || peek() == 'L') ++at_;
    const char type = peek();
    ++at_;
    if (type == '%') {
      out_ += '%';
      return;
    }
    const Value value = has_name ? named_value : take();
    add(spec, zero, type, value);
    require_text_size(out_.size());
  }

  void add(Spec spec, bool zero, char type, const Value& value) {
    if (!spec.align) spec.align = '>';
    if (type == 's') {
      out_ += format_text(spec, to_text(value));
    } else if (type == 'r' || type == 'a') {
      out_ += format_text(spec, to_repr(value));
    } else if (type == 'c') {
      if (value.is(Type::string) && point_count(value.as_string()) != 1)
        throw Fault{"'%c' needs one character.", ""};
      std::string one = value.is(Type::string) ? value.as_string() : "";
      if (one.empty()) {
        const int64_t code = require_int(value, "'%c'");
        if (code < 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
          throw Fault{"'%c' is out of range.", ""};
        append_point(one, static_cast<char32_t>(code));
      }
      out_ += format_text(spec, one);
    } else if (std::string_view("diuoxXeEfFgG").find(type) != std::string_view::npos) {
      if (!value.is_number())
        throw Fault{fmt::format("'%{}' needs a number, got '{}'.", type, type_name(value)), ""};
      if (zero && spec.align == '>') {
        spec.fill.assign(1, '0');
        spec.align = '=';
      }
      add_number(spec, type, value);
    } else {
      throw Fault{fmt::format("a '%' format has no conversion '{}'.", type), ""};
    }
  }

  void add_number(const Spec& spec, char type, const Value& value) {
    if (std::string_view("eEfFgG").find(type) != std::string_view::npos) {
      out_ += format_real(spec, value.as_real(), type);
      return;
    }
    if (value.is_integral()) {
      out_ += format_integer(spec, value.as_int(), type);
      return;
    }
    const double number = std::trunc(value.as_real());
    if (std::string_view("oxX").find(type) != std::string_view::npos ||
        !(std::fabs(number) < 9.2e18)) {
      throw Fault{fmt::format("'%{}' needs an integer.", type), ""};
    }
    out_ += format_integer(spec, static_cast<int64_t>(number), type);
  }

  const std::string& format_;
  const Value& args_;
  std::vector<Value> values_;
  size_t at_ = 0;
  size_t next_ = 0;
  bool named_ = false;
  std::string out_;
};

// --- braces ---

Spec parse_spec(std::string_view text) {
  Spec spec;
  const std::u32string points = decode(text);
  const auto is_align = [&](size_t i) {
    return i < points.size() &&
           std::u32string_view(U"<>^=").find(points[i]) != std::u32string_view::npos;
  };
  size_t at = 0;
  if (is_align(1)) {
    spec.fill = encode(std::u32string_view(points).substr(0, 1));
    spec.align = static_cast<char>(points[1]);
    at = spec.fill.size() + 1;
  } else if (is_align(0)) {
    spec.align = static_cast<char>(points[0]);
    at = 1;
  }
  const auto skip = [&](std::string_view chars) -> char {
    return at < text.size() && chars.find(text[at]) != std::string_view::npos ? text[at++] : '\0';
  };
  spec.sign = skip("+- ");
  if (spec.sign == '-') spec.sign = 0;
  spec.alternate = skip("#") != 0;
  if (skip("0") && !spec.align) {
    spec.fill.assign(1, '0');
    spec.align = '=';
  }
  spec.width = read_number(text, at);
  spec.group = skip(",_");
  if (skip(".")) {
    if (at >= text.size() || text[at] < '0' || text[at] > '9')
      throw Fault{"a format misses its precision.", ""};
    spec.precision = read_number(text, at);
  }
  spec.type = skip("sdxXobeEfFgGn%c");
  if (at != text.size()) throw Fault{fmt::format("the format '{}' is not understood.", text), ""};
  return spec;
}

std::string format_value(const Value& value, const Spec& spec) {
  const bool is_text_type = spec.type == 0 || spec.type == 's';
  const bool plain_bool = value.is(Type::boolean) && is_text_type;
  if (value.is_number() && !plain_bool && spec.type != 's') {
    if (std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type) {
      return format_real(spec, value.as_real(), spec.type);
    }
    if (value.is_integral()) {
      if (spec.precision >= 0) throw Fault{"an integer takes no precision.", ""};
      return format_integer(spec, value.as_int(), spec.type);
    }
    if (spec.type == 0 && spec.precision < 0) {
      std::string text = real_text(std::fabs(value.as_real()));
      return with_width(spec, sign_text(spec, std::signbit(value.as_real())),
                        grouped(text, spec.group), '>');
    }
    if (spec.type == 0) return format_real(spec, value.as_real(), 'g');
  }
  if (!is_text_type || spec.sign || spec.align == '=' || spec.group) {
    throw Fault{fmt::format("a value of type '{}' does not take this format.", type_name(value)),
                ""};
  }
  return format_text(spec, to_text(value));
}

class Braces {
 public:
  Braces(Run& run, const Args& args) : run_(run), args_(args) {}

  std::string expand(std::string_view format, int nesting) {
    if (nesting > 2) throw Fault{"a format is nested too deeply.", ""};
    std::string out;
    for (size_t i = 0; i < format.size(); ++i) {
      const char c = format[i];
      if (c != '{' && c != '}') {
        out += c;
      } else if (i + 1 < format.size() && format[i + 1] == c && nesting == 1) {
        out += c;
        ++i;
      } else if (c == '}') {
        throw Fault{"a format has a single '}'.", ""};
      } else {
        const size_t close = closing(format, i);
        out += field(format.substr(i + 1, close - i - 1), nesting);
        i = close;
      }
      require_text_size(out.size());
    }
    return out;
  }

 private:
  static size_t closing(std::string_view format, size_t open) {
    int depth = 0;
    for (size_t i = open; i < format.size(); ++i) {
      if (format[i] == '{') ++depth;
      if (format[i] == '}' && --depth == 0) return i;
    }
    throw Fault{"a format has a '{' that is never closed.", ""};
  }

  std::string field(std::string_view text, int nesting) {
    const size_t colon = text.find(':');
    std::string_view name = text.substr(0, colon);
    const std::string spec =
        colon == std::string_view::npos ? "" : expand(text.substr(colon + 1), nesting + 1);
    char conversion = 0;
    if (const size_t mark = name.find('!'); mark != std::string_view::npos) {
      if (mark + 2 != name.size()) throw Fault{"a format has a bad conversion.", ""};
      conversion = name[mark + 1];
      name = name.substr(0, mark);
    }
    const Value value = lookup(name);
    if (conversion == 0) return format_value(value, parse_spec(spec));
    if (conversion == 's') return format_text(parse_spec(spec), to_text(value));
    if (conversion == 'r') return format_text(parse_spec(spec), to_repr(value));
    throw Fault{"a format has a bad conversion.", ""};
  }

  Value lookup(std::string_view name) {
    size_t at = std::min(name.find_first_of(".["), name.size());
    Value value = argument(std::string(name.substr(0, at)));
    while (at < name.size()) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        value = run_.attribute(value, std::string(name.substr(at + 1, end - at - 1)));
        at = end;
      } else {
        const size_t end = name.find(']', at);
        if (name[at] != '[' || end == std::string_view::npos)
          throw Fault{"a format has a bad field name.", ""};
        const std::string key(name.substr(at + 1, end - at - 1));
        const bool number = !key.empty() && key.size() < 18 &&
                            key.find_first_not_of("0123456789") == std::string::npos;
        value = run_.item(value, number ? Value::integer(std::stoll(key)) : Value::string(key));
        at = end + 1;
      }
    }
    return value;
  }

  Value argument(const std::string& name) {
    const bool number = !name.empty() && name.find_first_not_of("0123456789") == std::string::npos;
    if (name.empty() || number) {
      if (name.empty() ? numbered_ : next_ > 0)
        throw Fault{"a format mixes numbered and automatic fields.", ""};
      numbered_ = numbered_ || number;
      const size_t index =
          number ? (name.size() < 9 ? std::stoul(name) : args_.positional.size()) : next_++;
      if (index >= args_.positional.size())
        throw Fault{"a format has more fields than arguments.", ""};
      return args_.positional[index];
    }
    for (const auto& [key, value] : args_.named) {
      if (key == name) return value;
    }
    throw Fault{fmt::format("a format names '{}', which is not given.", name), ""};
  }

  Run& run_;
  const Args& args_;
  size_t next_ = 0;
  bool numbered_ = false;
};

}  // namespace

Value percent_format(const Value& format, const Value& args) {
  return Value::string(Percent(format, args).run(), format.is_markup());
}

std::string brace_format(Run& run, std::string_view format, const Args& args) {
  return Braces(run, args).expand(format, /*nesting=*/1);
}

}  // namespace rlhf::jinja
