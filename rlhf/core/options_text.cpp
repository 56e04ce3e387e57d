#include "rlhf/core/options_text.h"

#include <algorithm>
#include <cmath>

namespace rlhf {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kMeaningColumn = 34;

/// A record of nothing but defaults says no more than its name.
std::string default_text(const Option& option) {
  if (option.type.kind == ValueKind::record && !option.type.list) return "unset";
  return yaml_flow(option.default_value);
}

/// Characters on a terminal: code points of UTF-8.
size_t width_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string padded(std::string text, size_t width) {
  const size_t have = width_of(text);
  if (have < width) text.append(width - have, ' ');
  return text;
}

/// Breaks at spaces; lines after the first start at `indent`; the first starts at `column`.
std::string wrapped(const std::string& text, size_t column, size_t indent) {
  std::string out;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    begin = end + 1;
    if (!out.empty() && column + 1 + width_of(word) > kWidth) {
      out += fmt::format("\n{:{}}", "", indent);
      column = indent;
    } else if (!out.empty()) {
      out += ' ';
      ++column;
    }
    out += word;
    column += width_of(word);
  }
  return out;
}

std::string placeholder(const Option& option) {
  if (option.type.kind == ValueKind::boolean) return "[true|false]";
  std::string word;
  switch (option.type.kind) {
    case ValueKind::integer:
      word = "N";
      break;
    case ValueKind::number:
      word = "X";
      break;
    case ValueKind::text:
      word = "TEXT";
      break;
    default:
      word = "YAML";
  }
  const bool words = option.type.list && option.type.kind != ValueKind::record;
  return words ? word + " ..." : word;
}

std::string help_details(const Option& option) {
  std::string text = option.meaning;
  if (!option.symbol.empty()) text += fmt::format(" Symbol: {}.", option.symbol);
  std::string details;
  if (!option.choices.empty()) {
    for (const auto& choice : option.choices)
      details += fmt::format("{}{}", details.empty() ? "" : "|", choice);
    details += "; ";
  } else if (option.range.bounded()) {
    details = option.range.text() + "; ";
  }
  return fmt::format("{} ({}default {})", text, details, default_text(option));
}

std::string in_code(const std::string& text) { return fmt::format("`{}`", text); }

/// A cell of a Markdown table.
std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

std::string markdown_type(const Option& option) {
  if (option.choices.empty()) return option.type_text();
  std::string text;
  for (const auto& choice : option.choices)
    text += fmt::format("{}`{}`", text.empty() ? "" : ", ", choice);
  return fmt::format("{}{}{}", option.type.list ? "list of " : "", text,
                     option.type.optional ? " or null" : "");
}

void append_row(std::string& out, const Option& option, const std::string& prefix) {
  std::string meaning = option.meaning;
  if (!option.symbol.empty()) meaning += fmt::format(" Symbol: {}.", option.symbol);
  for (const auto& old : option.old_names) meaning += fmt::format(" Old name: `{}`.", old);
  const std::string initial = default_text(option);
  out +=
      fmt::format("| `{}{}` | {} | {} | {} |\n", prefix, option.name, cell(markdown_type(option)),
                  cell(initial == "unset" ? initial : in_code(initial)), cell(meaning));
  if (!option.shape) return;
  for (const auto& inner : option.shape->options()) {
    append_row(out, *inner, prefix + option.name + (option.type.list ? "[]." : "."));
  }
}

void append_inert(std::string& out, const OptionSet& set, InertKey::Status status,
                  const std::string& title, const std::string& column) {
  std::string rows;
  for (const auto& key : set.inert()) {
    if (key.status == status) rows += fmt::format("| `{}` | {} |\n", key.name, cell(key.text));
  }
  if (!rows.empty()) out += fmt::format("\n{}\n\n| key | {} |\n|---|---|\n{}", title, column, rows);
}

Json value_schema(const Option& option) {
  Json schema = Json::object();
  const auto set_type = [&](const char* name) { schema["type"] = name; };
  switch (option.type.kind) {
    case ValueKind::boolean:
      set_type("boolean");
      break;
    case ValueKind::integer:
      set_type("integer");
      break;
    case ValueKind::number:
      set_type("number");
      break;
    case ValueKind::text:
      set_type("string");
      break;
    case ValueKind::tree:
      break;
    case ValueKind::record:
      schema = options_schema(*option.shape, "");
      break;
  }
  if (!option.choices.empty()) schema["enum"] = option.choices;
  const ValueRange& range = option.range;
  const auto bound = [&](double value) {
    return option.type.kind == ValueKind::integer ? Json(static_cast<int64_t>(value)) : Json(value);
  };
  if (std::isfinite(range.min))
    schema[range.min_open ? "exclusiveMinimum" : "minimum"] = bound(range.min);
  if (std::isfinite(range.max))
    schema[range.max_open ? "exclusiveMaximum" : "maximum"] = bound(range.max);
  return schema;
}

