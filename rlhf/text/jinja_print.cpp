// How values become text: str, repr and json.dumps.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "rlhf/text/jinja_text.h"
#include "rlhf/text/jinja_value.h"

namespace rlhf::jinja {
namespace {

class Repr {
 public:
  std::string out;

  void add(const Value& value) {
    switch (value.type()) {
      case Type::undefined:
        out += "Undefined";
        break;
      case Type::string:
        out += value.is_markup() ? fmt::format("Markup({})", quote(value.as_string()))
                                 : quote(value.as_string());
        break;
      case Type::list:
        add_list(value.as_list());
        break;
      case Type::dict:
        add_dict(value.as_dict());
        break;
      default:
        out += to_text(value);
    }
    require_text_size(out.size());
  }

 private:
  void add_list(const List& list) {
    switch (list.form) {
      case Form::list:
        return add_items(list, '[', ']');
      case Form::tuple:
        if (list.items.size() == 1) {
          out += '(';
          add(list.items[0]);
          out += ",)";
          return;
        }
        return add_items(list, '(', ')');
      case Form::view:
        out += list.label + '(';
        add_items(list, '[', ']');
        out += ')';
        return;
      case Form::range:
        out += list.label;
        return;
      case Form::iterator:
        out += "<generator object>";
        return;
    }
  }

  void add_items(const List& list, char open, char close) {
    out += open;
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i) out += ", ";
      add(list.items[i]);
    }
    out += close;
  }

  void add_dict(const Dict& dict) {
    if (dict.is_namespace) {
      if (++namespaces_ > kMaxDepth)
        throw Fault{"a namespace is printed that contains itself.", ""};
      out += "<Namespace ";
    }
    out += '{';
    for (size_t i = 0; i < dict.items.size(); ++i) {
      if (i) out += ", ";
      add(dict.items[i].first);
      out += ": ";
      add(dict.items[i].second);
    }
    out += '}';
    if (dict.is_namespace) {
      out += '>';
      --namespaces_;
    }
  }

  int namespaces_ = 0;
};

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}
  std::string out;

  void add(const Value& value) {
    switch (value.type()) {
      case Type::none:
        out += "null";
        break;
      case Type::boolean:
        out += value.as_bool() ? "true" : "false";
        break;
      case Type::integer:
        out += std::to_string(value.as_int());
        break;
      case Type::real:
        add_real(value.as_real());
        break;
      case Type::string:
        add_text(value.as_string());
        break;
      case Type::list:
        if (value.as_list().form != Form::list && value.as_list().form != Form::tuple) fail(value);
        add_list(value.as_list());
        break;
      case Type::dict:
        if (value.as_dict().is_namespace) fail(value);
        add_dict(value.as_dict());
        break;
      default:
        fail(value);
    }
    require_text_size(out.size());
  }

 private:
  [[noreturn]] static void fail(const Value& value) {
    if (value.is(Type::undefined)) {
      throw Fault{fmt::format("tojson was given an undefined value: {}",
                              value.shared() ? value.as_string() : ""),
                  ""};
    }
    throw Fault{fmt::format("tojson cannot write a value of type '{}'.", type_name(value)), ""};
  }

  void add_real(double value) {
    if (std::isnan(value)) {
      out += "NaN";
    } else if (std::isinf(value)) {
      out += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out += real_text(value);
    }
  }

  void add_text(std::string_view text) {
    out += '"';
    for (const char32_t point : decode(text)) {
      const auto code = static_cast<uint32_t>(point);
      switch (point) {
        case U'"':
          out += "\\\"";
          continue;
        case U'\\':
          out += "\\\\";
          continue;
        case U'\n':
          out += "\\n";
          continue;
        case U'\r':
          out += "\\r";
          continue;
        case U'\t':
          out += "\\t";
          continue;
        case U'\b':
          out += "\\b";
          continue;
        case U'\f':
          out += "\\f";
          continue;
        default:
          break;
      }
      if (code < 0x20 || (style_.ensure_ascii && code >= 0x7F && code < 0x10000 && code != 0x7F)) {
        out += fmt::format("\\u{:04x}", code);
      } else if (style_.ensure_ascii && code >= 0x10000) {
        const uint32_t rest = code - 0x10000;
        out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (rest >> 10), 0xDC00 + (rest & 0x3FF));
      } else {
        append_point(out, point);
      }
    }
    out += '"';
  }

  void new_line() {
    if (!style_.pretty) return;
    out += '\n';
    for (int i = 0; i < level_; ++i) out += style_.indent;
  }

  template <class Each>
  void add_all(size_t count, char open, char close, Each each) {
    out += open;
    ++level_;
    for (size_t i = 0; i < count; ++i) {
      if (i) out += style_.item_separator;
      new_line();
      each(i);
    }
    --level_;
    if (count) new_line();
    out += close;
  }

  void add_list(const List& list) {
    add_all(list.items.size(), '[', ']', [&](size_t i) { add(list.items[i]); });
  }

  static std::string key_text(const Value& key) {
    switch (key.type()) {
      case Type::string:
        return key.as_string();
      case Type::none:
        return "null";
      case Type::boolean:
        return key.as_bool() ? "true" : "false";
      case Type::integer:
      case Type::real:
        return to_text(key);
      default:
        throw Fault{fmt::format("tojson cannot write a key of type '{}'.", type_name(key)), ""};
    }
  }

  void add_dict(const Dict& dict) {
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& item : dict.items) order.push_back(&item);
    if (style_.sort_keys) {
      std::stable_sort(order.begin(), order.end(),
                       [](auto* a, auto* b) { return less(a->first, b->first); });
    }
    add_all(order.size(), '{', '}', [&](size_t i) {
      add_text(key_text(order[i]->first));
      out += style_.key_separator;
      add(order[i]->second);
    });
  }

  const JsonStyle& style_;
  int level_ = 0;
};

