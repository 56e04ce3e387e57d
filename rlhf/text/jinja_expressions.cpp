#include "rlhf/text/jinja_parser.h"

namespace rlhf::jinja {

Token Parser::next() {
  const Token token = now();
  if (token.kind != TokenKind::end) ++at_;
  return token;
}

std::string Parser::describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::end:
      return "the end of the template";
    case TokenKind::data:
      return "template text";
    case TokenKind::variable_begin:
      return "'{{'";
    case TokenKind::variable_end:
      return "'}}'";
    case TokenKind::block_begin:
      return "'{%'";
    case TokenKind::block_end:
      return "'%}'";
    default:
      return fmt::format("'{}'", token.text);
  }
}

ExprPtr Parser::finish(ExprPtr expr) const {
  for (const ExprPtr& item : expr->items) grow(*expr, item);
  if (expr->args) {
    for (const ExprPtr& item : expr->args->positional) grow(*expr, item);
    for (const auto& item : expr->args->named) grow(*expr, item.second);
    grow(*expr, expr->args->star);
    grow(*expr, expr->args->star_star);
  }
  if (expr->height > kMaxExpressionHeight) {
    throw Fault{fmt::format("an expression is nested more than {} deep.", kMaxExpressionHeight), "",
                expr->line};
  }
  return expr;
}