/// The value itself, or one of its other spellings.
Json element_schema(const Option& option) {
  Json schema = value_schema(option);
  if (option.spellings.empty()) return schema;
  Json spelled = Json::array();
  for (const auto& [text, value] : option.spellings) {
    spelled.push_back(text);
    if (text == "true" || text == "false") spelled.push_back(text == "true");
  }
  return {{"anyOf", Json::array({schema, {{"enum", spelled}}})}};
}

Json option_schema(const Option& option) {
  Json schema = element_schema(option);
  if (option.type.list) {
    Json list = {{"type", "array"}, {"items", schema}};
    schema =
        option.type.kind == ValueKind::record ? list : Json{{"anyOf", Json::array({list, schema})}};
  }
  if (option.type.optional && option.type.kind != ValueKind::tree) {
    schema = Json{{"anyOf", Json::array({schema, {{"type", "null"}}})}};
  }
  schema["description"] = option.meaning;
  if (option.type.kind != ValueKind::record) schema["default"] = option.default_value;
  return schema;
}

}  // namespace

std::string help_text(const OptionSet& set, const std::string& usage) {
  std::string out = usage;
  std::string group;
  for (const auto& option : set.options()) {
    if (option->group != group) {
      group = option->group;
      out += fmt::format("\n{}\n", group);
    }
    std::string flag = fmt::format("  --{} {}", option->name, placeholder(*option));
    if (width_of(flag) + 2 > kMeaningColumn) {
      flag += fmt::format("\n{:{}}", "", kMeaningColumn);
    } else {
      flag = padded(flag, kMeaningColumn);
    }
    out += flag + wrapped(help_details(*option), kMeaningColumn, kMeaningColumn) + "\n";
  }
  return out;
}

std::string options_markdown(const OptionSet& set, const std::string& heading) {
  std::string out;
  std::string group;
  for (const auto& option : set.options()) {
    if (out.empty() || option->group != group) {
      group = option->group;
      out += fmt::format("{}{} {}\n\n| key | value | default | meaning |\n|---|---|---|---|\n",
                         out.empty() ? "" : "\n", heading, group);
    }
    append_row(out, *option, /*prefix=*/"");
  }
  append_inert(out, set, InertKey::Status::accepted, heading + " Accepted, without effect",
               "why it has none");
  append_inert(out, set, InertKey::Status::refused, heading + " Refused", "instead");
  append_inert(out, set, InertKey::Status::elsewhere, heading + " Of other commands", "instead");
  return out;
}

Json options_schema(const OptionSet& set, const std::string& title) {
  Json schema = Json::object();
  if (!title.empty()) {
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema";
    schema["title"] = title;
  }
  schema["type"] = "object";
  schema["additionalProperties"] = false;
  Json& properties = schema["properties"] = Json::object();
  for (const auto& option : set.options()) {
    properties[option->name] = option_schema(*option);
    for (const auto& old : option->old_names) {
      properties[old] = option_schema(*option);
      properties[old]["deprecated"] = true;
    }
  }
  for (const auto& key : set.inert()) {
    if (key.status == InertKey::Status::accepted) {
      properties[key.name] = {{"description", "No effect: " + key.text}};
    } else {
      Json harmless = Json::array({nullptr});
      if (!key.harmless.is_null()) harmless.push_back(key.harmless);
      properties[key.name] = {{"enum", harmless}, {"description", key.text}};
    }
  }
  return schema;
}

std::string options_yaml(const OptionSet& set) { return to_yaml(set.values()); }

std::string options_table(const OptionSet& set) {
  size_t name_width = 0;
  size_t value_width = 0;
  constexpr size_t kWidestValue = 48;
  for (const auto& option : set.options()) {
    name_width = std::max(name_width, width_of(option->name));
    value_width = std::max(value_width, std::min(kWidestValue, width_of(yaml_flow(option->get()))));
  }
  std::string out;
  std::string group;
  for (const auto& option : set.options()) {
    if (option->group != group) {
      group = option->group;
      out += group + "\n";
    }
    const Json value = option->get();
    const bool changed = value != option->default_value;
    std::string line =
        fmt::format("{} {}  {}", changed ? '*' : ' ', padded(option->name, name_width),
                    padded(yaml_flow(value), value_width));
    if (changed) line += fmt::format("  (default {})", default_text(*option));
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace rlhf
