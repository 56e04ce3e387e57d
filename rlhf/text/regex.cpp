#include "rlhf/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "rlhf/core/error.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

/// One scratch area a thread: only the bounds of the whole match are ever read.
pcre2_match_data* thread_match_data() {
  thread_local const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create(1, nullptr));
  check(data != nullptr, "regex", "out of memory.");
  return data.get();
}

std::string error_text(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool jit = false;

  ~Code() { pcre2_code_free(code); }

  /// True and the bounds of the first match at or after `from`.
  bool search(std::string_view text, size_t from, size_t* begin, size_t* end) const {
    pcre2_match_data* const data = thread_match_data();
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int found = jit ? pcre2_jit_match(code, subject, text.size(), from, 0, data, nullptr)
                    : PCRE2_ERROR_JIT_STACKLIMIT;
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                          nullptr);
    }
    if (found == PCRE2_ERROR_NOMATCH) {
      return false;
    }
    check(found >= 0, "tokenizer: regular expression", "matching stopped: {}.", error_text(found));
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(data);
    *begin = bounds[0];
    *end = bounds[1];
    return true;
  }
};

Regex::Regex(const std::string& pattern, const std::string& where) {
  const std::string translated = translate_pattern(pattern, where);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_shared<Code>();
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &offset, context.get());
  if (code->code == nullptr) {
    throw UserError(
        where, fmt::format("the pattern `{}` does not compile: {} (at byte {} of `{}`).", pattern,
                           error_text(error), offset, translated));
  }
  code->jit = pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE) == 0;
  code_ = std::move(code);
}

Regex Regex::literal(std::string_view text, const std::string& where) {
  if (text.empty()) {
    return Regex("(?!)", where);  // nothing matches nothing
  }
  std::string pattern;
  for (const char c : text) {
    if (is_ascii_punctuation(static_cast<unsigned char>(c))) {
      pattern += '\\';
    }
    pattern += c;
  }
  return Regex(pattern, where);
}

void Regex::find_all(std::string_view text, std::vector<Match>& out) const {
  if (text.empty()) {
    out.push_back({0, 0, false});
    return;
  }
  size_t covered = 0;
  size_t from = 0;
  size_t last_end = std::string_view::npos;
  size_t begin = 0;
  size_t end = 0;
  while (from <= text.size() && code_->search(text, from, &begin, &end)) {
    if (begin == end && end == last_end) {
      from = end < text.size() ? end + utf8_length(static_cast<unsigned char>(text[end])) : end + 1;
      continue;
    }
    if (begin > covered) {
      out.push_back({covered, begin, false});
    }
    out.push_back({begin, end, true});
    covered = end;
    last_end = end;
    from = end;
  }
  if (covered < text.size()) {
    out.push_back({covered, text.size(), false});
  }
}

std::string Regex::replace_all(std::string_view text, std::string_view replacement) const {
  std::vector<Match> spans;
  find_all(text, spans);
  std::string out;
  out.reserve(text.size());
  for (const Match& span : spans) {
    out += span.matched ? replacement : text.substr(span.begin, span.end - span.begin);
  }
  return out;
}

std::optional<Regex> make_pattern(const JsonFields& part) {
  const Json* const pattern = part.require("pattern");
  if (pattern == nullptr) {
    return std::nullopt;
  }
  const bool one = pattern->is_object() && pattern->size() == 1 && pattern->begin()->is_string();
  const std::string kind = one ? pattern->begin().key() : "";
  const JsonFields fields(*pattern, part.where() + ".pattern", part.problems());
  const std::string text = one ? fields.text(kind) : "";
  if (kind != "String" && kind != "Regex") {
    part.problem(fmt::format("`pattern` must be {{\"String\": ...}} or {{\"Regex\": ...}}, got {}.",
                             pattern->dump()));
    return std::nullopt;
  }
  try {
    return kind == "String" ? Regex::literal(text, part.where()) : Regex(text, part.where());
  } catch (const UserError& error) {
    part.problems().add(error);
    return std::nullopt;
  }
}

}  // namespace rlhf
