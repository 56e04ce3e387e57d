// From Oniguruma's syntax to PCRE2's.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <utility>

#include "rlhf/core/error.h"
#include "rlhf/text/regex.h"

namespace rlhf {
namespace {

constexpr std::string_view kSpace =
    R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHex = "0-9a-fA-F";

constexpr std::array<std::pair<std::string_view, std::string_view>, 27> kLongNames = {{
    {"letter", "L"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
    {"unassigned", "Cn"},
}};

/// Whether PCRE2 knows the script `name`.
bool known_script(const std::string& name) {
  const std::string pattern = "\\p{sc:" + name + "}";
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  std::string run() {
    std::string out;
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        out += escape(/*in_class=*/false);
      } else if (c == '[') {
        out += char_class();
      } else if (in_.substr(at_, 2) == "(?") {
        out += group_options();
      } else {
        out += c;
        ++at_;
      }
    }
    return out;
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw UserError(where_, fmt::format("the pattern `{}` {}.", in_, what));
  }

  /// `(?` with its letters: Ruby's m is PCRE2's s.
  std::string group_options() {
    std::string out = "(?";
    at_ += 2;
    while (at_ < in_.size() &&
           (in_[at_] == 'i' || in_[at_] == 'm' || in_[at_] == 'x' || in_[at_] == '-')) {
      out += in_[at_] == 'm' ? 's' : in_[at_];
      ++at_;
    }
    return out;
  }

  /// A backslash and what it introduces.
  std::string escape(bool in_class) {
    if (at_ + 1 >= in_.size()) {
      refuse("ends in a backslash");
    }
    const char c = in_[at_ + 1];
    if (c == 'p' || c == 'P') {
      return property();
    }
    at_ += 2;
    const auto positive = [&](std::string_view set) {
      return in_class ? std::string(set) : fmt::format("[{}]", set);
    };
    switch (c) {
      case 's':
        return positive(kSpace);
      case 'w':
        return positive(kWord);
      case 'h':
        return positive(kHex);
      case 'S':
        return in_class ? std::string("\\S") : fmt::format("[^{}]", kSpace);
      case 'W':
        return in_class ? std::string("\\W") : fmt::format("[^{}]", kWord);
      case 'b':
        return in_class ? "\\b" : fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kWord);
      case 'B':
        return fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kWord);
      case 'H':
        if (in_class) {
          refuse("has \\H inside a class, which is not supported");
        }
        return fmt::format("[^{}]", kHex);
      default:
        return {'\\', c};
    }
  }

  /// \p{Name}, \p{^Name}, \P{Name}.
  std::string property() {
    bool negative = in_[at_ + 1] == 'P';
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == std::string_view::npos) {
      refuse("has a \\p without a name in braces");
    }
    std::string name(in_.substr(at_ + 3, close - at_ - 3));
    at_ = close + 1;
    if (!name.empty() && name[0] == '^') {
      negative = !negative;
      name.erase(0, 1);
    }
    std::string plain;
    for (const char c : name) {
      if (c != '_' && c != ' ' && c != '-') {
        plain += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
      }
    }
    for (const auto& [from, to] : kLongNames) {
      if (plain == from) {
        name = to;
      }
    }
    if (name.size() > 2 && known_script(name)) {
      name.insert(0, "sc:");
    }
    return fmt::format("\\{}{{{}}}", negative ? 'P' : 'p', name);
  }

  /// One of [:name:]; `at_` stands on its `[`.
  std::string posix_class() {
    const size_t close = in_.find(":]", at_ + 2);
    if (close == std::string_view::npos) {
      refuse("has an unfinished [: :]");
    }
    const std::string_view name = in_.substr(at_ + 2, close - at_ - 2);
    const std::string_view whole = in_.substr(at_, close + 2 - at_);
    at_ = close + 2;
    if (name == "punct") {
      return R"(\p{P}\p{S})";
    }
    if (name == "space") {
      return std::string(kSpace);
    }
    if (name == "word") {
      return std::string(kWord);
    }
    return std::string(whole);
  }

  /// A bracketed class, with nested classes and intersections turned into look-ahead over one
  /// character.
  std::string char_class() {
    if (++depth_ > 32) {
      refuse("nests classes too deeply");
    }
    ++at_;
    const bool negative = at_ < in_.size() && in_[at_] == '^';
    at_ += negative ? 1 : 0;
    std::string intersected;  // look-aheads, one for each operand before the last
    std::string plain;        // items of the current operand
    std::string nested;       // alternatives of the current operand
    bool composite = false;
    bool first = true;
    const auto operand = [&] {
      if (plain.empty() && nested.empty()) {
        refuse("has an empty class");
      }
      std::string one = plain.empty() ? std::string() : fmt::format("[{}]", plain);
      if (!nested.empty()) {
        one = fmt::format("(?:{}{}{})", one, one.empty() ? "" : "|", nested);
      }
      return one;
    };
    while (true) {
      if (at_ >= in_.size()) {
        refuse("has an unfinished class");
      }
      const char c = in_[at_];
      if (c == ']' && !first) {
        ++at_;
        break;
      }
      if (c == '[' && in_.substr(at_, 2) == "[:") {
        plain += posix_class();
      } else if (c == '[') {
        composite = true;
        nested += nested.empty() ? "" : "|";
        nested += char_class();
      } else if (in_.substr(at_, 2) == "&&") {
        composite = true;
        at_ += 2;
        intersected += fmt::format("(?={})", operand());
        plain.clear();
        nested.clear();
      } else if (c == '\\') {
        plain += escape(/*in_class=*/true);
      } else {
        plain += c == ']' ? "\\]" : std::string(1, c);
        ++at_;
      }
      first = false;
    }
    --depth_;
    if (!composite) {
      return fmt::format("[{}{}]", negative ? "^" : "", plain);
    }
    const std::string body = intersected + operand();
    return negative ? fmt::format("(?:(?!{})(?s:.))", body) : fmt::format("(?:{})", body);
  }

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string translate_pattern(std::string_view pattern, const std::string& where) {
  return Translator(pattern, where).run();
}

}  // namespace rlhf
