// Options, each declared once.
//
// An OptionSet binds names to the members of a plain struct: name, member (its value is the
// default), range or choices, one-line meaning, symbol in the paper. The YAML and JSON reader, the
// command-line flags, `--help`, the reference page, the JSON schema and the resolved configuration
// (options_text.h) are all made from that one declaration.
//
//   struct TrainOptions { double learning_rate = 2e-5; std::optional<int64_t> max_length = 1024; };
//   OptionSet set;
//   set.group("Optimiser");
//   set.add("learning_rate", options.learning_rate, "Peak learning rate.").above(0).written("η");
//
// The struct must outlive the set. Member types: bool, int64_t, double, std::string, an enum with
// EnumNames, Json (any value), std::optional and std::vector of these, and add_record / add_records
// for nested structs.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "rlhf/core/config_node.h"
#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

class OptionSet;

/// Of counts and of lengths in tokens: more than any run has, and no product of them overflows.
inline constexpr double kMostCount = 1 << 20;
inline constexpr double kMostLength = 1 << 24;

enum class ValueKind { boolean, integer, number, text, tree, record };

struct ValueType {
  ValueKind kind = ValueKind::text;
  bool optional = false;  ///< null is a value
  bool list = false;      ///< a list of `kind`
};

/// Bounds of a number; printed as `at least 1`, `above 0`, `in [0, 1)`.
struct ValueRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;
  bool max_open = false;

  bool bounded() const;
  bool holds(double value) const;
  std::string text() const;
};

/// One declared option. The chained functions refine the declaration; the rest is for readers of
/// the set.
class Option {
 public:
  Option& at_least(double min);
  Option& above(double min);
  Option& at_most(double max);
  Option& between(double min, double max);
  /// [min, max)
  Option& from_below(double min, double max);
  /// The texts allowed; set by itself for an enum.
  Option& one_of(std::vector<std::string> choices);
  /// Another spelling of a value, such as "true" for the text "all".
  Option& spelling(std::string written, Json value);
  /// The symbol in the paper.
  Option& written(std::string symbol);
  /// What to do instead of a value that is not allowed.
  Option& advice(std::string hint);
  /// A name that older versions used; reading it gives a note.
  Option& old_name(std::string name);

  std::string name;
  ValueType type;
  Json default_value;
  std::string meaning;
  std::string group;
  std::string symbol;
  std::string hint;
  ValueRange range;
  std::vector<std::string> choices;
  std::vector<std::pair<std::string, Json>> spellings;
  std::vector<std::string> old_names;
  /// For records: a set of the same shape as one element, for documentation.
  std::shared_ptr<const OptionSet> shape;

  /// The member's value now.
  std::function<Json()> get;
  /// `number in [0, 1)`, `one of "nll", "dft"`, `list of text or null`.
  std::string type_text() const;
  /// Reads `node` into the member; on failure adds to `problems` (`file` names the text, `path` the
  /// option) and leaves the member alone.
  void read(const ConfigNode& node, const std::string& file, const std::string& path,
            Problems& problems, std::vector<std::string>* notes) const;

 private:
  friend class OptionSet;
  /// `node` as JSON of this option's type, or nothing; then `wrong` is the node or its element that
  /// does not fit.
  std::optional<Json> value_of(const ConfigNode& node, const ConfigNode*& wrong) const;
  std::optional<Json> element_of(const ConfigNode& node) const;
  /// What to write instead of `wrong`: the advice declared, the nearest choice, else the default.
  std::string hint_for(const ConfigNode& wrong) const;

  std::function<void(const Json&)> set_;
  std::function<void(const ConfigNode&, const std::string&, const std::string&, Problems&,
                     std::vector<std::string>*)>
      read_record_;
};

/// A key that is known but sets nothing here.
struct InertKey {
  enum class Status {
    accepted,   ///< no meaning here: a note says why when it is set
    refused,    ///< would change the result and is not offered: an error says what to use instead
    elsewhere,  ///< belongs to another command: an error says to which
  };
  Status status = Status::accepted;
  std::string name;
  Json harmless;  ///< the value that asks for nothing (its default elsewhere); silent, as null is
  std::string text;  ///< the reason, or what to use instead
};

