// From template text to tokens, white-space control included.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "rlhf/text/jinja_syntax.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf::jinja {
namespace {

/// One kind of line end, and one trailing line end less: Jinja2 drops it.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(normalized(source)) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) lex_root();
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string what, std::string hint = "") const {
    throw Fault{std::move(what), std::move(hint), line_};
  }

  void add(TokenKind kind, std::string text) {
    tokens_.push_back(Token{kind, std::move(text), line_});
  }
  bool sees(std::string_view what) const {
    return std::string_view(source_).substr(at_).starts_with(what);
  }

  void move_to(size_t position) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(at_),
                                         source_.begin() + static_cast<ptrdiff_t>(position), '\n'));
    at_ = position;
  }

  size_t past_space(size_t position) const {
    const std::string_view rest = std::string_view(source_).substr(position);
    return source_.size() - strip(rest, kLeft).size();
  }

  /// Emits text up to the tag at `tag`, whose sign says what becomes of the white space before it.
  void add_data(size_t tag, char sign, bool is_variable) {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    if (sign == '-') {
      text = strip(text, kRight);
    } else if (sign != '+' && !is_variable) {
      const size_t line_start = text.rfind('\n') + 1;  // npos + 1 == 0
      const std::string_view last = text.substr(line_start);
      if ((line_start > 0 || line_starting_) && !last.empty() && strip(last, kBothSides).empty()) {
        text = text.substr(0, line_start);
      }
    }
    if (!text.empty()) add(TokenKind::data, std::string(text));
    move_to(tag);
  }

  char sign_at(size_t position) const {
    const char c = position < source_.size() ? source_[position] : '\0';
    return c == '-' || c == '+' ? c : '\0';
  }

  void lex_root() {
    size_t tag = source_.find('{', at_);
    while (tag != std::string::npos && tag + 1 < source_.size() && source_[tag + 1] != '%' &&
           source_[tag + 1] != '{' && source_[tag + 1] != '#') {
      tag = source_.find('{', tag + 1);
    }
    if (tag == std::string::npos || tag + 1 >= source_.size()) {
      add(TokenKind::data, source_.substr(at_));
      move_to(source_.size());
      return;
    }
    const char kind = source_[tag + 1];
    const char sign = sign_at(tag + 2);
    add_data(tag, sign, kind == '{');
    const size_t body = tag + 2 + (sign ? 1 : 0);
    if (kind == '#') return lex_comment(body);
    if (kind == '%' && is_raw(body)) return;
    add(kind == '{' ? TokenKind::variable_begin : TokenKind::block_begin, "");
    move_to(body);
    lex_code(kind == '{');
  }

  void lex_comment(size_t body) {
    const size_t end = source_.find("#}", body);
    if (end == std::string::npos) fail("a comment '{#' is never closed by '#}'.");
    finish_tag(end > body ? sign_at(end - 1) : '\0', end + 2, /*trims=*/true);
  }

  /// Moves past the end of a tag, taking white space as its sign asks.
  void finish_tag(char sign, size_t after, bool trims) {
    if (sign == '-') {
      after = past_space(after);
    } else if (trims && sign != '+' && after < source_.size() && source_[after] == '\n') {
      ++after;
    }
    line_starting_ = source_[after - 1] == '\n';
    move_to(after);
  }

  /// Position after `word` where it stands there as a whole tag body, else npos.
  size_t match_word(size_t body, std::string_view word) const {
    const size_t start = past_space(body);
    if (!std::string_view(source_).substr(start).starts_with(word)) return std::string::npos;
    return past_space(start + word.size());
  }

  bool is_raw(size_t body) {
    const size_t close = match_word(body, "raw");
    if (close == std::string::npos) return false;
    const std::string_view rest = std::string_view(source_).substr(close);
    size_t content = 0;
    if (rest.starts_with("-%}")) {
      content = past_space(close + 3);
    } else if (rest.starts_with("%}")) {
      content = close + 2;
    } else {
      return false;
    }
    line_starting_ = source_[content - 1] == '\n';
    move_to(content);
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos;
         tag = source_.find("{%", tag + 1)) {
      const char sign = sign_at(tag + 2);
      const size_t end = match_word(tag + 2 + (sign ? 1 : 0), "endraw");
      if (end == std::string::npos) continue;
      const char end_sign = sign_at(end);
      if (!std::string_view(source_).substr(end + (end_sign ? 1 : 0)).starts_with("%}")) continue;
      add_data(tag, sign, /*is_variable=*/false);
      finish_tag(end_sign, end + (end_sign ? 3 : 2), /*trims=*/true);
      return true;
    }
    if (at_ == source_.size()) return true;  // Jinja2 lets an empty rest pass
    fail("a '{% raw %}' is never closed by '{% endraw %}'.");
  }

  void lex_code(bool variable) {
    const std::string_view close = variable ? "}}" : "%}";
    std::string open;  // closing brackets still to come, innermost last
    while (at_ < source_.size()) {
      const char sign = sign_at(at_);
      const bool may_have_sign = sign == '-' || (sign == '+' && !variable);
      const size_t end = at_ + (may_have_sign ? 1 : 0);
      if (open.empty() && std::string_view(source_).substr(end).starts_with(close)) {
        add(variable ? TokenKind::variable_end : TokenKind::block_end, "");
        finish_tag(may_have_sign ? sign : '\0', end + 2, /*trims=*/!variable);
        return;
      }
      const size_t text = past_space(at_);
      if (text > at_) {
        move_to(text);
        continue;
      }
      lex_token(open);
    }
    // The parser names what is missing: the stream simply ends here.
  }

  void lex_token(std::string& open) {
    const char c = source_[at_];
    if (is_digit(c)) return lex_number();
    if (is_name_start(c)) {
      size_t end = at_;
      while (end < source_.size() && is_name(source_[end])) ++end;
      add(TokenKind::name, source_.substr(at_, end - at_));
      return move_to(end);
    }
    if (c == '\'' || c == '"') return lex_string(c);
    for (const std::string_view op : {"//", "**", "==", "!=", ">=", "<="}) {
      if (sees(op)) {
        add(TokenKind::op, std::string(op));
        return move_to(at_ + 2);
      }
    }
    if (std::string_view("+-/*%~[](){}<>=.:|,;").find(c) == std::string_view::npos) {
      const std::u32string rest = decode(std::string_view(source_).substr(at_, 4));
      fail(fmt::format("unexpected character {}.", quote(encode(rest.substr(0, 1)))));
    }
    track_bracket(c, open);
    add(TokenKind::op, std::string(1, c));
    move_to(at_ + 1);
  }

  void track_bracket(char c, std::string& open) const {
    switch (c) {
      case '{':
        open += '}';
        return;
      case '(':
        open += ')';
        return;
      case '[':
        open += ']';
        return;
      case '}':
      case ')':
      case ']':
        if (open.empty()) fail(fmt::format("unexpected '{}'.", c));
        if (open.back() != c) fail(fmt::format("unexpected '{}', expected '{}'.", c, open.back()));
        open.pop_back();
        return;
      default:
        return;
    }
  }

  /// End of `\d+` with single underscores between digits.
  size_t digits_end(size_t position) const {
    while (position < source_.size() &&
           (is_digit(source_[position]) ||
            (source_[position] == '_' && position + 1 < source_.size() &&
             is_digit(source_[position + 1])))) {
      ++position;
    }
    return position;
  }

  bool digit_at(size_t position) const {
    return position < source_.size() && is_digit(source_[position]);
  }

  void lex_number() {
    size_t end = digits_end(at_);
    bool is_real = false;
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    if (!after_dot) {
      if (end < source_.size() && source_[end] == '.' && digit_at(end + 1)) {
        end = digits_end(end + 1);
        is_real = true;
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        const size_t exponent = end + 1 + (sign_at(end + 1) ? 1 : 0);
        if (digit_at(exponent)) {
          end = digits_end(exponent);
          is_real = true;
        }
      }
    }
    if (is_real) {
      add_number(source_.substr(at_, end - at_), 10, /*is_real=*/true);
      return move_to(end);
    }
    lex_integer(end);
  }

  void lex_integer(size_t decimal_end) {
    const char prefix =
        at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
    const int base = source_[at_] != '0' ? 10
                     : prefix == 'x'     ? 16
                     : prefix == 'o'     ? 8
                     : prefix == 'b'     ? 2
                                         : 10;
    size_t end = decimal_end;
    if (base != 10) {
      end = at_ + 2;
      const std::string_view allowed =
          std::string_view("0123456789abcdef").substr(0, static_cast<size_t>(base));
      while (end < source_.size() &&
             (source_[end] == '_' ||
              allowed.find(
                  static_cast<char>(is_digit(source_[end]) ? source_[end] : source_[end] | 0x20)) !=
                  std::string_view::npos)) {
        ++end;
      }
      if (end == at_ + 2) fail("a number prefix without digits.");
      add_number(source_.substr(at_ + 2, end - at_ - 2), base, /*is_real=*/false);
      return move_to(end);
    }
    if (source_[at_] == '0') {  // a leading zero stands alone: 007 is 00 and 7
      end = at_;
      while (end < decimal_end && (source_[end] == '0' || source_[end] == '_')) ++end;
    }
    add_number(source_.substr(at_, end - at_), 10, /*is_real=*/false);
    move_to(end);
  }

  void add_number(std::string digits, int base, bool is_real) {
    std::erase(digits, '_');
    Token token{is_real ? TokenKind::real : TokenKind::integer, digits, line_};
    const char* last = digits.data() + digits.size();
    const auto done = is_real ? std::from_chars(digits.data(), last, token.real)
                              : std::from_chars(digits.data(), last, token.integer, base);
    if (is_real && done.ec == std::errc::result_out_of_range) {
      token.real = std::strtod(digits.c_str(), nullptr);
    } else if (done.ec != std::errc() || done.ptr != last) {
      fail(fmt::format("the number {} does not fit 64 bits.", digits));
    }
    tokens_.push_back(std::move(token));
  }

  void lex_string(char mark) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != mark) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a string is never closed.");
    add(TokenKind::string, unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    move_to(end + 1);
  }

  std::string unescape(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        out += text[i];
        continue;
      }
      const char c =
          text[++i];  // a backslash never stands last: it would have hidden the closing mark
      static constexpr std::string_view kNames = "abfnrtv\\'\"";
      static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\'\"";
      const size_t simple = kNames.find(c);
      if (simple != std::string_view::npos) {
        out += kValues[simple];
      } else if (c == '\n') {
        continue;
      } else if (c >= '0' && c <= '7') {
        const size_t count = std::min<size_t>(3, text.size() - i);
        i += append_code(out, text.substr(i, count), 8, /*exact=*/0) - 1;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        i += append_code(out, text.substr(i + 1, count), 16, count);
      } else if (c == 'N') {
        fail("an escape \\N{...} is not supported.",
             "write the character itself or its \\u escape.");
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  size_t append_code(std::string& out, std::string_view digits, int base, size_t exact) const {
    uint32_t code = 0;
    const auto done = std::from_chars(digits.data(), digits.data() + digits.size(), code, base);
    const auto used = static_cast<size_t>(done.ptr - digits.data());
    if (done.ec != std::errc() || (exact && used != exact))
      fail("a string has a truncated escape.");
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      fail("a string escape is no Unicode character.");
    append_point(out, code);
    return used;
  }

  std::string source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace rlhf::jinja
