#include "rlhf/core/config_node.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/core/utf8.h"

namespace rlhf {
namespace {

constexpr int kMaxDepth = 32;
constexpr int kMaxNodes = 100'000;  // aliases of aliases multiply

template <size_t N>
bool one_of(std::string_view text, const std::array<std::string_view, N>& words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

constexpr std::array<std::string_view, 6> kNull = {"", "~", "null", "Null", "NULL", "None"};
constexpr std::array<std::string_view, 9> kTrue = {"true", "True", "TRUE", "yes", "Yes",
                                                   "YES",  "on",   "On",   "ON"};
constexpr std::array<std::string_view, 9> kFalse = {"false", "False", "FALSE", "no", "No",
                                                    "NO",    "off",   "Off",   "OFF"};

ConfigNode convert(const YAML::Node& yaml, const std::string& origin, int depth, int& nodes) {
  ConfigNode node;
  node.line = yaml.Mark().line + 1;
  if (depth > kMaxDepth) {
    throw UserError(fmt::format("{}:{}", origin, node.line),
                    fmt::format("values nested more than {} deep.", kMaxDepth),
                    "an anchor that contains itself?");
  }
  if (++nodes > kMaxNodes) {
    throw UserError(origin, fmt::format("more than {} values.", kMaxNodes),
                    "anchors that name each other multiply.");
  }
  switch (yaml.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      break;
    case YAML::NodeType::Scalar:
      node.kind = ConfigNode::Kind::scalar;
      node.text = yaml.Scalar();
      node.quoted = yaml.Tag() == "!";
      break;
    case YAML::NodeType::Sequence:
      node.kind = ConfigNode::Kind::list;
      for (const auto& item : yaml) {
        node.items.push_back(convert(item, origin, depth + 1, nodes));
      }
      break;
    case YAML::NodeType::Map:
      node.kind = ConfigNode::Kind::map;
      for (const auto& entry : yaml) {
        if (!entry.first.IsScalar()) {
          throw UserError(fmt::format("{}:{}", origin, entry.first.Mark().line + 1),
                          "a key must be a word, got a list or nested keys.",
                          "write `key: value`.");
        }
        node.entries.emplace_back(entry.first.Scalar(),
                                  convert(entry.second, origin, depth + 1, nodes));
        node.entries.back().second.line = entry.first.Mark().line + 1;
      }
      break;
  }
  return node;
}

/// Refuses what yaml-cpp would guess at or take for the end of the text: bytes that are not UTF-8
/// (UTF-16 among them) and the control characters that YAML leaves out.
void check_characters(std::string_view text, const std::string& origin) {
  const auto is_control = [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\t' && c != '\n' && c != '\r';
  };
  const size_t control =
      static_cast<size_t>(std::find_if(text.begin(), text.end(), is_control) - text.begin());
  const size_t at = std::min(invalid_utf8_at(text), control);
  if (at >= text.size()) return;
  throw UserError(fmt::format("{}:{}", origin,
                              1 + std::count(text.begin(),
                                             text.begin() + static_cast<std::ptrdiff_t>(at), '\n')),
                  fmt::format("text in UTF-8 was expected, got byte 0x{:02x} at byte {}.",
                              static_cast<unsigned char>(text[at]), at + 1),
                  "save it as UTF-8, for example with `iconv -t UTF-8`.");
}

/// Writes `value` below a key or dash at `indent`; the text starts behind `key:` or `-`.
void append_yaml(std::string& out, const Json& value, size_t indent);

bool is_flat(const Json& value) {
  return !value.is_structured() || std::none_of(value.begin(), value.end(), [](const Json& item) {
    return item.is_structured();
  });
}

void append_entries(std::string& out, const Json& object, size_t indent, bool indent_first) {
  bool first = true;
  for (const auto& [key, value] : object.items()) {
    if (!first || indent_first) out.append(indent, ' ');
    first = false;
    out += yaml_scalar(key) + ":";
    append_yaml(out, value, indent);
  }
}

void append_yaml(std::string& out, const Json& value, size_t indent) {
  if (!value.is_structured()) {
    out += fmt::format(" {}\n", yaml_scalar(value));
  } else if (value.empty()) {
    out += value.is_array() ? " []\n" : " {}\n";
  } else if (value.is_object()) {
    out += "\n";
    append_entries(out, value, indent + 2, /*indent_first=*/true);
  } else if (is_flat(value)) {
    out += fmt::format(" {}\n", yaml_flow(value));
  } else {
    out += "\n";
    for (const auto& item : value) {
      out.append(indent, ' ');
      out += "-";
      if (item.is_object() && !item.empty()) {
        out += " ";
        append_entries(out, item, indent + 2, /*indent_first=*/false);
      } else {
        append_yaml(out, item, indent + 2);
      }
    }
  }
}

}  // namespace

ConfigNode ConfigNode::scalar(std::string text) {
  ConfigNode node;
  node.kind = Kind::scalar;
  node.text = std::move(text);
  return node;
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool ConfigNode::is_null() const {
  return kind == Kind::null || (kind == Kind::scalar && !quoted && one_of(text, kNull));
}

std::string ConfigNode::shown() const {
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "nested keys";
    case Kind::scalar:
      break;
  }
  const Json value = to_json(*this);
  return value.is_string() ? "\"" + text + "\"" : text;
}

ConfigNode parse_config_text(const std::string& text, const std::string& origin) {
  check_characters(text, origin);
  try {
    const auto documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      throw UserError(origin, "one YAML document was expected, got several.",
                      "keep one, without a `---` line in between.");
    int nodes = 0;
    return documents.empty() ? ConfigNode{} : convert(documents[0], origin, /*depth=*/0, nodes);
  } catch (const YAML::Exception& error) {
    const std::string where =
        error.mark.is_null() ? origin : fmt::format("{}:{}", origin, error.mark.line + 1);
    throw UserError(where, fmt::format("not YAML or JSON: {}.", error.msg),
                    "check indentation, quotes and brackets at this line.");
  }
}

ConfigNode read_config_file(const fs::path& path) {
  ConfigNode node = parse_config_text(read_file(path), path.string());
  if (node.is_null()) node.kind = ConfigNode::Kind::map;
  if (node.kind != ConfigNode::Kind::map) {
    throw UserError(path.string(),
                    fmt::format("`key: value` lines were expected, got {}.", node.shown()),
                    "write one `key: value` a line, such as `learning_rate: 1e-5`.");
  }
  return node;
}

Json to_json(const ConfigNode& node) {
  switch (node.kind) {
    case ConfigNode::Kind::null:
      return nullptr;
    case ConfigNode::Kind::list: {
      Json list = Json::array();
      for (const auto& item : node.items) list.push_back(to_json(item));
      return list;
    }
    case ConfigNode::Kind::map: {
      Json object = Json::object();
      for (const auto& [key, value] : node.entries) object[key] = to_json(value);
      return object;
    }
    case ConfigNode::Kind::scalar:
      break;
  }
  if (node.quoted) return node.text;
  if (node.is_null()) return nullptr;
  if (one_of(node.text, std::array<std::string_view, 3>{"true", "True", "TRUE"})) return true;
  if (one_of(node.text, std::array<std::string_view, 3>{"false", "False", "FALSE"})) return false;
  int64_t integer = 0;
  const char* end = node.text.data() + node.text.size();
  const auto [stop, error] = std::from_chars(node.text.data(), end, integer);
  if (error == std::errc() && stop == end) return integer;
  double number = 0;
  if (node.text.find_first_of("0123456789.") != std::string::npos && read_number(node, number))
    return number;
  return node.text;
}

bool read_boolean(const ConfigNode& node, bool& value) {
  if (node.kind != ConfigNode::Kind::scalar) return false;
  value = one_of(node.text, kTrue);
  return value || one_of(node.text, kFalse);
}

bool read_integer(const ConfigNode& node, int64_t& value) {
  if (node.kind != ConfigNode::Kind::scalar) return false;
  const char* begin = node.text.data();
  const char* end = begin + node.text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto [stop, error] = std::from_chars(begin, end, value);
  if (error == std::errc() && stop == end) return true;
  constexpr double kExact = 9007199254740992.0;  // 2^53: every whole number up to here is a double
  double number = 0;
  if (!read_number(node, number) || std::trunc(number) != number || std::abs(number) > kExact)
    return false;
  value = static_cast<int64_t>(number);
  return true;
}

bool read_number(const ConfigNode& node, double& value) {
  if (node.kind != ConfigNode::Kind::scalar) return false;
  std::string_view text = node.text;
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with('+') || text.starts_with('-')) return false;
  if (text == ".inf" || text == ".Inf" || text == ".nan" || text == ".NaN") text.remove_prefix(1);
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || stop != text.data() + text.size()) return false;
  if (negative) value = -value;
  return true;
}

