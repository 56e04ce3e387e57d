// The values a chat template computes with: Python's, as far as Jinja2's sandbox lets a template
// see them.
//
// A Value is small and shares what it points to; lists and dicts never change once built (the
// sandbox refuses mutators), namespaces do. Everything a template can make is bounded: text and
// lists by size, nesting by depth, because a template comes with a model from elsewhere. The
// namespace `jinja` keeps these everyday names (Value, List, Token) out of `rlhf`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/core/json.h"

namespace rlhf::jinja {

/// Something wrong in a template or its input; becomes a UserError with the template's name and
/// line.
struct Fault {
  std::string what;
  std::string hint;
  int line = 0;  ///< 0: the line being rendered
};

inline constexpr size_t kMaxText = size_t{64} << 20;  ///< bytes of any text a template makes
inline constexpr size_t kMaxItems = size_t{1} << 20;  ///< items of any list a template makes
inline constexpr int kMaxDepth = 200;                 ///< nesting of lists and dicts
inline constexpr int64_t kMaxRange = 100000;          ///< as the sandbox's range()

class Value;
struct Args;
class Run;

enum class Type : uint8_t { undefined, none, boolean, integer, real, string, list, dict, function };
/// What kind of sequence a list is. An iterator is used up by the first that reads it.
enum class Form : uint8_t { list, tuple, range, view, iterator };

struct Text {
  std::string text;  ///< for an undefined value: the message of its error
};
struct List {
  std::vector<Value> items;
  Form form = Form::list;
  std::string label;                ///< how a range or a view prints
  std::vector<std::string> fields;  ///< names of a named tuple (groupby)
  int depth = 1;
};
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  bool is_namespace = false;
  int depth = 1;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  /// Adds or replaces. `key` must be hashable.
  void set(Value key, Value value);
};
/// A macro, a global, a bound method or a loop: called, or asked for attributes.
struct Function {
  std::string name;
  virtual ~Function() = default;
  virtual Value call(Run& run, Args& args) = 0;
  virtual bool attribute(Run& run, std::string_view name, Value& out);
};

class Value {
 public:
  Value() = default;  ///< undefined, without a name
  static Value undefined(std::string message);
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value real(double value);
  static Value string(std::string value, bool markup = false);
  static Value list(std::vector<Value> items, Form form = Form::list, std::string label = "");
  static Value dict(std::vector<std::pair<Value, Value>> items);
  static Value of(std::shared_ptr<List> list);
  static Value of(std::shared_ptr<Dict> dict);
  static Value of(std::shared_ptr<Function> function);

  Type type() const { return type_; }
  bool is(Type type) const { return type_ == type; }
  bool is_number() const;  ///< bool, int or float
  bool is_integral() const { return type_ == Type::integer || type_ == Type::boolean; }
  bool is_markup() const { return markup_; }
  bool is_sequence(Form form) const;

  bool as_bool() const { return number_.integer != 0; }
  int64_t as_int() const { return number_.integer; }  ///< integer or boolean
  double as_real() const;                             ///< any number
  const std::string& as_string() const;
  List& as_list() const;
  Dict& as_dict() const;
  Function& as_function() const;
  const std::shared_ptr<void>& shared() const { return object_; }

  bool truth() const;

 private:
  Type type_ = Type::undefined;
  bool markup_ = false;  ///< result of `safe` or `escape`: adding plain text to it escapes that
  union {
    int64_t integer = 0;
    double real;
  } number_;
  std::shared_ptr<void> object_;
};

/// Arguments of a call.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  /// Values for the parameters `names`, null where not given. Faults, naming `function`, on too
  /// many, unknown or repeated arguments, and on fewer than `required`.
  std::vector<const Value*> bind(std::string_view function,
                                 std::initializer_list<std::string_view> names,
                                 size_t required) const;
};

/// A string, and markup where `like` is.
Value same_kind(const Value& like, std::string text);
std::string type_name(const Value& value);  ///< Python's: str, int, dict ...
std::string to_text(const Value& value);    ///< str(value)
std::string to_repr(const Value& value);    ///< repr(value)
std::string real_text(double value);        ///< repr(float)
bool equal(const Value& a, const Value& b);
/// a < b; Faults where Python has no order.
bool less(const Value& a, const Value& b);
/// item in container.
bool contains(const Value& container, const Value& item);
/// The items of anything a for-loop takes; an iterator is empty afterwards.
std::vector<Value> iterate(const Value& value);
/// len(value).
int64_t length(const Value& value);
/// Faults on an undefined value, with what is known of it.
void require_defined(const Value& value);
void require_hashable(const Value& value);
/// Faults when a text of `size` bytes is more than a template may make.
void require_text_size(size_t size);
void require_item_count(size_t count);
/// The integer an argument must be.
int64_t require_int(const Value& value, std::string_view what);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// json.dumps.
std::string to_json(const Value& value, const JsonStyle& style);
/// Faults on numbers beyond 64 bits and on nesting deeper than kMaxDepth.
Value from_json(const Json& json);

}  // namespace rlhf::jinja
