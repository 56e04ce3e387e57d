#include "rlhf/core/options_args.h"

#include <algorithm>
#include <optional>

#include "rlhf/core/utf8.h"

namespace rlhf {
namespace {

struct Flag {
  std::string name;                  // without dashes, underscores inside
  std::optional<std::string> value;  // behind `=`
};

bool is_flag(std::string_view word) { return word.size() > 2 && word.starts_with("--"); }

Flag split_flag(const std::string& word) {
  const size_t equals = word.find('=');
  Flag flag{word.substr(2, equals == std::string::npos ? equals : equals - 2), std::nullopt};
  std::replace(flag.name.begin(), flag.name.end(), '-', '_');
  if (equals != std::string::npos) flag.value = word.substr(equals + 1);
  return flag;
}

/// What a flag's words mean depends on its option alone.
enum class Shape { boolean, scalar, list, yaml, values };

bool takes_several(Shape shape) { return shape == Shape::list || shape == Shape::values; }

Shape shape_of(const OptionSet& set, const std::string& name) {
  const Option* option = set.find(name);
  if (option == nullptr) option = set.find_renamed(name);
  if (option == nullptr) {
    const InertKey* key = set.find_inert(name);
    if (key == nullptr) return Shape::scalar;
    return key->harmless.is_boolean() ? Shape::boolean : Shape::yaml;
  }
  if (option->type.kind == ValueKind::tree && option->type.list) return Shape::values;
  if (option->type.kind == ValueKind::tree || option->type.kind == ValueKind::record)
    return Shape::yaml;
  if (option->type.list) return Shape::list;
  return option->type.kind == ValueKind::boolean ? Shape::boolean : Shape::scalar;
}

/// Lists and nested keys may be given as YAML or JSON; anything else is the word itself.
ConfigNode parse_word(const std::string& word, Shape shape, const std::string& name) {
  const bool structured = shape == Shape::yaml || shape == Shape::values ||
                          (shape == Shape::list && word.starts_with('['));
  ConfigNode node = structured ? parse_config_text(word, "--" + name) : ConfigNode::scalar(word);
  node.line = 0;
  return node;
}

/// Of several words, or a flag given again, one list.
void append_item(ConfigNode& list, ConfigNode node) {
  list.kind = ConfigNode::Kind::list;
  if (node.kind == ConfigNode::Kind::list) {
    for (auto& item : node.items) list.items.push_back(std::move(item));
  } else {
    list.items.push_back(std::move(node));
  }
}

/// The list of the words so far and one more.
void append_word(ConfigNode& words, const std::string& word) {
  if (words.kind != ConfigNode::Kind::list) {
    ConfigNode list;
    append_item(list, std::move(words));
    words = std::move(list);
  }
  append_item(words, ConfigNode::scalar(word));
}

/// `a.b` of the word `a.b=c` or `+a.b=c`, as Hydra writes what others write as a flag; else nothing.
std::string name_of_override(const std::string& word) {
  const size_t begin = word.find_first_not_of('+');
  const size_t equals = word.find('=');
  if (begin == std::string::npos || equals == std::string::npos || equals <= begin) return "";
  const std::string name = word.substr(begin, equals - begin);
  return name.find('.') == std::string::npos ? "" : name;
}

bool is_known(const OptionSet& set, const std::string& name) {
  return set.find(name) != nullptr || set.find_renamed(name) != nullptr ||
         set.find_inert(name) != nullptr;
}

/// Walks the words once and collects the flags as the tree a configuration file would give.
class ArgumentReader {
 public:
  ArgumentReader(const OptionSet& set, std::span<const std::string> args,
                 const ArgumentRules& rules, ParsedArguments& parsed, Problems& problems)
      : set_(set), args_(args), rules_(rules), parsed_(parsed), problems_(problems) {
    flags_.kind = ConfigNode::Kind::map;
  }

