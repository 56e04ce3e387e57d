// One rendering of a parsed template.
//
// Beside the text, a rendering says of each piece which message was being written: the one bound to
// the target of the innermost for-loop (or to a `set` within a loop that runs over something else).
// That is what finds a model's own words in templates without marks; see chat_template.h.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/text/jinja_syntax.h"
#include "rlhf/text/jinja_value.h"

namespace rlhf::jinja {

inline constexpr int kMaxCallDepth = 600;         ///< expressions, blocks and calls in progress
inline constexpr int64_t kMaxSteps = 20'000'000;  ///< expressions and statements of one rendering

using Variables = std::vector<std::pair<std::string, Value>>;
using Clock = std::function<std::tm()>;

/// Output of one statement.
struct Piece {
  size_t begin;
  size_t end;
  const Stmt* source;
  int message;  ///< index of the message being written, or -1
};

struct Rendering {
  std::string text;
  std::vector<Piece> pieces;
  std::vector<std::pair<size_t, size_t>> generations;  ///< bytes of the `{% generation %}` blocks
  bool lost_generation =
      false;  ///< one was inside a macro or a captured block, where its place is unknown
};

/// Variables of one block; reads fall through to the parent.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<int, Value>> variables;
  int message = -1;
  bool message_is_own = false;  ///< set by this scope, not inherited

  const Value* find(int name) const;
  void set(int name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

class Run {
 public:
  /// `messages` are the dicts of the conversation, for Piece::message; `clock` is what strftime_now
  /// reads.
  Run(const Program& program, const Variables& variables, const std::vector<const Dict*>& messages,
      const Clock& clock);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  /// Faults carry the line.
  Rendering render();

  // What filters, tests and methods need.
  Value call(const Value& callee, Args& args);
  Value attribute(const Value& object, const std::string& name);  ///< object.name
  Value item(const Value& object, const Value& key);              ///< object[key]
  /// As `map(attribute='a.b.0')`; `fallback` (unless null or none) stands in for what is undefined
  /// on the way.
  Value attribute_path(const Value& object, const Value& path, const Value* fallback = nullptr);
  Value new_namespace(Args& args);
  const Clock& clock() const { return clock_; }

  // What macros and loops need.
  std::string call_macro(const Stmt& macro, const ScopePtr& defined_in, Args& args);
  std::string recurse(const Stmt& loop, const ScopePtr& defined_in, const Value& items, int depth);

 private:
  enum class Flow { normal, stop, next };
  class Depth;

  Flow execute(const Block& block);
  Flow execute(const Stmt& stmt);
  Flow run_branch(const Stmt& stmt);
  Flow run_loop(const Stmt& stmt, const Value& iterable, int depth);
  Flow run_with(const Stmt& stmt);
  void run_assign(const Stmt& stmt);
  void run_generation(const Stmt& stmt);
  void run_call_block(const Stmt& stmt);
  std::vector<Value> loop_items(const Stmt& stmt, const Value& iterable);
  void assign(const Target& target, const Value& value);
  void note_message(const Value& value, bool by_loop);
  Value make_macro(const Stmt& stmt);
  void keep_scope();
  void write(const Stmt& stmt, std::string_view text);
  std::string capture(const Block& block);
  void bind_parameters(const Stmt& macro, Args& args);

  Value eval(const Expr& expr);
  Value eval_constructor(const Expr& expr);
  Value eval_slice(const Expr& expr);
  Value eval_call(const Expr& expr);
  Value eval_builtin(const Expr& expr);
  Value eval_compare(const Expr& expr);
  Value eval_concat(const Expr& expr);
  Value eval_binary(const Expr& expr);
  Value eval_name(const Expr& expr);
  void eval_args(const CallArgs& from, Args& to);
  void tick(int line);

  const Program& program_;
  const std::vector<const Dict*>& messages_;
  const Clock& clock_;
  ScopePtr scope_;
  std::vector<ScopePtr> kept_scopes_;  // cleared at the end: macros and scopes refer to each other
  std::vector<std::shared_ptr<Dict>> namespaces_;  // likewise
  Rendering result_;
  std::string* out_;
  Value block_text_;
  int64_t steps_ = 0;
  int depth_ = 0;
  int line_ = 1;
  int generation_depth_ = 0;
};

/// A method of a string, dict or list; null where Python has none (or it is not supported).
using Method = Value (*)(Run& run, const Value& self, Args& args);
Method find_method(const Value& self, std::string_view name);
/// Methods that change their object: the sandbox refuses them.
bool is_mutator(const Value& self, std::string_view name);

/// a op b for numbers, strings and lists.
Value arithmetic(Op op, const Value& a, const Value& b);
/// `format % args`.
Value percent_format(const Value& format, const Value& args);
/// format.format(*args, **kwargs).
std::string brace_format(Run& run, std::string_view format, const Args& args);
/// html escape of text that is not yet markup.
std::string escaped(const Value& value);
/// range, dict, namespace, raise_exception, strftime_now, joiner; undefined for other names.
Value find_global(std::string_view name);

/// A function made of a lambda.
Value make_function(std::string name, std::function<Value(Run&, Args&)> body);

}  // namespace rlhf::jinja
