// The parser behind parse_program: recursive descent with Jinja2's grammar and precedence.
// Expressions are in jinja_expressions.cpp, tags in jinja_parser.cpp.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "rlhf/text/jinja_syntax.h"

namespace rlhf::jinja {

class Parser {
 public:
  explicit Parser(std::string_view source)
      : tokens_(tokenize(source)), program_(std::make_unique<Program>()) {}

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
  Token next();
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

  static std::string describe(const Token& token);

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
    const auto [found, added] =
        name_ids_.try_emplace(name, static_cast<int>(program_->names.size()));
    if (added) program_->names.push_back(name);
    return found->second;
  }

  // --- nodes ---
  ExprPtr finish(ExprPtr expr) const;

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
  ExprPtr parse_expression();
  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  bool take_comparison(Op& op);
  ExprPtr parse_compare();
  ExprPtr make_binary(Op op, int line, ExprPtr left, ExprPtr right) const;
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_unary(bool with_filter);
  ExprPtr parse_name(const Token& token);
  ExprPtr parse_primary();
  bool at_tuple_end(std::string_view end_word) const;
  /// One expression, or several with commas: a tuple. A for-loop and an if take no conditional
  /// expression there.
  ExprPtr parse_tuple(bool parenthesised, std::string_view end_word = "", bool conditional = true);
  ExprPtr parse_postfix(ExprPtr expr);
  ExprPtr parse_subscript(ExprPtr expr);
  std::unique_ptr<CallArgs> parse_args();
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_filters(ExprPtr expr);
  std::string parse_dotted_name();
  const Builtin* find_builtin(const std::string& name, bool filter, int line) const;
  ExprPtr parse_filter(ExprPtr subject);
  ExprPtr parse_test(ExprPtr subject);

  // --- statements ---
  std::unique_ptr<Stmt> make_stmt(Stmt::Kind kind) const;
  /// Statements up to one of `ends`, which is left as the current token; to the end of the template
  /// without any.
  Block parse_body(std::initializer_list<std::string_view> ends);
  /// The body of a tag up to `end`, which is consumed.
  Block parse_block(std::string_view end);
  Block parse_block_until(std::initializer_list<std::string_view> ends);
  void parse_statement(Block& body, std::initializer_list<std::string_view> ends);
  [[noreturn]] void refuse_tag(const std::string& tag,
                               std::initializer_list<std::string_view> ends) const;
  std::unique_ptr<Stmt> parse_if();
  Target parse_target(std::string_view end_word, bool with_namespace);
  Target parse_one_target(bool with_namespace);
  std::unique_ptr<Stmt> parse_for();
  std::unique_ptr<Stmt> parse_set();
  /// A block that is compiled to a function of its own in Jinja2: no break out of it.
  Block parse_closed_block(std::string_view end);
  void parse_signature(Stmt& stmt);
  Block parse_macro_body(Stmt& stmt, std::string_view end);
  std::unique_ptr<Stmt> parse_macro();
  std::unique_ptr<Stmt> parse_call_block();
  std::unique_ptr<Stmt> parse_filter_block();
  std::unique_ptr<Stmt> parse_generation();
  std::unique_ptr<Stmt> parse_with();
  void parse_print(Block& body);

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

}  // namespace rlhf::jinja
