// Statements, macros and loops.
#include "rlhf/text/jinja_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "rlhf/text/jinja_run_depth.h"

namespace rlhf::jinja {
namespace {

struct Macro : Function {
  const Stmt* stmt = nullptr;
  ScopePtr scope;

  Value call(Run& run, Args& args) override {
    return Value::string(run.call_macro(*stmt, scope, args));
  }
  bool attribute(Run&, std::string_view wanted, Value& out) override {
    if (wanted != "name") return false;
    out = Value::string(name);
    return true;
  }
};

/// The `loop` variable.
struct Loop : Function {
  const Stmt* stmt = nullptr;
  ScopePtr scope;
  std::shared_ptr<const std::vector<Value>> items;
  size_t index = 0;
  int depth = 0;
  std::shared_ptr<Args> last_changed;

  Value call(Run& run, Args& args) override {
    if (!stmt->recursive)
      throw Fault{"the loop is not recursive.", "write '{% for ... recursive %}'."};
    const auto given = args.bind("loop", {"iterable"}, 1);
    return Value::string(run.recurse(*stmt, scope, *given[0], depth + 1));
  }

  bool attribute(Run&, std::string_view wanted, Value& out) override {
    const auto at = static_cast<int64_t>(index);
    const auto count = static_cast<int64_t>(items->size());
    if (wanted == "index") return give(out, Value::integer(at + 1));
    if (wanted == "index0") return give(out, Value::integer(at));
    if (wanted == "revindex") return give(out, Value::integer(count - at));
    if (wanted == "revindex0") return give(out, Value::integer(count - at - 1));
    if (wanted == "first") return give(out, Value::boolean(at == 0));
    if (wanted == "last") return give(out, Value::boolean(at + 1 == count));
    if (wanted == "length") return give(out, Value::integer(count));
    if (wanted == "depth") return give(out, Value::integer(depth + 1));
    if (wanted == "depth0") return give(out, Value::integer(depth));
    if (wanted == "previtem") {
      return give(out, at ? (*items)[index - 1] : Value::undefined("there is no previous item."));
    }
    if (wanted == "nextitem") {
      return give(
          out, at + 1 < count ? (*items)[index + 1] : Value::undefined("there is no next item."));
    }
    if (wanted == "cycle") {
      return give(out, make_function("cycle", [at](Run&, Args& args) {
                    if (args.positional.empty()) throw Fault{"loop.cycle was given no items.", ""};
                    return args.positional[static_cast<size_t>(at) % args.positional.size()];
                  }));
    }
    if (wanted == "changed") {
      return give(out, make_function("changed", [last = last_changed](Run&, Args& args) {
                    const bool same =
                        !last->named.empty() &&
                        std::equal(last->positional.begin(), last->positional.end(),
                                   args.positional.begin(), args.positional.end(), equal);
                    last->positional = args.positional;
                    last->named.assign(1, {"seen", Value::none()});
                    return Value::boolean(!same);
                  }));
    }
    return false;
  }