/// Names of an enum's values, in order from 0. Specialise: `template <> struct EnumNames<E> {
/// static constexpr std::array names = {"no", "steps"}; };`
template <class E>
struct EnumNames;

template <class E>
std::string enum_text(E value) {
  return std::string(EnumNames<E>::names.at(static_cast<size_t>(value)));
}

namespace detail {
template <class T>
struct Traits;
}

class OptionSet {
 public:
  OptionSet() = default;
  OptionSet(const OptionSet&) = delete;
  OptionSet& operator=(const OptionSet&) = delete;

  /// Names the group of the options added from now on.
  void group(std::string title) { group_ = std::move(title); }

  template <class T>
  Option& add(std::string name, T& member, std::string meaning);

  /// Nested keys: `declare(OptionSet&, Struct&)` declares the struct's own options.
  template <class Struct, class Declare>
  Option& add_record(std::string name, Struct& member, std::string meaning, Declare declare);
  /// A list of nested keys.
  template <class Struct, class Declare>
  Option& add_records(std::string name, std::vector<Struct>& member, std::string meaning,
                      Declare declare);

  void add_inert(InertKey key) { inert_.push_back(std::move(key)); }

  /// Reads a map of keys into the members. `file` names the text in messages (empty: the command
  /// line) and `prefix` is the path of the map inside it. Adds every problem found (unknown key
  /// with the nearest name, repeated key, wrong type, value out of range, refused key) and a note
  /// for every accepted or renamed one.
  void apply(const ConfigNode& map, const std::string& file, const std::string& prefix,
             Problems& problems, std::vector<std::string>* notes) const;

  /// The same for one key; `path` is shown in messages.
  void apply_one(const std::string& name, const ConfigNode& node, const std::string& file,
                 const std::string& path, Problems& problems,
                 std::vector<std::string>* notes) const;

  const std::vector<std::unique_ptr<Option>>& options() const { return options_; }
  const std::vector<InertKey>& inert() const { return inert_; }
  /// By name, not by old name; nullptr where there is none.
  const Option* find(std::string_view name) const;
  const InertKey* find_inert(std::string_view name) const;
  /// Also by an old name.
  const Option* find_renamed(std::string_view old_name) const;
  std::vector<std::string> names() const;

  /// Every option's value now, in order.
  Json values() const;
  /// The values that differ from their defaults.
  Json changed_values() const;

 private:
  Option& append(std::string name, std::string meaning, ValueType type);
  void apply_inert(const InertKey& key, const ConfigNode& node, const std::string& where,
                   Problems& problems, std::vector<std::string>* notes) const;

  std::string group_;
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<InertKey> inert_;
};

/// `run.yaml:12 learning_rate`, or `--learning_rate` where `file` is empty.
std::string option_place(const std::string& file, int line, const std::string& path);

// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

template <>
struct Traits<bool> {
  static constexpr ValueType type{ValueKind::boolean};
};
template <>
struct Traits<int64_t> {
  static constexpr ValueType type{ValueKind::integer};
};
template <>
struct Traits<double> {
  static constexpr ValueType type{ValueKind::number};
};
template <>
struct Traits<std::string> {
  static constexpr ValueType type{ValueKind::text};
};
template <>
struct Traits<Json> {
  static constexpr ValueType type{ValueKind::tree, /*optional=*/true};
};
template <class E>
requires std::is_enum_v<E>
struct Traits<E> {
  static constexpr ValueType type{ValueKind::text};
};
template <class T>
struct Traits<std::optional<T>> {
  static constexpr ValueType type{Traits<T>::type.kind, /*optional=*/true, Traits<T>::type.list};
};
template <class T>
struct Traits<std::vector<T>> {
  static constexpr ValueType type{Traits<T>::type.kind, /*optional=*/false, /*list=*/true};
};

template <class T>
struct Element {
  using type = T;
};
template <class T>
struct Element<std::optional<T>> : Element<T> {};
template <class T>
struct Element<std::vector<T>> : Element<T> {};

