#include "rlhf/text/jinja_parser.h"

namespace rlhf::jinja {
namespace {

constexpr std::string_view kSupportedTags =
    "break, call, continue, filter, for, generation, if, macro, print, raw, set, with";

}  // namespace

std::unique_ptr<Stmt> Parser::make_stmt(Stmt::Kind kind) const {
  auto stmt = std::make_unique<Stmt>();
  stmt->kind = kind;
  stmt->line = now().line;
  return stmt;
}

Block Parser::parse_body(std::initializer_list<std::string_view> ends) {
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

Block Parser::parse_block(std::string_view end) {
  Block body = parse_block_until({end});
  next();
  return body;
}

Block Parser::parse_block_until(std::initializer_list<std::string_view> ends) {
  skip_op(":");
  expect(TokenKind::block_end, "'%}'");
  return parse_body(ends);
}

void Parser::parse_statement(Block& body, std::initializer_list<std::string_view> ends) {
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

void Parser::refuse_tag(const std::string& tag,
                        std::initializer_list<std::string_view> ends) const {
  for (const std::string_view known :
       {"include", "import", "from", "extends", "block", "autoescape", "trans", "do"}) {
    if (tag == known) {
      fail(fmt::format("the tag '{}' is not supported in a chat template.", tag),
           fmt::format("a chat template is one file; supported tags: {}.", kSupportedTags));
    }
  }
  std::string what = fmt::format("unknown tag '{}'", tag);
  if (ends.size()) what += fmt::format(", expected '{}'", fmt::join(ends, "' or '"));
  fail(what + ".", fmt::format("supported tags: {}.", kSupportedTags));
}

std::unique_ptr<Stmt> Parser::parse_if() {
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

Target Parser::parse_target(std::string_view end_word, bool with_namespace) {
  Target target;
  bool is_tuple = false;
  while (true) {
    if (!target.targets.empty()) expect_op(",");
    if (at_tuple_end(end_word) || is_op("=")) break;
    target.targets.push_back(parse_one_target(with_namespace));
    if (!is_op(",")) break;
    is_tuple = true;
  }
  if (target.targets.empty())
    fail(fmt::format("expected a name to assign to, got {}.", describe(now())));
  if (is_tuple) return target;
  Target only = std::move(target.targets[0]);
  return only;
}

Target Parser::parse_one_target(bool with_namespace) {
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

std::unique_ptr<Stmt> Parser::parse_for() {
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

std::unique_ptr<Stmt> Parser::parse_set() {
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

Block Parser::parse_closed_block(std::string_view end) {
  const int loops = std::exchange(loops_, 0);
  Block body = parse_block(end);
  loops_ = loops;
  return body;
}

void Parser::parse_signature(Stmt& stmt) {
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

Block Parser::parse_macro_body(Stmt& stmt, std::string_view end) {
  for (const char* special : {"caller", "varargs", "kwargs"}) intern(special);
  open_macros_.push_back(&stmt);
  const bool branch = std::exchange(in_branch_, false);
  Block body = parse_closed_block(end);
  in_branch_ = branch;
  open_macros_.pop_back();
  return body;
}

std::unique_ptr<Stmt> Parser::parse_macro() {
  auto stmt = make_stmt(Stmt::Kind::macro);
  next();
  stmt->text = expect_name();
  stmt->name = intern(stmt->text);
  parse_signature(*stmt);
  stmt->blocks.push_back(parse_macro_body(*stmt, "endmacro"));
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_call_block() {
  auto stmt = make_stmt(Stmt::Kind::call);
  next();
  stmt->text = "caller";
  if (is_op("(")) parse_signature(*stmt);
  stmt->expr = parse_expression();
  if (stmt->expr->kind != Kind::call) fail("a call block needs a call.");
  stmt->blocks.push_back(parse_macro_body(*stmt, "endcall"));
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_filter_block() {
  auto stmt = make_stmt(Stmt::Kind::filter);
  next();
  stmt->expr = parse_filter(make(Kind::block_text, now().line));
  while (skip_op("|")) stmt->expr = parse_filter(std::move(stmt->expr));
  stmt->blocks.push_back(parse_closed_block("endfilter"));
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_generation() {
  auto stmt = make_stmt(Stmt::Kind::generation);
  next();
  program_->has_generation = true;
  stmt->blocks.push_back(parse_closed_block("endgeneration"));
  return stmt;
}

std::unique_ptr<Stmt> Parser::parse_with() {
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

void Parser::parse_print(Block& body) {
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

int Program::find_name(std::string_view name) const {
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? -1 : static_cast<int>(found - names.begin());
}

std::unique_ptr<const Program> parse_program(std::string_view source) {
  return Parser(source).run();
}

}  // namespace rlhf::jinja
