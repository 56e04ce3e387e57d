// Configuration text as a tree: YAML 1.2 (and JSON, which is a part of it) with the line of every
// value.
//
// A scalar keeps its text, since only the option it is meant for knows its type: `eval_strategy:
// no` is the word "no" and not false, and `learning_rate: 1e-5` is a number although PyYAML reads a
// string. The same tree is made from the command line, so one reader serves both.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// One value of a configuration text and where it stands.
struct ConfigNode {
  enum class Kind { null, scalar, list, map };

  Kind kind = Kind::null;
  std::string text;  ///< scalar: as written, without quotes
  bool quoted =
      false;     ///< scalar: was in quotes, so it is text and never null, a number or a boolean
  int line = 0;  ///< from 1; 0 where unknown (the command line)
  std::vector<ConfigNode> items;  ///< list
  std::vector<std::pair<std::string, ConfigNode>>
      entries;  ///< map, in order; a repeated key stands twice

  /// A plain scalar, as a word of the command line.
  static ConfigNode scalar(std::string text);
  /// The value under `key`, or nullptr.
  const ConfigNode* find(std::string_view key) const;
  /// Null, or a plain `null`, `Null`, `NULL`, `~`, `None` or nothing at all.
  bool is_null() const;
  /// How the value is shown in a message: `"abc"`, `12`, `a list`.
  std::string shown() const;
};

/// Parses one YAML or JSON document; `origin` (a file name or a flag) names it in messages.
/// UserError with the line on bytes that are not UTF-8, on control characters, on a syntax error
/// and on nesting deeper than 32 levels.
ConfigNode parse_config_text(const std::string& text, const std::string& origin);

/// Reads a YAML or JSON file whose top is a map (an empty file is an empty one). UserError as
/// above.
ConfigNode read_config_file(const fs::path& path);

/// The tree as JSON; plain scalars become null, booleans, integers or numbers by YAML 1.2's core
/// schema, and `1e-5` is a number. The last of repeated keys wins.
Json to_json(const ConfigNode& node);

/// A plain or quoted scalar as a boolean: true, yes, on, false, no, off in YAML's three spellings.
bool read_boolean(const ConfigNode& node, bool& value);
/// Decimal integers; also `1e3` and `1000.0`, which are whole.
bool read_integer(const ConfigNode& node, int64_t& value);
/// Decimal numbers, `.inf`, `.nan`, `inf`, `nan`.
bool read_number(const ConfigNode& node, double& value);

/// The shortest text that reads back to the same double, in a form that YAML 1.1 and 1.2 both take
/// for a number.
std::string number_text(double value);

/// One scalar as it must be written in YAML to be read back as the same value.
std::string yaml_scalar(const Json& value);
/// A value in one line: lists and objects in flow style, `[1, 2]` and `{a: b}`.
std::string yaml_flow(const Json& value);
/// A YAML document for an object: one key a line; lists of scalars and empty containers in flow
/// style.
std::string to_yaml(const Json& object);

}  // namespace rlhf
