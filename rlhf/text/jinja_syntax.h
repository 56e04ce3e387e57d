// The tree of a parsed template, and the lexer and parser that make it.
//
// Grammar and white-space rules are those of Jinja2 3.1 with `trim_blocks` and `lstrip_blocks`,
// loop controls and transformers' `{% generation %}` block. A template is refused at parse time
// when it nests deeper than the limits below, so that neither the parser nor the destructors can
// exhaust the stack.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/text/jinja_value.h"

namespace rlhf::jinja {

inline constexpr int kMaxExpressionHeight = 300;
inline constexpr int kMaxBlockNesting = 60;

enum class TokenKind : uint8_t {
  data,
  name,
  string,
  integer,
  real,
  op,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  end
};
struct Token {
  TokenKind kind;
  std::string text;  ///< data, name, string contents (unescaped), operator
  int line;
  int64_t integer = 0;
  double real = 0;
};
/// Faults (with line) on what is no template text.
std::vector<Token> tokenize(std::string_view source);

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArgs {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star;       ///< *args
  ExprPtr star_star;  ///< **kwargs
};

/// A filter or a test.
struct Builtin {
  std::string_view name;
  Value (*run)(Run& run, const Value& subject, Args& args);
};

enum class Op : uint8_t {
  add,
  sub,
  mul,
  div,
  floordiv,
  mod,
  pow,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  in,
  not_in
};

struct Expr {
  enum class Kind : uint8_t {
    constant,     // value
    name,         // name
    list,         // items
    tuple,        // items
    dict,         // items: key, value, key, value ...
    attribute,    // items[0] . text
    item,         // items[0] [ items[1] ]
    slice,        // items[0] [ items[1] : items[2] : items[3] ], each may be null
    call,         // items[0] ( args )
    filter,       // items[0] | text ( args )
    test,         // items[0] is text ( args )
    negative,     // - items[0]
    positive,     // + items[0]
    negation,     // not items[0]
    binary,       // items[0] op items[1]
    both,         // and
    either,       // or
    compare,      // items[0] ops[0] items[1] ops[1] ...
    concat,       // ~ over items
    conditional,  // items[1] if items[0] else items[2] (may be null)
    block_text,   // the text of a filter block or a block set
  };
  Kind kind;
  Op op = Op::add;
  int line = 0;
  int height = 1;
  int name = -1;  ///< index into Program::names
  std::string text;
  Value value;
  std::vector<ExprPtr> items;
  std::vector<Op> ops;
  std::unique_ptr<CallArgs> args;
  const Builtin* builtin =
      nullptr;  ///< null for an unknown name in a branch: an error when reached, as in Jinja2
};

/// What `set`, `for` and `with` assign to.
struct Target {
  int name = -1;
  std::string attribute;        ///< with a name: an attribute of a namespace
  std::vector<Target> targets;  ///< a tuple, when name is -1
};

struct Stmt;
using Block = std::vector<std::unique_ptr<Stmt>>;

struct Parameter {
  int name;
  ExprPtr fallback;  ///< may be null
};

struct Stmt {
  enum class Kind : uint8_t {
    data,          // text
    output,        // expr
    branch,        // conditions[i] -> blocks[i]; one more block: else
    loop,          // for target in expr if filter; blocks[0], else blocks[1]
    assign,        // target = expr
    assign_block,  // target = expr (over block_text) of blocks[0]
    macro,         // name, parameters, blocks[0]
    call,          // expr is a call; parameters, blocks[0]
    filter,        // expr over block_text, blocks[0]
    generation,    // blocks[0]
    with,          // targets = conditions; blocks[0]
    stop,          // break
    next,          // continue
  };
  Kind kind;
  int line = 0;
  std::string text;
  ExprPtr expr;
  ExprPtr filter;
  bool recursive = false;
  bool uses_varargs = false, uses_kwargs = false, uses_caller = false;
  int name = -1;
  std::vector<ExprPtr> conditions;
  Target target;
  std::vector<Target> targets;
  std::vector<Parameter> parameters;
  std::vector<Block> blocks;
};

struct Program {
  std::vector<std::string> names;
  Block body;
  bool has_generation = false;

  /// Index of a name, or -1.
  int find_name(std::string_view name) const;
};

/// Faults (with line) on anything Jinja2 refuses to parse, on unsupported tags, and on unknown
/// filters and tests.
std::unique_ptr<const Program> parse_program(std::string_view source);

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
/// Comma-separated, for messages.
std::string filter_names();
std::string test_names();

}  // namespace rlhf::jinja