template <class T>
constexpr bool is_optional = false;
template <class T>
constexpr bool is_optional<std::optional<T>> = true;
template <class T>
constexpr bool is_vector = false;
template <class T>
constexpr bool is_vector<std::vector<T>> = true;

template <class T>
Json to_value(const T& member) {
  if constexpr (is_optional<T>) {
    return member ? to_value(*member) : Json(nullptr);
  } else if constexpr (is_vector<T>) {
    Json list = Json::array();
    for (const auto& item : member) list.push_back(to_value(item));
    return list;
  } else if constexpr (std::is_enum_v<T>) {
    return enum_text(member);
  } else {
    return member;
  }
}

template <class T>
T from_value(const Json& value) {
  if constexpr (std::is_same_v<T, Json>) {
    return value;
  } else if constexpr (is_optional<T>) {
    return value.is_null() ? T{} : T{from_value<typename T::value_type>(value)};
  } else if constexpr (is_vector<T>) {
    T list;
    for (const auto& item : value) list.push_back(from_value<typename T::value_type>(item));
    return list;
  } else if constexpr (std::is_enum_v<T>) {
    const auto& names = EnumNames<T>::names;
    const auto text = value.template get<std::string>();
    for (size_t i = 0; i < names.size(); ++i) {
      if (text == names[i]) return static_cast<T>(i);
    }
    fail("options", fmt::format("\"{}\" passed the check of choices but names no value.", text));
  } else {
    return value.template get<T>();
  }
}

}  // namespace detail

template <class T>
Option& OptionSet::add(std::string name, T& member, std::string meaning) {
  Option& option = append(std::move(name), std::move(meaning), detail::Traits<T>::type);
  using Single = typename detail::Element<T>::type;
  if constexpr (std::is_enum_v<Single>) {
    const auto& names = EnumNames<Single>::names;
    option.choices.assign(names.begin(), names.end());
  }
  option.get = [&member] { return detail::to_value(member); };
  option.set_ = [&member](const Json& value) { member = detail::from_value<T>(value); };
  option.default_value = option.get();
  return option;
}

template <class Struct, class Declare>
Option& OptionSet::add_record(std::string name, Struct& member, std::string meaning,
                              Declare declare) {
  Option& option = append(std::move(name), std::move(meaning), {ValueKind::record});
  auto inner = std::make_shared<OptionSet>();
  declare(*inner, member);
  option.shape = inner;
  option.get = [inner] { return inner->changed_values(); };
  option.read_record_ = [inner](const ConfigNode& node, const std::string& file,
                                const std::string& path, Problems& problems,
                                std::vector<std::string>* notes) {
    inner->apply(node, file, path, problems, notes);
  };
  option.default_value = option.get();
  return option;
}

template <class Struct, class Declare>
Option& OptionSet::add_records(std::string name, std::vector<Struct>& member, std::string meaning,
                               Declare declare) {
  Option& option = append(std::move(name), std::move(meaning),
                          {ValueKind::record, /*optional=*/false, /*list=*/true});
  auto element = std::make_shared<std::pair<Struct, OptionSet>>();
  declare(element->second, element->first);
  option.shape = std::shared_ptr<const OptionSet>(element, &element->second);
  option.get = [&member, declare] {
    Json list = Json::array();
    for (const Struct& item : member) {
      Struct
          copy;  // declared before it takes the item's values, so that these are not the defaults
      OptionSet inner;
      declare(inner, copy);
      copy = item;
      list.push_back(inner.changed_values());
    }
    return list;
  };
  option.read_record_ = [&member, declare](const ConfigNode& node, const std::string& file,
                                           const std::string& path, Problems& problems,
                                           std::vector<std::string>* notes) {
    std::vector<Struct> list(node.items.size());
    for (size_t i = 0; i < list.size(); ++i) {
      OptionSet inner;
      declare(inner, list[i]);
      inner.apply(node.items[i], file, fmt::format("{}[{}]", path, i), problems, notes);
    }
    member = std::move(list);
  };
  option.default_value = option.get();
  return option;
}

}  // namespace rlhf
