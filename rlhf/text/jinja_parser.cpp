#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "rlhf/text/jinja_syntax.h"

namespace rlhf::jinja {
namespace {

constexpr std::string_view kSupportedTags =
    "break, call, continue, filter, for, generation, if, macro, print, raw, set, with";

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)), program_(std::make_unique<Program>()) {}

  std::unique_ptr<const Program> run() {
    program_->body = parse_body({});
    return std::move(program_);
  }

 private:
  using Kind = Expr::Kind;

  struct Guard {
    int& depth;
    explicit Guard(int& counter, int limit, int line) : depth(counter) {
      if (++depth > limit) {
        --depth;
        throw Fault{fmt::format("the template is nested more than {} deep.", limit), "", line};
      }
    }
    ~Guard() { --depth; }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
  };

  // --- the stream ---
  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token next() {
    const Token token = now();
    if (token.kind != TokenKind::end) ++at_;
    return token;
  }
  bool is(TokenKind kind) const { return now().kind == kind; }
  bool is_op(std::string_view op) const { return is(TokenKind::op) && now().text == op; }
  bool is_word(std::string_view word) const { return is(TokenKind::name) && now().text == word; }
  bool skip_op(std::string_view op) {
    if (!is_op(op)) return false;
    next();
    return true;
  }
  bool skip_word(std::string_view word) {
    if (!is_word(word)) return false;
    next();
    return true;
  }

  [[noreturn]] void fail(std::string what, std::string hint = "") const {
    throw Fault{std::move(what), std::move(hint), now().line};
  }

  static std::string describe(const Token& token) {
    switch (token.kind) {
      case TokenKind::end: return "the end of the template";
      case TokenKind::data: return "template text";
      case TokenKind::variable_begin: return "'{{'";
      case TokenKind::variable_end: return "'}}'";
      case TokenKind::block_begin: return "'{%'";
      case TokenKind::block_end: return "'%}'";
      default: return fmt::format("'{}'", token.text);
    }
  }

  void expect(TokenKind kind, std::string_view what) {
    if (!is(kind)) fail(fmt::format("expected {}, got {}.", what, describe(now())));
    next();
  }
  void expect_op(std::string_view op) {
    if (!skip_op(op)) fail(fmt::format("expected '{}', got {}.", op, describe(now())));
  }
  std::string expect_name() {
    if (!is(TokenKind::name)) fail(fmt::format("expected a name, got {}.", describe(now())));
    return next().text;
  }

  int intern(const std::string& name) {
    const auto [found, added] = name_ids_.try_emplace(name, static_cast<int>(program_->names.size()));
    if (added) program_->names.push_back(name);
    return found->second;
  }

  // --- nodes ---
  ExprPtr finish(ExprPtr expr) const {
    for (const ExprPtr& item : expr->items) grow(*expr, item);
    if (expr->args) {
      for (const ExprPtr& item : expr->args->positional) grow(*expr, item);
      for (const auto& item : expr->args->named) grow(*expr, item.second);
      grow(*expr, expr->args->star);
      grow(*expr, expr->args->star_star);
    }
    if (expr->height > kMaxExpressionHeight) {
      throw Fault{fmt::format("an expression is nested more than {} deep.", kMaxExpressionHeight), "", expr->line};
    }
    return expr;
  }

  static void grow(Expr& expr, const ExprPtr& child) {
    if (child) expr.height = std::max(expr.height, child->height + 1);
  }

  template <class... Items>
  ExprPtr make(Kind kind, int line, Items&&... items) const {
    auto expr = std::make_unique<Expr>();
    expr->kind = kind;
    expr->line = line;
    (expr->items.push_back(std::forward<Items>(items)), ...);
    return finish(std::move(expr));
  }

  ExprPtr make_constant(Value value, int line) const {
    ExprPtr expr = make(Kind::constant, line);
    expr->value = std::move(value);
    return expr;
  }

  // --- expressions, loosest binding first ---
  ExprPtr parse_expression() {
    const Guard guard(nesting_, kMaxExpressionHeight, now().line);
    const int line = now().line;
    ExprPtr expr = parse_or();
    while (skip_word("if")) {
      ExprPtr condition = parse_or();
      ExprPtr other = skip_word("else") ? parse_expression() : nullptr;
      expr = make(Kind::conditional, line, std::move(condition), std::move(expr), std::move(other));
    }
    return expr;
  }

  ExprPtr parse_or() {
    ExprPtr left = parse_and();
    while (is_word("or")) {
      const int line = next().line;
      ExprPtr right = parse_and();
      left = make(Kind::either, line, std::move(left), std::move(right));
    }
    return left;
  }

  ExprPtr parse_and() {
    ExprPtr left = parse_not();
    while (is_word("and")) {
      const int line = next().line;
      ExprPtr right = parse_not();
      left = make(Kind::both, line, std::move(left), std::move(right));
    }
    return left;
  }

  ExprPtr parse_not() {
    const Guard guard(nesting_, kMaxExpressionHeight, now().line);
    if (!is_word("not")) return parse_compare();
    const int line = next().line;
    ExprPtr operand = parse_not();
    return make(Kind::negation, line, std::move(operand));
  }

  bool take_comparison(Op& op) {
    static constexpr std::pair<std::string_view, Op> kOps[] = {{"==", Op::eq}, {"!=", Op::ne}, {"<", Op::lt},
                                                               {"<=", Op::le}, {">", Op::gt},  {">=", Op::ge}};
    for (const auto& [text, value] : kOps) {
      if (skip_op(text)) {
        op = value;
        return true;
      }
    }
    if (skip_word("in")) {
      op = Op::in;
      return true;
    }
    if (is_word("not") && ahead().kind == TokenKind::name && ahead().text == "in") {
      next();
      next();
      op = Op::not_in;
      return true;
    }
    return false;
  }

  ExprPtr parse_compare() {
    const int line = now().line;
    ExprPtr first = parse_sum();
    Op op{};
    if (!take_comparison(op)) return first;
    auto expr = std::make_unique<Expr>();
    expr->kind = Kind::compare;
    expr->line = line;
    expr->items.push_back(std::move(first));
    do {
      expr->ops.push_back(op);
      expr->items.push_back(parse_sum());
    } while (take_comparison(op));
    return finish(std::move(expr));
  }

  ExprPtr make_binary(Op op, int line, ExprPtr left, ExprPtr right) const {
    ExprPtr expr = make(Kind::binary, line, std::move(left), std::move(right));
    expr->op = op;
    return expr;
  }

  ExprPtr parse_sum() {
    ExprPtr left = parse_concat();
    while (is_op("+") || is_op("-")) {
      const Token token = next();
      ExprPtr right = parse_concat();
      left = make_binary(token.text == "+" ? Op::add : Op::sub, token.line, std::move(left), std::move(right));
    }
    return left;
  }

  ExprPtr parse_concat() {
    const int line = now().line;
    ExprPtr first = parse_product();
    if (!is_op("~")) return first;
    auto expr = std::make_unique<Expr>();
    expr->kind = Kind::concat;
    expr->line = line;
    expr->items.push_back(std::move(first));
    while (skip_op("~")) expr->items.push_back(parse_product());
    return finish(std::move(expr));
  }

  ExprPtr parse_product() {
    ExprPtr left = parse_power();
    while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
      const Token token = next();
      ExprPtr right = parse_power();
      const Op op = token.text == "*" ? Op::mul : token.text == "/" ? Op::div : token.text == "%" ? Op::mod
                                                                                               : Op::floordiv;
      left = make_binary(op, token.line, std::move(left), std::move(right));
    }
    return left;
  }

  ExprPtr parse_power() {
    ExprPtr left = parse_unary(/*with_filter=*/true);
    while (is_op("**")) {
      const int line = next().line;
      ExprPtr right = parse_unary(/*with_filter=*/true);
      left = make_binary(Op::pow, line, std::move(left), std::move(right));
    }
    return left;
  }

  ExprPtr parse_unary(bool with_filter) {
    const Guard guard(nesting_, kMaxExpressionHeight, now().line);
    ExprPtr expr;
    if (is_op("-") || is_op("+")) {
      const Token token = next();
      ExprPtr operand = parse_unary(/*with_filter=*/false);
      expr = make(token.text == "-" ? Kind::negative : Kind::positive, token.line, std::move(operand));
    } else {
      expr = parse_primary();
    }
    expr = parse_postfix(std::move(expr));
    return with_filter ? parse_filters(std::move(expr)) : std::move(expr);
  }

  ExprPtr parse_name(const Token& token) {
    const std::string& word = token.text;
    if (word == "true" || word == "True") return make_constant(Value::boolean(true), token.line);
    if (word == "false" || word == "False") return make_constant(Value::boolean(false), token.line);
    if (word == "none" || word == "None") return make_constant(Value::none(), token.line);
    for (Stmt* macro : open_macros_) {
      macro->uses_varargs |= word == "varargs";
      macro->uses_kwargs |= word == "kwargs";
      macro->uses_caller |= word == "caller";
    }
    ExprPtr expr = make(Kind::name, token.line);
    expr->name = intern(word);
    expr->text = word;
    return expr;
  }

  ExprPtr parse_primary() {
    const int line = now().line;
    switch (now().kind) {
      case TokenKind::name: return parse_name(next());
      case TokenKind::string: {
        std::string text = next().text;
        while (is(TokenKind::string)) text += next().text;
        return make_constant(Value::string(std::move(text)), line);
      }
      case TokenKind::integer: return make_constant(Value::integer(next().integer), line);
      case TokenKind::real: return make_constant(Value::real(next().real), line);
      default: break;
    }
    if (skip_op("(")) {
      ExprPtr expr = parse_tuple(/*parenthesised=*/true);
      expect_op(")");
      return expr;
    }
    if (skip_op("[")) {
      ExprPtr expr = make(Kind::list, line);
      while (!is_op("]")) {
        if (!expr->items.empty()) expect_op(",");
        if (is_op("]")) break;
        expr->items.push_back(parse_expression());
      }
      expect_op("]");
      return finish(std::move(expr));
    }
    if (skip_op("{")) {
      ExprPtr expr = make(Kind::dict, line);
      while (!is_op("}")) {
        if (!expr->items.empty()) expect_op(",");
        if (is_op("}")) break;
        expr->items.push_back(parse_expression());
        expect_op(":");
        expr->items.push_back(parse_expression());
      }
      expect_op("}");
      return finish(std::move(expr));
    }
    fail(fmt::format("expected an expression, got {}.", describe(now())));
  }

  bool at_tuple_end(std::string_view end_word) const {
    return is(TokenKind::variable_end) || is(TokenKind::block_end) || is(TokenKind::end) || is_op(")") ||
           (!end_word.empty() && is_word(end_word));
  }

  /// One expression, or several with commas: a tuple. A for-loop and an if take no conditional expression there.
  ExprPtr parse_tuple(bool parenthesised, std::string_view end_word = "", bool conditional = true) {
    const int line = now().line;
    auto expr = std::make_unique<Expr>();
    expr->kind = Kind::tuple;
    expr->line = line;
    bool is_tuple = false;
    while (true) {
      if (!expr->items.empty()) expect_op(",");
      if (at_tuple_end(end_word)) break;
      expr->items.push_back(conditional ? parse_expression() : parse_or());
      if (!is_op(",")) break;
      is_tuple = true;
    }
    if (!is_tuple) {
      if (!expr->items.empty()) return std::move(expr->items[0]);
      if (!parenthesised) fail(fmt::format("expected an expression, got {}.", describe(now())));
    }
    return finish(std::move(expr));
  }

  ExprPtr parse_postfix(ExprPtr expr) {
    while (true) {
      if (is_op(".")) {
        const int line = next().line;
        if (is(TokenKind::integer)) {
          ExprPtr index = make_constant(Value::integer(next().integer), line);
          expr = make(Kind::item, line, std::move(expr), std::move(index));
        } else {
          std::string name = expect_name();
          expr = make(Kind::attribute, line, std::move(expr));
          expr->text = std::move(name);
        }
      } else if (is_op("[")) {
        expr = parse_subscript(std::move(expr));
      } else if (is_op("(")) {
        expr = parse_call(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  ExprPtr parse_subscript(ExprPtr expr) {
    const int line = next().line;
    ExprPtr parts[3];
    bool is_slice = false;
    if (!is_op(":")) parts[0] = parse_expression();
    for (int i = 1; i < 3 && skip_op(":"); ++i) {
      is_slice = true;
      if (!is_op(":") && !is_op("]")) parts[i] = parse_expression();
    }
    if (is_op(",")) fail("a subscript takes one index or slice.");
    expect_op("]");
    if (!is_slice) return make(Kind::item, line, std::move(expr), std::move(parts[0]));
    return make(Kind::slice, line, std::move(expr), std::move(parts[0]), std::move(parts[1]), std::move(parts[2]));
  }

  std::unique_ptr<CallArgs> parse_args() {
    auto args = std::make_unique<CallArgs>();
    expect_op("(");
    bool first = true;
    while (!is_op(")")) {
      if (!first) {
        expect_op(",");
        if (is_op(")")) break;
      }
      first = false;
      const bool named = is(TokenKind::name) && ahead().kind == TokenKind::op && ahead().text == "=";
      bool order_ok = !args->star_star;
      if (is_op("*")) {
        order_ok = order_ok && !args->star;
        next();
        args->star = parse_expression();
      } else if (is_op("**")) {
        next();
        args->star_star = parse_expression();
      } else if (named) {
        std::string name = next().text;
        next();
        args->named.emplace_back(std::move(name), parse_expression());
      } else {
        order_ok = order_ok && !args->star && args->named.empty();
        args->positional.push_back(parse_expression());
      }
      if (!order_ok) fail("the arguments of a call are out of order.");
    }
    expect_op(")");
    return args;
  }

  ExprPtr parse_call(ExprPtr callee) {
    const int line = now().line;
    ExprPtr expr = make(Kind::call, line, std::move(callee));
    expr->args = parse_args();
    return finish(std::move(expr));
  }

  ExprPtr parse_filters(ExprPtr expr) {
    while (true) {
      if (is_op("|")) {
        next();
        expr = parse_filter(std::move(expr));
      } else if (is_word("is")) {
        expr = parse_test(std::move(expr));
      } else if (is_op("(")) {
        expr = parse_call(std::move(expr));
      } else {
        return expr;
      }
    }
  }

  std::string parse_dotted_name() {
    std::string name = expect_name();
    while (skip_op(".")) name += "." + expect_name();
    return name;
  }

  const Builtin* find_builtin(const std::string& name, bool filter, int line) const {
    const Builtin* found = filter ? find_filter(name) : find_test(name);
    if (!found && !in_branch_) {
      throw Fault{fmt::format("there is no {} named '{}'.", filter ? "filter" : "test", name),
                  "supported: " + (filter ? filter_names() : test_names()), line};
    }
    return found;
  }

  ExprPtr parse_filter(ExprPtr subject) {
    const int line = now().line;
    std::string name = parse_dotted_name();
    ExprPtr expr = make(Kind::filter, line, std::move(subject));
    expr->builtin = find_builtin(name, /*filter=*/true, line);
    expr->text = std::move(name);
    expr->args = is_op("(") ? parse_args() : std::make_unique<CallArgs>();
    return finish(std::move(expr));
  }

  ExprPtr parse_test(ExprPtr subject) {
    const int line = next().line;
    const bool negated = skip_word("not");
    std::string name = parse_dotted_name();
    ExprPtr expr = make(Kind::test, line, std::move(subject));
    expr->builtin = find_builtin(name, /*filter=*/false, line);
    expr->text = std::move(name);
    const bool word_argument = is(TokenKind::name) && !is_word("else") && !is_word("or") && !is_word("and");
    if (is_op("(")) {
      expr->args = parse_args();
    } else {
      expr->args = std::make_unique<CallArgs>();
      if (word_argument || is(TokenKind::string) || is(TokenKind::integer) || is(TokenKind::real) || is_op("[") ||
          is_op("{")) {
        if (is_word("is")) fail("tests with 'is' cannot be chained.");
        expr->args->positional.push_back(parse_postfix(parse_primary()));
      }
    }
    expr = finish(std::move(expr));
    return negated ? make(Kind::negation, line, std::move(expr)) : std::move(expr);
  }

  // --- statements ---
  std::unique_ptr<Stmt> make_stmt(Stmt::Kind kind) const {
    auto stmt = std::make_unique<Stmt>();
    stmt->kind = kind;
    stmt->line = now().line;
    return stmt;
  }

  /// Statements up to one of `ends`, which is left as the current token; to the end of the template without any.
  Block parse_body(std::initializer_list<std::string_view> ends) {
    const Guard guard(blocks_, kMaxBlockNesting, now().line);
    Block body;
    while (!is(TokenKind::end)) {
      if (is(TokenKind::data)) {
        auto stmt = make_stmt(Stmt::Kind::data);
        stmt->text = next().text;
        body.push_back(std::move(stmt));
      } else if (is(TokenKind::variable_begin)) {
        next();
        auto stmt = make_stmt(Stmt::Kind::output);
        stmt->expr = parse_tuple(/*parenthesised=*/false);
        expect(TokenKind::variable_end, "'}}'");
        body.push_back(std::move(stmt));
      } else {
        expect(TokenKind::block_begin, "a tag");
        const auto ends_here = [&](std::string_view end) { return is_word(end); };
        if (std::any_of(ends.begin(), ends.end(), ends_here)) return body;
        parse_statement(body, ends);
        expect(TokenKind::block_end, "'%}'");
      }
    }
    if (ends.size()) fail(fmt::format("the template ends before '{{% {} %}}'.", *(ends.end() - 1)));
    return body;
  }

  /// The body of a tag up to `end`, which is consumed.
  Block parse_block(std::string_view end) {
    Block body = parse_block_until({end});
    next();
    return body;
  }

  Block parse_block_until(std::initializer_list<std::string_view> ends) {
    skip_op(":");
    expect(TokenKind::block_end, "'%}'");
    return parse_body(ends);
  }

  void parse_statement(Block& body, std::initializer_list<std::string_view> ends) {
    if (!is(TokenKind::name)) fail(fmt::format("expected a tag name, got {}.", describe(now())));
    const std::string tag = now().text;
    if (tag == "if") return body.push_back(parse_if());
    if (tag == "for") return body.push_back(parse_for());
    if (tag == "set") return body.push_back(parse_set());
    if (tag == "macro") return body.push_back(parse_macro());
    if (tag == "call") return body.push_back(parse_call_block());
    if (tag == "filter") return body.push_back(parse_filter_block());
    if (tag == "generation") return body.push_back(parse_generation());
    if (tag == "with") return body.push_back(parse_with());
    if (tag == "print") return parse_print(body);
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail(fmt::format("'{}' stands outside a loop.", tag));
      body.push_back(make_stmt(tag == "break" ? Stmt::Kind::stop : Stmt::Kind::next));
      next();
      return;
    }
    refuse_tag(tag, ends);
  }

  [[noreturn]] void refuse_tag(const std::string& tag, std::initializer_list<std::string_view> ends) const {
    for (const std::string_view known : {"include", "import", "from", "extends", "block", "autoescape", "trans", "do"}) {
      if (tag == known) {
        fail(fmt::format("the tag '{}' is not supported in a chat template.", tag),
             fmt::format("a chat template is one file; supported tags: {}.", kSupportedTags));
      }
    }
    std::string what = fmt::format("unknown tag '{}'", tag);
    if (ends.size()) what += fmt::format(", expected '{}'", fmt::join(ends, "' or '"));
    fail(what + ".", fmt::format("supported tags: {}.", kSupportedTags));
  }

  std::unique_ptr<Stmt> parse_if() {
    auto stmt = make_stmt(Stmt::Kind::branch);
    const bool outer = std::exchange(in_branch_, true);
    do {
      next();
      stmt->conditions.push_back(parse_tuple(/*parenthesised=*/false, "", /*conditional=*/false));
      stmt->blocks.push_back(parse_block_until({"elif", "else", "endif"}));
    } while (is_word("elif"));
    if (next().text == "else") stmt->blocks.push_back(parse_block("endif"));
    in_branch_ = outer;
    return stmt;
  }

  Target parse_target(std::string_view end_word, bool with_namespace) {
    Target target;
    bool is_tuple = false;
    while (true) {
      if (!target.targets.empty()) expect_op(",");
      if (at_tuple_end(end_word) || is_op("=")) break;
      target.targets.push_back(parse_one_target(with_namespace));
      if (!is_op(",")) break;
      is_tuple = true;
    }
    if (target.targets.empty()) fail(fmt::format("expected a name to assign to, got {}.", describe(now())));
    if (is_tuple) return target;
    Target only = std::move(target.targets[0]);
    return only;
  }

  Target parse_one_target(bool with_namespace) {
    const Guard guard(nesting_, kMaxExpressionHeight, now().line);
    if (skip_op("(")) {
      Target target = parse_target("", with_namespace);
      expect_op(")");
      return target;
    }
    Target target;
    const std::string name = expect_name();
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (name == constant) fail(fmt::format("cannot assign to '{}'.", name));
    }
    target.name = intern(name);
    if (with_namespace && skip_op(".")) target.attribute = expect_name();
    return target;
  }

  std::unique_ptr<Stmt> parse_for() {
    auto stmt = make_stmt(Stmt::Kind::loop);
    next();
    stmt->target = parse_target("in", /*with_namespace=*/false);
    if (!skip_word("in")) fail(fmt::format("expected 'in', got {}.", describe(now())));
    stmt->expr = parse_tuple(/*parenthesised=*/false, "recursive", /*conditional=*/false);
    if (skip_word("if")) stmt->filter = parse_expression();
    stmt->recursive = skip_word("recursive");
    intern("loop");
    ++loops_;
    stmt->blocks.push_back(parse_block_until({"else", "endfor"}));
    --loops_;
    if (next().text == "else") stmt->blocks.push_back(parse_block("endfor"));
    return stmt;
  }

  std::unique_ptr<Stmt> parse_set() {
    auto stmt = make_stmt(Stmt::Kind::assign);
    next();
    stmt->target = parse_target("", /*with_namespace=*/true);
    if (skip_op("=")) {
      stmt->expr = parse_tuple(/*parenthesised=*/false);
      return stmt;
    }
    stmt->kind = Stmt::Kind::assign_block;
    stmt->expr = make(Kind::block_text, now().line);
    while (skip_op("|")) stmt->expr = parse_filter(std::move(stmt->expr));
    stmt->blocks.push_back(parse_closed_block("endset"));
    return stmt;
  }

  /// A block that is compiled to a function of its own in Jinja2: no break out of it.
  Block parse_closed_block(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Block body = parse_block(end);
    loops_ = loops;
    return body;
  }

  void parse_signature(Stmt& stmt) {
    expect_op("(");
    while (!is_op(")")) {
      if (!stmt.parameters.empty()) expect_op(",");
      Parameter parameter{intern(expect_name()), nullptr};
      if (skip_op("=")) {
        parameter.fallback = parse_expression();
      } else if (!stmt.parameters.empty() && stmt.parameters.back().fallback) {
        fail("a parameter without default follows one with a default.");
      }
      stmt.parameters.push_back(std::move(parameter));
    }
    expect_op(")");
  }

  Block parse_macro_body(Stmt& stmt, std::string_view end) {
    for (const char* special : {"caller", "varargs", "kwargs"}) intern(special);
    open_macros_.push_back(&stmt);
    const bool branch = std::exchange(in_branch_, false);
    Block body = parse_closed_block(end);
    in_branch_ = branch;
    open_macros_.pop_back();
    return body;
  }

  std::unique_ptr<Stmt> parse_macro() {
    auto stmt = make_stmt(Stmt::Kind::macro);
    next();
    stmt->text = expect_name();
    stmt->name = intern(stmt->text);
    parse_signature(*stmt);
    stmt->blocks.push_back(parse_macro_body(*stmt, "endmacro"));
    return stmt;
  }

  std::unique_ptr<Stmt> parse_call_block() {
    auto stmt = make_stmt(Stmt::Kind::call);
    next();
    stmt->text = "caller";
    if (is_op("(")) parse_signature(*stmt);
    stmt->expr = parse_expression();
    if (stmt->expr->kind != Kind::call) fail("a call block needs a call.");
    stmt->blocks.push_back(parse_macro_body(*stmt, "endcall"));
    return stmt;
  }

  std::unique_ptr<Stmt> parse_filter_block() {
    auto stmt = make_stmt(Stmt::Kind::filter);
    next();
    stmt->expr = parse_filter(make(Kind::block_text, now().line));
    while (skip_op("|")) stmt->expr = parse_filter(std::move(stmt->expr));
    stmt->blocks.push_back(parse_closed_block("endfilter"));
    return stmt;
  }

  std::unique_ptr<Stmt> parse_generation() {
    auto stmt = make_stmt(Stmt::Kind::generation);
    next();
    program_->has_generation = true;
    stmt->blocks.push_back(parse_closed_block("endgeneration"));
    return stmt;
  }

  std::unique_ptr<Stmt> parse_with() {
    auto stmt = make_stmt(Stmt::Kind::with);
    next();
    while (!is(TokenKind::block_end) && !is(TokenKind::end)) {
      if (!stmt->targets.empty()) expect_op(",");
      stmt->targets.push_back(parse_target("", /*with_namespace=*/false));
      expect_op("=");
      stmt->conditions.push_back(parse_expression());
    }
    stmt->blocks.push_back(parse_block("endwith"));
    return stmt;
  }

  void parse_print(Block& body) {
    next();
    bool first = true;
    while (!is(TokenKind::block_end) && !is(TokenKind::end)) {
      if (!first) expect_op(",");
      first = false;
      auto stmt = make_stmt(Stmt::Kind::output);
      stmt->expr = parse_expression();
      body.push_back(std::move(stmt));
    }
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::unique_ptr<Program> program_;
  std::unordered_map<std::string, int> name_ids_;
  std::vector<Stmt*> open_macros_;
  int nesting_ = 0;
  int blocks_ = 0;
  int loops_ = 0;
  bool in_branch_ = false;
};

}  // namespace

int Program::find_name(std::string_view name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

std::unique_ptr<const Program> parse_program(std::string_view source) { return Parser(source).run(); }

}  // namespace rlhf::jinja