  static bool give(Value& out, Value value) {
    out = std::move(value);
    return true;
  }
};

}  // namespace

const Value* Scope::find(int name) const {
  for (const Scope* scope = this; scope; scope = scope->parent.get()) {
    for (const auto& [id, value] : scope->variables) {
      if (id == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(int name, Value value) {
  for (auto& [id, old] : variables) {
    if (id == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

Run::Run(const Program& program, const Variables& variables,
         const std::vector<const Dict*>& messages, const Clock& clock)
    : program_(program),
      messages_(messages),
      clock_(clock),
      scope_(std::make_shared<Scope>()),
      out_(&result_.text) {
  for (size_t id = 0; id < program.names.size(); ++id) {
    const std::string& name = program.names[id];
    const auto given = std::find_if(variables.begin(), variables.end(),
                                    [&](auto& each) { return each.first == name; });
    Value value = given != variables.end() ? given->second : find_global(name);
    if (given != variables.end() || !value.is(Type::undefined))
      scope_->set(static_cast<int>(id), std::move(value));
  }
  // What the template sets at its top level lies above what it was given.
  auto top = std::make_shared<Scope>();
  top->parent = scope_;
  scope_ = std::move(top);
}

Run::~Run() {
  for (const ScopePtr& scope : kept_scopes_) scope->variables.clear();
  for (const auto& space : namespaces_) space->items.clear();
}

Rendering Run::render() {
  try {
    execute(program_.body);
  } catch (Fault& fault) {
    if (!fault.line) fault.line = line_;
    throw;
  }
  return std::move(result_);
}

Run::Flow Run::execute(const Block& block) {
  const Depth guard(depth_);
  for (const auto& stmt : block) {
    const Flow flow = execute(*stmt);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Run::Flow Run::execute(const Stmt& stmt) {
  tick(stmt.line);
  switch (stmt.kind) {
    case Stmt::Kind::data:
      write(stmt, stmt.text);
      return Flow::normal;
    case Stmt::Kind::output: {
      const Value value = eval(*stmt.expr);
      if (value.is(Type::string)) {
        write(stmt, value.as_string());
      } else {
        write(stmt, to_text(value));
      }
      return Flow::normal;
    }
    case Stmt::Kind::branch:
      return run_branch(stmt);
    case Stmt::Kind::loop:
      return run_loop(stmt, eval(*stmt.expr), /*depth=*/0);
    case Stmt::Kind::assign:
    case Stmt::Kind::assign_block:
      run_assign(stmt);
      return Flow::normal;
    case Stmt::Kind::macro:
      scope_->set(stmt.name, make_macro(stmt));
      return Flow::normal;
    case Stmt::Kind::call:
      run_call_block(stmt);
      return Flow::normal;
    case Stmt::Kind::filter: {
      block_text_ = Value::string(capture(stmt.blocks[0]));
      write(stmt, to_text(eval(*stmt.expr)));
      return Flow::normal;
    }
    case Stmt::Kind::generation:
      run_generation(stmt);
      return Flow::normal;
    case Stmt::Kind::with:
      return run_with(stmt);
    case Stmt::Kind::stop:
      return Flow::stop;
    case Stmt::Kind::next:
      return Flow::next;
  }
  return Flow::normal;
}

void Run::write(const Stmt& stmt, std::string_view text) {
  if (text.empty()) return;
  require_text_size(out_->size() + text.size());
  if (out_ == &result_.text) {
    result_.pieces.push_back(
        Piece{out_->size(), out_->size() + text.size(), &stmt, scope_->message});
  }
  out_->append(text);
}

std::string Run::capture(const Block& block) {
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const ScopePtr scope = scope_;
  scope_ = std::make_shared<Scope>();
  scope_->parent = scope;
  scope_->message = scope->message;
  execute(block);  // a Fault ends the rendering: nothing to restore
  scope_ = scope;
  out_ = outer;
  return text;
}

Run::Flow Run::run_branch(const Stmt& stmt) {
  for (size_t i = 0; i < stmt.conditions.size(); ++i) {
    if (eval(*stmt.conditions[i]).truth()) return execute(stmt.blocks[i]);
  }
  return stmt.blocks.size() > stmt.conditions.size() ? execute(stmt.blocks.back()) : Flow::normal;
}

std::vector<Value> Run::loop_items(const Stmt& stmt, const Value& iterable) {
  std::vector<Value> items = iterate(iterable);
  if (!stmt.filter) return items;
  std::vector<Value> kept;
  const ScopePtr outer = scope_;
  scope_ = std::make_shared<Scope>();
  scope_->parent = outer;
  for (Value& item : items) {
    assign(stmt.target, item);
    if (eval(*stmt.filter).truth()) kept.push_back(std::move(item));
  }
  scope_ = outer;
  return kept;
}

Run::Flow Run::run_loop(const Stmt& stmt, const Value& iterable, int depth) {
  const auto items = std::make_shared<const std::vector<Value>>(loop_items(stmt, iterable));
  const ScopePtr outer = scope_;
  const auto loop = std::make_shared<Loop>();
  loop->name = "loop";
  loop->stmt = &stmt;
  loop->scope = outer;
  loop->items = items;
  loop->depth = depth;
  loop->last_changed = std::make_shared<Args>();
  const int loop_name = program_.find_name("loop");
  for (; loop->index < items->size(); ++loop->index) {
    tick(stmt.line);
    scope_ = std::make_shared<Scope>();
    scope_->parent = outer;
    scope_->message = outer->message;
    scope_->set(loop_name, Value::of(std::static_pointer_cast<Function>(loop)));
    const Value& item = (*items)[loop->index];
    assign(stmt.target, item);
    note_message(item, /*by_loop=*/true);
    if (execute(stmt.blocks[0]) == Flow::stop) break;
  }
  scope_ = outer;
  if (items->empty() && stmt.blocks.size() > 1) {
    scope_ = std::make_shared<Scope>();
    scope_->parent = outer;
    scope_->message = outer->message;
    const Flow flow = execute(stmt.blocks[1]);
    scope_ = outer;
    return flow;
  }
  return Flow::normal;
}

std::string Run::recurse(const Stmt& loop, const ScopePtr& defined_in, const Value& items,
                         int depth) {
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const ScopePtr scope = std::exchange(scope_, defined_in);
  run_loop(loop, items, depth);
  scope_ = scope;
  out_ = outer;
  return text;
}

Run::Flow Run::run_with(const Stmt& stmt) {
  std::vector<Value> values;
  for (const ExprPtr& each : stmt.conditions) values.push_back(eval(*each));
  const ScopePtr outer = scope_;
  scope_ = std::make_shared<Scope>();
  scope_->parent = outer;
  scope_->message = outer->message;
  for (size_t i = 0; i < values.size(); ++i) assign(stmt.targets[i], values[i]);
  const Flow flow = execute(stmt.blocks[0]);
  scope_ = outer;
  return flow;
}

void Run::run_assign(const Stmt& stmt) {
  if (stmt.kind == Stmt::Kind::assign_block) block_text_ = Value::string(capture(stmt.blocks[0]));
  const Value value = eval(*stmt.expr);
  assign(stmt.target, value);
  if (stmt.target.name >= 0 && stmt.target.attribute.empty())
    note_message(value, /*by_loop=*/false);
}

void Run::assign(const Target& target, const Value& value) {
  if (target.name < 0) {
    std::vector<Value> items = iterate(value);
    if (items.size() != target.targets.size()) {
      throw Fault{fmt::format("{} values cannot be given to {} names.", items.size(),
                              target.targets.size()),
                  ""};
    }
    for (size_t i = 0; i < items.size(); ++i) assign(target.targets[i], items[i]);
    return;
  }
  if (target.attribute.empty()) {
    scope_->set(target.name, value);
    return;
  }
  const Value* space = scope_->find(target.name);
  if (!space || !space->is(Type::dict) || !space->as_dict().is_namespace) {
    throw Fault{fmt::format("cannot set '{}' on '{}': it is no namespace.", target.attribute,
                            program_.names[static_cast<size_t>(target.name)]),
                "make it by 'namespace(...)'."};
  }
  if (target.attribute[0] == '_')
    throw Fault{"a namespace keeps no names that begin with an underscore.", ""};
  const Value held = *space;
  held.as_dict().set(Value::string(target.attribute), value);
}

void Run::note_message(const Value& value, bool by_loop) {
  if (!value.is(Type::dict) || messages_.empty()) return;
  const auto found = std::find(messages_.begin(), messages_.end(), &value.as_dict());
  if (found == messages_.end()) return;
  // A `set` counts only in a loop over something else, such as indices: at the top level or beside
  // the message that a loop binds, it is a glance at another message.
  const bool top = !scope_->parent || !scope_->parent->parent;
  if (!by_loop && (top || scope_->message_is_own)) return;
  scope_->message = static_cast<int>(found - messages_.begin());
  scope_->message_is_own = true;
}

void Run::keep_scope() {
  require_item_count(kept_scopes_.size());
  if (kept_scopes_.empty() || kept_scopes_.back() != scope_) kept_scopes_.push_back(scope_);
}

Value Run::make_macro(const Stmt& stmt) {
  auto macro = std::make_shared<Macro>();
  macro->name = stmt.text;
  macro->stmt = &stmt;
  macro->scope = scope_;
  keep_scope();
  return Value::of(std::static_pointer_cast<Function>(macro));
}

std::string Run::call_macro(const Stmt& macro, const ScopePtr& defined_in, Args& args) {
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const ScopePtr scope = std::exchange(scope_, std::make_shared<Scope>());
  scope_->parent = defined_in;
  bind_parameters(macro, args);
  execute(macro.blocks[0]);
  scope_ = scope;
  out_ = outer;
  return text;
}

void Run::bind_parameters(const Stmt& macro, Args& args) {
  const size_t given = std::min(args.positional.size(), macro.parameters.size());
  std::vector<const Value*> values(macro.parameters.size(), nullptr);
  for (size_t i = 0; i < given; ++i) values[i] = &args.positional[i];
  auto extra = std::make_shared<Dict>();
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < values.size() &&
           program_.names[static_cast<size_t>(macro.parameters[i].name)] != name)
      ++i;
    if (i < values.size() && values[i]) {
      throw Fault{fmt::format("macro '{}' was given its argument '{}' twice.", macro.text, name),
                  ""};
    }
    if (i < values.size()) {
      values[i] = &value;
    } else if (name == "caller" && macro.uses_caller) {
      scope_->set(program_.find_name("caller"), value);
    } else if (macro.uses_kwargs) {
      extra->set(Value::string(name), value);
    } else {
      throw Fault{fmt::format("macro '{}' takes no argument '{}'.", macro.text, name), ""};
    }
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    const std::string& name = program_.names[static_cast<size_t>(parameter.name)];
    scope_->set(parameter.name,
                values[i] ? *values[i]
                : parameter.fallback
                    ? eval(*parameter.fallback)
                    : Value::undefined(fmt::format("parameter '{}' was not provided.", name)));
  }
  if (args.positional.size() > given && !macro.uses_varargs) {
    throw Fault{fmt::format("macro '{}' takes at most {} arguments, got {}.", macro.text,
                            macro.parameters.size(), args.positional.size()),
                ""};
  }
  if (macro.uses_varargs) {
    scope_->set(program_.find_name("varargs"),
                Value::list({args.positional.begin() + static_cast<ptrdiff_t>(given),
                             args.positional.end()},
                            Form::tuple));
  }
  if (macro.uses_kwargs) scope_->set(program_.find_name("kwargs"), Value::of(std::move(extra)));
  const bool has_caller = std::any_of(args.named.begin(), args.named.end(),
                                      [](auto& a) { return a.first == "caller"; });
  if (macro.uses_caller && !has_caller) {
    scope_->set(program_.find_name("caller"),
                Value::undefined("the macro was called without a call block."));
  }
}

void Run::run_call_block(const Stmt& stmt) {
  const Expr& expr = *stmt.expr;
  const Value function = eval(*expr.items[0]);
  Args args;
  eval_args(*expr.args, args);
  args.named.emplace_back("caller", make_macro(stmt));
  line_ = stmt.line;
  write(stmt, to_text(call(function, args)));
}

void Run::run_generation(const Stmt& stmt) {
  const bool top = out_ == &result_.text;
  if (!top) result_.lost_generation = true;
  const size_t begin = result_.text.size();
  const ScopePtr outer = scope_;
  scope_ = std::make_shared<Scope>();
  scope_->parent = outer;
  scope_->message = outer->message;
  ++generation_depth_;
  execute(stmt.blocks[0]);
  --generation_depth_;
  scope_ = outer;
  if (top && generation_depth_ == 0) result_.generations.emplace_back(begin, result_.text.size());
}

Value Run::new_namespace(Args& args) {
  if (args.positional.size() > 1)
    throw Fault{"namespace takes at most one positional argument.", ""};
  auto space = std::make_shared<Dict>();
  space->is_namespace = true;
  const auto add = [&](const Value& key, const Value& value) {
    if (key.is(Type::string) && key.as_string().starts_with("_")) {
      throw Fault{"a namespace keeps no names that begin with an underscore.", ""};
    }
    space->set(key, value);
  };
  for (const Value& from : args.positional) {
    if (from.is(Type::dict)) {
      for (const auto& [key, value] : from.as_dict().items) add(key, value);
      continue;
    }
    for (const Value& pair : iterate(from)) {
      const std::vector<Value> parts = iterate(pair);
      if (parts.size() != 2) throw Fault{"namespace needs pairs of name and value.", ""};
      add(parts[0], parts[1]);
    }
  }
  for (const auto& [name, value] : args.named) add(Value::string(name), value);
  require_item_count(namespaces_.size());
  namespaces_.push_back(space);
  return Value::of(std::move(space));
}

}  // namespace rlhf::jinja