Value convert(const Json& json, int depth) {
  if (depth > kMaxDepth)
    throw Fault{fmt::format("the input is nested more than {} deep.", kMaxDepth), ""};
  switch (json.type()) {
    case Json::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case Json::value_t::number_integer:
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        throw Fault{fmt::format("the number {} does not fit 64 bits.", json.get<uint64_t>()), ""};
      }
      return Value::integer(json.get<int64_t>());
    case Json::value_t::number_float:
      return Value::real(json.get<double>());
    case Json::value_t::string:
      return Value::string(json.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const Json& item : json) items.push_back(convert(item, depth + 1));
      return Value::list(std::move(items));
    }
    case Json::value_t::object: {
      auto dict = std::make_shared<Dict>();
      dict->items.reserve(json.size());
      for (const auto& [key, item] : json.items()) {  // keys are unique already
        dict->items.emplace_back(Value::string(key), convert(item, depth + 1));
        const Value& added = dict->items.back().second;
        if (added.is(Type::list)) dict->depth = std::max(dict->depth, 1 + added.as_list().depth);
        if (added.is(Type::dict)) dict->depth = std::max(dict->depth, 1 + added.as_dict().depth);
      }
      return Value::of(std::move(dict));
    }
    default:
      return Value::none();
  }
}

}  // namespace

std::string real_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto done =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<size_t>(done.ptr - buffer));
  const size_t e = text.find('e');
  const int exponent = std::stoi(std::string(text.substr(e + 1)));
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string out(buffer, static_cast<size_t>(fixed.ptr - buffer));
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

std::string to_text(const Value& value) {
  switch (value.type()) {
    case Type::undefined:
      return "";
    case Type::none:
      return "None";
    case Type::boolean:
      return value.as_bool() ? "True" : "False";
    case Type::integer:
      return std::to_string(value.as_int());
    case Type::real:
      return real_text(value.as_real());
    case Type::string:
      return value.as_string();
    case Type::function:
      return fmt::format("<{}>", value.as_function().name);
    default:
      return to_repr(value);
  }
}

std::string to_repr(const Value& value) {
  Repr repr;
  repr.add(value);
  return std::move(repr.out);
}

std::string to_json(const Value& value, const JsonStyle& style) {
  JsonWriter writer(style);
  writer.add(value);
  return std::move(writer.out);
}

Value from_json(const Json& json) { return convert(json, 0); }

}  // namespace rlhf::jinja