ExprPtr Parser::parse_expression() {
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

ExprPtr Parser::parse_or() {
  ExprPtr left = parse_and();
  while (is_word("or")) {
    const int line = next().line;
    ExprPtr right = parse_and();
    left = make(Kind::either, line, std::move(left), std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_and() {
  ExprPtr left = parse_not();
  while (is_word("and")) {
    const int line = next().line;
    ExprPtr right = parse_not();
    left = make(Kind::both, line, std::move(left), std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_not() {
  const Guard guard(nesting_, kMaxExpressionHeight, now().line);
  if (!is_word("not")) return parse_compare();
  const int line = next().line;
  ExprPtr operand = parse_not();
  return make(Kind::negation, line, std::move(operand));
}

bool Parser::take_comparison(Op& op) {
  static constexpr std::pair<std::string_view, Op> kOps[] = {
      {"==", Op::eq}, {"!=", Op::ne}, {"<", Op::lt}, {"<=", Op::le}, {">", Op::gt}, {">=", Op::ge}};
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

ExprPtr Parser::parse_compare() {
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

ExprPtr Parser::make_binary(Op op, int line, ExprPtr left, ExprPtr right) const {
  ExprPtr expr = make(Kind::binary, line, std::move(left), std::move(right));
  expr->op = op;
  return expr;
}

ExprPtr Parser::parse_sum() {
  ExprPtr left = parse_concat();
  while (is_op("+") || is_op("-")) {
    const Token token = next();
    ExprPtr right = parse_concat();
    left = make_binary(token.text == "+" ? Op::add : Op::sub, token.line, std::move(left),
                       std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_concat() {
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

ExprPtr Parser::parse_product() {
  ExprPtr left = parse_power();
  while (is_op("*") || is_op("/") || is_op("//") || is_op("%")) {
    const Token token = next();
    ExprPtr right = parse_power();
    const Op op = token.text == "*"   ? Op::mul
                  : token.text == "/" ? Op::div
                  : token.text == "%" ? Op::mod
                                      : Op::floordiv;
    left = make_binary(op, token.line, std::move(left), std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_power() {
  ExprPtr left = parse_unary(/*with_filter=*/true);
  while (is_op("**")) {
    const int line = next().line;
    ExprPtr right = parse_unary(/*with_filter=*/true);
    left = make_binary(Op::pow, line, std::move(left), std::move(right));
  }
  return left;
}

ExprPtr Parser::parse_unary(bool with_filter) {
  const Guard guard(nesting_, kMaxExpressionHeight, now().line);
  ExprPtr expr;
  if (is_op("-") || is_op("+")) {
    const Token token = next();
    ExprPtr operand = parse_unary(/*with_filter=*/false);
    expr =
        make(token.text == "-" ? Kind::negative : Kind::positive, token.line, std::move(operand));
  } else {
    expr = parse_primary();
  }
  expr = parse_postfix(std::move(expr));
  return with_filter ? parse_filters(std::move(expr)) : std::move(expr);
}

ExprPtr Parser::parse_name(const Token& token) {
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

ExprPtr Parser::parse_primary() {
  const int line = now().line;
  switch (now().kind) {
    case TokenKind::name:
      return parse_name(next());
    case TokenKind::string: {
      std::string text = next().text;
      while (is(TokenKind::string)) text += next().text;
      return make_constant(Value::string(std::move(text)), line);
    }
    case TokenKind::integer:
      return make_constant(Value::integer(next().integer), line);
    case TokenKind::real:
      return make_constant(Value::real(next().real), line);
    default:
      break;
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

bool Parser::at_tuple_end(std::string_view end_word) const {
  return is(TokenKind::variable_end) || is(TokenKind::block_end) || is(TokenKind::end) ||
         is_op(")") || (!end_word.empty() && is_word(end_word));
}

ExprPtr Parser::parse_tuple(bool parenthesised, std::string_view end_word, bool conditional) {
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

ExprPtr Parser::parse_postfix(ExprPtr expr) {
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

ExprPtr Parser::parse_subscript(ExprPtr expr) {
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
  return make(Kind::slice, line, std::move(expr), std::move(parts[0]), std::move(parts[1]),
              std::move(parts[2]));
}

std::unique_ptr<CallArgs> Parser::parse_args() {
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

ExprPtr Parser::parse_call(ExprPtr callee) {
  const int line = now().line;
  ExprPtr expr = make(Kind::call, line, std::move(callee));
  expr->args = parse_args();
  return finish(std::move(expr));
}

ExprPtr Parser::parse_filters(ExprPtr expr) {
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

std::string Parser::parse_dotted_name() {
  std::string name = expect_name();
  while (skip_op(".")) {
    name += '.';
    name += expect_name();
  }
  return name;
}

const Builtin* Parser::find_builtin(const std::string& name, bool filter, int line) const {
  const Builtin* found = filter ? find_filter(name) : find_test(name);
  if (!found && !in_branch_) {
    throw Fault{fmt::format("there is no {} named '{}'.", filter ? "filter" : "test", name),
                "supported: " + (filter ? filter_names() : test_names()), line};
  }
  return found;
}

ExprPtr Parser::parse_filter(ExprPtr subject) {
  const int line = now().line;
  std::string name = parse_dotted_name();
  ExprPtr expr = make(Kind::filter, line, std::move(subject));
  expr->builtin = find_builtin(name, /*filter=*/true, line);
  expr->text = std::move(name);
  expr->args = is_op("(") ? parse_args() : std::make_unique<CallArgs>();
  return finish(std::move(expr));
}

ExprPtr Parser::parse_test(ExprPtr subject) {
  const int line = next().line;
  const bool negated = skip_word("not");
  std::string name = parse_dotted_name();
  ExprPtr expr = make(Kind::test, line, std::move(subject));
  expr->builtin = find_builtin(name, /*filter=*/false, line);
  expr->text = std::move(name);
  const bool word_argument =
      is(TokenKind::name) && !is_word("else") && !is_word("or") && !is_word("and");
  if (is_op("(")) {
    expr->args = parse_args();
  } else {
    expr->args = std::make_unique<CallArgs>();
    if (word_argument || is(TokenKind::string) || is(TokenKind::integer) || is(TokenKind::real) ||
        is_op("[") || is_op("{")) {
      if (is_word("is")) fail("tests with 'is' cannot be chained.");
      expr->args->positional.push_back(parse_postfix(parse_primary()));
    }
  }
  expr = finish(std::move(expr));
  return negated ? make(Kind::negation, line, std::move(expr)) : std::move(expr);
}

}  // namespace rlhf::jinja
