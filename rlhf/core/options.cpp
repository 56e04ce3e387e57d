#include "rlhf/core/options.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace rlhf {
namespace {

std::string bound_text(double value) {
  std::string text = number_text(value);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text;
}

std::string quoted_list(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", word);
  return text;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string kind_text(ValueKind kind) {
  switch (kind) {
    case ValueKind::boolean:
      return "true or false";
    case ValueKind::integer:
      return "integer";
    case ValueKind::number:
      return "number";
    case ValueKind::text:
      return "text";
    case ValueKind::tree:
      return "any value";
    case ValueKind::record:
      return "nested keys";
  }
  return "";
}

}  // namespace

bool ValueRange::bounded() const { return std::isfinite(min) || std::isfinite(max); }

bool ValueRange::holds(double value) const {
  if (std::isnan(value)) return false;
  return (min_open ? value > min : value >= min) && (max_open ? value < max : value <= max);
}

std::string ValueRange::text() const {
  if (std::isfinite(min) && std::isfinite(max)) {
    return fmt::format("in {}{}, {}{}", min_open ? "(" : "[", bound_text(min), bound_text(max),
                       max_open ? ")" : "]");
  }
  if (std::isfinite(min))
    return fmt::format("{} {}", min_open ? "above" : "at least", bound_text(min));
  if (std::isfinite(max))
    return fmt::format("{} {}", max_open ? "below" : "at most", bound_text(max));
  return "";
}

Option& Option::at_least(double min) {
  range.min = min;
  return *this;
}

Option& Option::above(double min) {
  range.min = min;
  range.min_open = true;
  return *this;
}

Option& Option::at_most(double max) {
  range.max = max;
  return *this;
}

Option& Option::between(double min, double max) {
  range = {.min = min, .max = max};
  return *this;
}

Option& Option::from_below(double min, double max) {
  range = {.min = min, .max = max, .max_open = true};
  return *this;
}

Option& Option::one_of(std::vector<std::string> texts) {
  choices = std::move(texts);
  return *this;
}

Option& Option::spelling(std::string text, Json value) {
  spellings.emplace_back(std::move(text), std::move(value));
  return *this;
}

Option& Option::written(std::string text) {
  symbol = std::move(text);
  return *this;
}

Option& Option::advice(std::string text) {
  hint = std::move(text);
  return *this;
}

Option& Option::old_name(std::string old) {
  old_names.push_back(std::move(old));
  return *this;
}

std::string Option::type_text() const {
  std::string text = type.list ? "list of " : "";
  text += choices.empty() ? kind_text(type.kind) : fmt::format("one of {}", quoted_list(choices));
  if (range.bounded()) text += fmt::format(" {}", range.text());
  if (type.optional && type.kind != ValueKind::tree) text += " or null";
  return text;
}

std::optional<Json> Option::element_of(const ConfigNode& node) const {
  if (node.kind == ConfigNode::Kind::scalar) {
    for (const auto& [text, value] : spellings) {
      if (node.text == text) return value;
    }
  }
  switch (type.kind) {
    case ValueKind::boolean:
      if (bool value = false; read_boolean(node, value)) return value;
      return std::nullopt;
    case ValueKind::integer:
      if (int64_t value = 0; read_integer(node, value) && range.holds(static_cast<double>(value)))
        return value;
      return std::nullopt;
    case ValueKind::number:
      if (double value = 0; read_number(node, value) && range.holds(value)) return value;
      return std::nullopt;
    case ValueKind::text:
      if (node.kind != ConfigNode::Kind::scalar) return std::nullopt;
      if (!choices.empty() &&
          std::find(choices.begin(), choices.end(), node.text) == choices.end()) {
        return std::nullopt;
      }
      return node.text;
    case ValueKind::tree:
    case ValueKind::record:
      return to_json(node);
  }
  return std::nullopt;
}

std::optional<Json> Option::value_of(const ConfigNode& node, const ConfigNode*& wrong) const {
  if (node.is_null() && type.optional) return Json(nullptr);
  wrong = &node;
  if (!type.list) return element_of(node);
  if (node.kind != ConfigNode::Kind::list) {
    auto value = node.is_null() ? std::nullopt : element_of(node);
    return value ? std::optional(Json::array({*std::move(value)})) : std::nullopt;
  }
  Json list = Json::array();
  for (const auto& item : node.items) {
    wrong = &item;
    auto value = element_of(item);
    if (!value) return std::nullopt;
    list.push_back(*std::move(value));
  }
  return list;
}

std::string Option::hint_for(const ConfigNode& wrong) const {
  if (!hint.empty()) return hint;
  if (shape) return fmt::format("its keys are {}.", joined(shape->names()));
  if (!choices.empty() && wrong.kind == ConfigNode::Kind::scalar) {
    const std::string near = nearest_name(wrong.text, choices);
    if (!near.empty()) return fmt::format("did you mean {}?", near);
  }
  if (default_value == Json("")) return "";
  return fmt::format("the default is {}.", yaml_flow(default_value));
}

void Option::read(const ConfigNode& node, const std::string& file, const std::string& path,
                  Problems& problems, std::vector<std::string>* notes) const {
  const auto refuse = [&](const ConfigNode& wrong) {
    std::string got = wrong.shown();
    if (&wrong != &node) got += fmt::format(" as element {}", &wrong - node.items.data() + 1);
    problems.add(option_place(file, node.line, path),
                 fmt::format("expected {}, got {}.", type_text(), got), hint_for(wrong));
  };
  if (read_record_) {
    const auto wanted = type.list ? ConfigNode::Kind::list : ConfigNode::Kind::map;
    if (node.is_null()) return;
    if (node.kind != wanted) {
      refuse(node);
    } else {
      read_record_(node, file, path, problems, notes);
    }
    return;
  }
  const ConfigNode* wrong = &node;
  if (const auto value = value_of(node, wrong)) {
    set_(*value);
  } else {
    refuse(*wrong);
  }
}

Option& OptionSet::append(std::string name, std::string meaning, ValueType type) {
  check(find(name) == nullptr && find_inert(name) == nullptr, "options", "{} is declared twice.",
        name);
  options_.push_back(std::make_unique<Option>());
  Option& option = *options_.back();
  option.name = std::move(name);
  option.meaning = std::move(meaning);
  option.type = type;
  option.group = group_;
  return option;
}

const Option* OptionSet::find(std::string_view name) const {
  for (const auto& option : options_) {
    if (option->name == name) return option.get();
  }
  return nullptr;
}

const Option* OptionSet::find_renamed(std::string_view old_name) const {
  for (const auto& option : options_) {
    const auto& olds = option->old_names;
    if (std::find(olds.begin(), olds.end(), old_name) != olds.end()) return option.get();
  }
  return nullptr;
}

const InertKey* OptionSet::find_inert(std::string_view name) const {
  for (const auto& key : inert_) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::vector<std::string> OptionSet::names() const {
  std::vector<std::string> names;
  for (const auto& option : options_) names.push_back(option->name);
  return names;
}

Json OptionSet::values() const {
  Json object = Json::object();
  for (const auto& option : options_) object[option->name] = option->get();
  return object;
}

Json OptionSet::changed_values() const {
  Json object = Json::object();
  for (const auto& option : options_) {
    Json value = option->get();
    if (value != option->default_value) object[option->name] = std::move(value);
  }
  return object;
}

void OptionSet::apply(const ConfigNode& map, const std::string& file, const std::string& prefix,
                      Problems& problems, std::vector<std::string>* notes) const {
  const auto path_of = [&](const std::string& name) {
    return prefix.empty() ? name : prefix + "." + name;
  };
  if (map.kind != ConfigNode::Kind::map) {
    problems.add(option_place(file, map.line, prefix),
                 fmt::format("expected nested keys, got {}.", map.shown()),
                 fmt::format("its keys are {}.", joined(names())));
    return;
  }
  std::set<std::string> seen;
  for (const auto& [name, node] : map.entries) {
    const Option* renamed = find_renamed(name);
    if (!seen.insert(renamed != nullptr ? renamed->name : name).second) {
      problems.add(option_place(file, node.line, path_of(name)), "this key is set twice.",
                   "keep one of the two.");
      continue;
    }
    apply_one(name, node, file, path_of(name), problems, notes);
  }
}

void OptionSet::apply_one(const std::string& name, const ConfigNode& node, const std::string& file,
                          const std::string& path, Problems& problems,
                          std::vector<std::string>* notes) const {
  const std::string place = option_place(file, node.line, path);
  if (const Option* option = find(name)) {
    option->read(node, file, path, problems, notes);
  } else if (const Option* renamed = find_renamed(name)) {
    if (notes != nullptr)
      notes->push_back(fmt::format("[{}] read as {}, its name today.", place, renamed->name));
    renamed->read(node, file, path, problems, notes);
  } else if (const InertKey* key = find_inert(name)) {
    apply_inert(*key, node, place, problems, notes);
  } else {
    auto candidates = names();
    for (const auto& inert : inert_) candidates.push_back(inert.name);
    const std::string near = nearest_name(name, candidates);
    const bool nested = path != name;
    problems.add(place, "unknown key.",
                 !near.empty()
                     ? fmt::format("did you mean {}{}?", file.empty() && !nested ? "--" : "", near)
                 : nested ? fmt::format("its keys are {}.", joined(candidates))
                          : "see --help for the keys there are.");
  }
}

void OptionSet::apply_inert(const InertKey& key, const ConfigNode& node, const std::string& where,
                            Problems& problems, std::vector<std::string>* notes) const {
  bool same = node.is_null() || to_json(node) == key.harmless;
  if (key.harmless.is_boolean()) {
    bool value = false;
    same = same || (read_boolean(node, value) && value == key.harmless.get<bool>());
  } else if (key.harmless.is_string()) {
    same = same ||
           (node.kind == ConfigNode::Kind::scalar && node.text == key.harmless.get<std::string>());
  } else if (key.harmless.is_number()) {
    double value = 0;
    same = same || (read_number(node, value) && value == key.harmless.get<double>());
  }
  if (same) return;
  switch (key.status) {
    case InertKey::Status::accepted:
      if (notes != nullptr)
        notes->push_back(fmt::format("[{}] has no effect: {}", where, key.text));
      break;
    case InertKey::Status::refused:
      problems.add(where, fmt::format("{} is not supported.", node.shown()), key.text);
      break;
    case InertKey::Status::elsewhere:
      problems.add(where, "not an option of this command.", key.text);
      break;
  }
}

std::string option_place(const std::string& file, int line, const std::string& path) {
  if (file.empty()) return "--" + path;
  std::string place = line > 0 ? fmt::format("{}:{}", file, line) : file;
  if (!path.empty()) place += " " + path;
  return place;
}

}  // namespace rlhf