  ConfigNode read() {
    while (at_ < args_.size()) {
      const std::string& word = args_[at_++];
      if (is_flag(word)) {
        read_flag(split_flag(word));
      } else if (is_foreign(name_of_override(word))) {
        store(name_of_override(word), ConfigNode::scalar(word.substr(word.find('=') + 1)),
              Shape::scalar);
      } else if (!rules_.positional.empty()) {
        parsed_.positional.push_back(word);
      } else {
        problems_.add("command line", fmt::format("\"{}\" belongs to no flag.", word),
                      "write --key value; a value with spaces needs quotes.");
      }
    }
    return std::move(flags_);
  }

 private:
  bool has_word() const { return at_ < args_.size() && !is_flag(args_[at_]); }

  void read_flag(Flag flag) {
    if (rules_.config_file && flag.name == "config") {
      if (!flag.value && has_word()) flag.value = args_[at_++];
      if (flag.value) {
        parsed_.config_files.push_back(*flag.value);
      } else {
        problems_.add("--config", "expected a YAML or JSON file, got nothing.",
                      "write --config FILE.");
      }
      return;
    }
    const bool known = is_known(set_, flag.name);
    if (!known && is_foreign(flag.name)) {
      ConfigNode words = ConfigNode::scalar(flag.value.value_or("true"));
      if (!flag.value && has_word()) words = ConfigNode::scalar(args_[at_++]);
      while (has_word()) append_word(words, args_[at_++]);
      store(flag.name, std::move(words), Shape::scalar);
      return;
    }
    if (!known && flag.name.starts_with("no_") && !flag.value &&
        shape_of(set_, flag.name.substr(3)) == Shape::boolean) {
      store(flag.name.substr(3), ConfigNode::scalar("false"), Shape::boolean);
      return;
    }
    const Shape shape = shape_of(set_, flag.name);
    if (flag.value) {
      store(flag.name, *flag.value, shape);
    } else if (!has_word()) {
      if (shape == Shape::boolean || !known || set_.find_inert(flag.name) != nullptr) {
        store(flag.name, ConfigNode::scalar("true"), shape);
      } else {
        problems_.add("--" + flag.name, "expected a value, got nothing.",
                      fmt::format("write --{} VALUE.", flag.name));
      }
    } else {
      store(flag.name, args_[at_++], shape);
      while (takes_several(shape) && has_word() && !is_foreign(name_of_override(args_[at_])))
        store(flag.name, args_[at_++], shape);
    }
  }

  bool is_foreign(const std::string& name) const {
    return !name.empty() && rules_.foreign &&
           rules_.foreign(set_, name, ConfigNode::scalar("")).has_value();
  }

  void store(const std::string& name, const std::string& word, Shape shape) {
    try {
      store(name, parse_word(word, shape, name), shape);
    } catch (const UserError& error) {
      problems_.add(error);
    }
  }

  /// Lists grow; any other flag given again stands twice, which OptionSet::apply refuses.
  void store(const std::string& name, ConfigNode node, Shape shape) {
    if (takes_several(shape)) {
      for (auto& [have, value] : flags_.entries) {
        if (have != name) continue;
        append_item(value, std::move(node));
        return;
      }
      if (!node.is_null()) {
        ConfigNode list;
        append_item(list, std::move(node));
        node = std::move(list);
      }
    }
    flags_.entries.emplace_back(name, std::move(node));
  }

  const OptionSet& set_;
  std::span<const std::string> args_;
  const ArgumentRules& rules_;
  ParsedArguments& parsed_;
  Problems& problems_;
  ConfigNode flags_;
  size_t at_ = 0;
};

/// The name that an entry sets, be it written by an older one.
const std::string& name_today(const OptionSet& set, const std::string& name) {
  const Option* renamed = set.find_renamed(name);
  return renamed != nullptr ? renamed->name : name;
}

/// Whether a flag takes the place of a file's entry. Nested keys of both are joined.
bool overrides(const OptionSet& set, const ConfigNode& flags, const std::string& name) {
  for (const auto& [flag, value] : flags.entries) {
    if (name_today(set, flag) != name_today(set, name)) continue;
    const Option* option = set.find(name_today(set, name));
    const bool joins = option != nullptr && option->type.kind == ValueKind::record &&
                       !option->type.list && value.kind == ConfigNode::Kind::map;
    return !joins;
  }
  return false;
}

/// Takes the keys out of a map that `foreign` has something to say of, which becomes a problem each.
class ForeignEntries {
 public:
  ForeignEntries(const OptionSet& set, const std::string& file, const ForeignKeys& foreign,
                 Problems& problems)
      : set_(set), file_(file), foreign_(foreign), problems_(problems) {}