std::string number_text(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::string text = fmt::format("{}", value);
  // YAML 1.1 (PyYAML) takes a number without a point for an integer or, with an exponent, for text.
  if (text.find('.') == std::string::npos) {
    const size_t exponent = text.find('e');
    text.insert(exponent == std::string::npos ? text.size() : exponent, ".0");
  }
  return text;
}

std::string yaml_scalar(const Json& value) {
  if (value.is_number_float()) return number_text(value.get<double>());
  if (!value.is_string()) return value.dump();
  const auto& text = value.get_ref<const std::string&>();
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_plain = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '/' || c == '.' || c == '-';
  };
  const bool plain = !text.empty() && (is_letter(text[0]) || text[0] == '/') &&
                     std::all_of(text.begin(), text.end(), is_plain);
  bool boolean = false;
  double number = 0;
  const ConfigNode node = ConfigNode::scalar(text);
  if (plain && !node.is_null() && !read_boolean(node, boolean) && !read_number(node, number))
    return text;
  return Json(text).dump();
}

std::string yaml_flow(const Json& value) {
  if (!value.is_structured()) return yaml_scalar(value);
  std::string text = value.is_array() ? "[" : "{";
  bool first = true;
  for (const auto& [key, item] : value.items()) {
    if (!first) text += ", ";
    first = false;
    if (value.is_object()) text += yaml_scalar(key) + ": ";
    text += yaml_flow(item);
  }
  return text + (value.is_array() ? "]" : "}");
}

std::string to_yaml(const Json& object) {
  std::string out;
  append_entries(out, object, /*indent=*/0, /*indent_first=*/true);
  return out;
}

}  // namespace rlhf
