#include "rlhf/rewards/regex_rule.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// Thousands of times what an ordinary pattern needs for a long completion, and milliseconds.
constexpr uint32_t kSteps = 1000000;

template <class T, void (*free)(T*)>
struct Deleter {
  void operator()(T* object) const { free(object); }
};
using CompileContext = std::unique_ptr<pcre2_compile_context,
                                       Deleter<pcre2_compile_context, pcre2_compile_context_free>>;
using MatchContext =
    std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context, pcre2_match_context_free>>;
using MatchData =
    std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data, pcre2_match_data_free>>;

std::string error_text(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

uint32_t options_of(const std::string& flags, bool full, const std::string& where) {
  uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF;
  if (full) options |= PCRE2_ANCHORED | PCRE2_ENDANCHORED;
  constexpr std::string_view kLetters = "ismx";
  constexpr std::array<uint32_t, 4> kOptions = {PCRE2_CASELESS, PCRE2_DOTALL, PCRE2_MULTILINE,
                                                PCRE2_EXTENDED};
  for (const char flag : flags) {
    const size_t at = kLetters.find(flag);
    if (at == std::string_view::npos) {
      throw UserError(where + ".flags",
                      fmt::format("letters of i, s, m, x were expected, got \"{}\".", flags),
                      "i: any case; s: a dot matches a line's end; m: ^ and $ at every line; x: "
                      "white space in the pattern means nothing.");
    }
    options |= kOptions[at];
  }
  return options;
}

}  // namespace

struct RegexRule::Code {
  pcre2_code* code = nullptr;
  MatchContext limits{pcre2_match_context_create(nullptr)};

  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

RegexRule::RegexRule(const std::string& pattern, const std::string& flags, bool full,
                     const std::string& where) {
  if (pattern.empty()) {
    throw UserError(where, "a `pattern` was expected, got none.",
                    "write {name: regex, pattern: '^<answer>.*</answer>$', flags: s}.");
  }
  auto code = std::make_shared<Code>();
  const CompileContext context(pcre2_compile_context_create(nullptr));
  check(context != nullptr && code->limits != nullptr, where, "out of memory.");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_match_limit(code->limits.get(), kSteps);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             options_of(flags, full, where), &error, &offset, context.get());
  if (code->code == nullptr) {
    throw UserError(where + ".pattern",
                    fmt::format("a regular expression was expected, `{}` does not compile: {} (at "
                                "byte {}).",
                                pattern, error_text(error), offset),
                    "write it in Perl's syntax, in single quotes in YAML.");
  }
  // Where there is no JIT for this machine or pattern, the interpreter runs it.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

bool RegexRule::matches(std::string_view text) const {
  const MatchData data(pcre2_match_data_create(1, nullptr));
  check(data != nullptr, "regex", "out of memory.");
  const auto search = [&](uint32_t options) {
    return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                       options, data.get(), code_->limits.get());
  };
  int found = search(0);
  // The JIT's stack is small; the interpreter's memory is not.
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = search(PCRE2_NO_JIT);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) throw Error("matching stopped: " + error_text(found));
  return true;
}

}  // namespace rlhf