  void take_from(ConfigNode& map) {
    std::erase_if(map.entries, [&](const auto& entry) { return takes(entry.first, entry.second); });
  }

 private:
  bool takes(const std::string& name, const ConfigNode& node) {
    if (auto problem = foreign_(set_, name, node)) {
      add(name, node, *std::move(problem));
      return true;
    }
    if (node.kind != ConfigNode::Kind::map || reads_map(name) || !any_known(name, node))
      return false;
    add_leaves(name, node);
    return true;
  }

  bool reads_map(const std::string& name) const {
    const Option* option = set_.find(name_today(set_, name));
    return option != nullptr &&
           (option->type.kind == ValueKind::record || option->type.kind == ValueKind::tree);
  }

  bool any_known(const std::string& path, const ConfigNode& node) const {
    return std::any_of(node.entries.begin(), node.entries.end(), [&](const auto& entry) {
      const std::string inner = path + "." + entry.first;
      return foreign_(set_, inner, entry.second).has_value() || any_known(inner, entry.second);
    });
  }

  void add_leaves(const std::string& path, const ConfigNode& node) {
    for (const auto& [name, value] : node.entries) {
      const std::string inner = path + "." + name;
      if (value.kind == ConfigNode::Kind::map) {
        add_leaves(inner, value);
      } else if (auto problem = foreign_(set_, inner, value)) {
        add(inner, value, *std::move(problem));
      } else {
        add(inner, value, {.where = {}, .what = "unknown key.", .hint = "remove it."});
      }
    }
  }

  void add(const std::string& path, const ConfigNode& node, Problem problem) {
    problem.where = option_place(file_, node.line, path);
    problems_.add(problem);
  }

  const OptionSet& set_;
  const std::string& file_;
  const ForeignKeys& foreign_;
  Problems& problems_;
};

}  // namespace

void ParsedArguments::add_located(const Problems& found, Problems& problems) const {
  try {
    found.throw_if_any();
  } catch (const UserError& error) {
    for (Problem problem : error.problems()) {
      const auto place = places.find(problem.where.substr(0, problem.where.find_first_of(".[")));
      if (place != places.end())
        problem.where = place->second + problem.where.substr(place->first.size());
      problems.add(problem);
    }
  }
}

ParsedArguments parse_arguments(const OptionSet& set, std::span<const std::string> args,
                                const ArgumentRules& rules, Problems& problems) {
  ParsedArguments parsed;
  if (std::any_of(args.begin(), args.end(),
                  [](const auto& word) { return word == "--help" || word == "-h"; })) {
    parsed.help = true;
    return parsed;
  }
  for (const auto& word : args) {
    if (!valid_utf8(word)) {
      problems.add(
          "command line",
          fmt::format("text in UTF-8 was expected, got \"{}\".", replace_invalid_utf8(word)),
          "rename the file or write the text in UTF-8.");
    }
  }
  const ConfigNode flags = ArgumentReader(set, args, rules, parsed, problems).read();
  const auto apply = [&](ConfigNode map, const std::string& file) {
    if (!file.empty()) {
      std::erase_if(map.entries,
                    [&](const auto& entry) { return overrides(set, flags, entry.first); });
    }
    for (const auto& [name, node] : map.entries)
      parsed.places[name_today(set, name)] = option_place(file, node.line, name);
    if (rules.foreign) ForeignEntries(set, file, rules.foreign, problems).take_from(map);
    set.apply(map, file, /*prefix=*/"", problems, &parsed.notes);
  };
  for (const auto& path : parsed.config_files) {
    try {
      apply(read_config_file(path), path);
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  apply(flags, /*file=*/"");
  return parsed;
}

ParsedArguments parse_arguments(const OptionSet& set, std::span<const std::string> args,
                                const ArgumentRules& rules) {
  Problems problems;
  ParsedArguments parsed = parse_arguments(set, args, rules, problems);
  problems.throw_if_any();
  return parsed;
}

}  // namespace rlhf
