#include "rlhf/text/normalizer.h"

#include <functional>
#include <optional>

#include "rlhf/text/byte_level.h"
#include "rlhf/text/charsmap.h"
#include "rlhf/text/regex.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

/// A normaliser that is one function.
class FunctionNormalizer : public Normalizer {
 public:
  using Function = std::function<void(std::string& text, bool* at_start)>;
  explicit FunctionNormalizer(Function function) : function_(std::move(function)) {}
  void apply(std::string& text, bool* at_start) const override { function_(text, at_start); }

 private:
  Function function_;
};

std::unique_ptr<Normalizer> normalizer(FunctionNormalizer::Function function) {
  return std::make_unique<FunctionNormalizer>(std::move(function));
}

/// Appends what `each(out, character)` makes of every character.
template <class Fn>
void map_characters(std::string& text, bool* at_start, Fn&& each) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    each(out, c.value);
    if (at == 0 && out.empty()) {
      *at_start = false;
    }
    at += c.length;
  }
  text = std::move(out);
}

template <class Fn>
void remove_characters(std::string& text, bool* at_start, Fn&& drop) {
  map_characters(text, at_start, [&](std::string& out, char32_t c) {
    if (!drop(c)) {
      append_utf8(out, c);
    }
  });
}

void lower_case(std::string& text, bool* at_start) {
  map_characters(text, at_start, [](std::string& out, char32_t c) { append_lower_case(out, c); });
}

void strip(std::string& text, bool* at_start, bool left, bool right) {
  size_t begin = 0;
  while (left && begin < text.size() && is_white_space(decode_utf8(text, begin).value)) {
    begin += utf8_length(static_cast<unsigned char>(text[begin]));
  }
  size_t end = text.size();
  while (right && end > begin) {
    size_t last = end - 1;
    while ((static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) {
      --last;
    }
    if (!is_white_space(decode_utf8(text, last).value)) {
      break;
    }
    end = last;
  }
  *at_start = *at_start && begin == 0;
  text.erase(end);
  text.erase(0, begin);
}

/// SentencePiece's "nmt" rules: control characters go, odd spaces become a space.
void nmt(std::string& text, bool* at_start) {
  map_characters(text, at_start, [](std::string& out, char32_t c) {
    if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
        c == 0x8F || c == 0x9F) {
      return;
    }
    const bool space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == 0xFFFD;
    append_utf8(out, space ? U' ' : c);
  });
}

bool is_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void clean_for_bert(std::string& text, bool* at_start) {
  map_characters(text, at_start, [](std::string& out, char32_t c) {
    const bool plain_space = c == '\t' || c == '\n' || c == '\r';
    if (c == 0 || c == 0xFFFD || (!plain_space && is_other(c))) {
      return;
    }
    append_utf8(out, plain_space || is_white_space(c) ? U' ' : c);
  });
}

std::unique_ptr<Normalizer> make_bert(const JsonFields& part) {
  const bool clean = part.boolean("clean_text", true);
  const bool chinese = part.boolean("handle_chinese_chars", true);
  const bool lower = part.boolean("lowercase", true);
  const bool accents = part.boolean("strip_accents", lower);
  return normalizer([=](std::string& text, bool* at_start) {
    if (clean) {
      clean_for_bert(text, at_start);
    }
    if (chinese) {
      map_characters(text, at_start, [](std::string& out, char32_t c) {
        out += is_chinese(c) ? " " : "";
        append_utf8(out, c);
        out += is_chinese(c) ? " " : "";
      });
    }
    if (accents) {
      text = normal_form(text, NormalForm::nfd);
      remove_characters(text, at_start, is_nonspacing_mark);
    }
    if (lower) {
      lower_case(text, at_start);
    }
  });
}

std::unique_ptr<Normalizer> make_replace(const JsonFields& part) {
  const std::optional<Regex> pattern = make_pattern(part);
  const std::string content = part.text("content");
  if (!pattern) {
    return nullptr;
  }
  return normalizer([=](std::string& text, bool* at_start) {
    std::vector<Match> spans;
    pattern->find_all(text, spans);
    *at_start = *at_start && !(content.empty() && spans.front().matched);
    text = pattern->replace_all(text, content);
  });
}

std::unique_ptr<Normalizer> make_precompiled(const JsonFields& part) {
  const std::string encoded = part.text("precompiled_charsmap");
  if (encoded.empty()) {
    return normalizer([](std::string&, bool*) {});
  }
  std::string error;
  std::optional<Charsmap> map = Charsmap::from_base64(encoded, &error);
  if (!map) {
    part.problem(fmt::format("`precompiled_charsmap` {}.", error));
    return nullptr;
  }
  return normalizer([map = std::move(*map)](std::string& text, bool*) { text = map.apply(text); });
}

std::unique_ptr<Normalizer> make_sequence(const JsonFields& part, int depth) {
  std::vector<std::shared_ptr<const Normalizer>> all;
  for (const JsonFields& one : part.list("normalizers")) {
    all.push_back(make_normalizer(one, depth + 1));
    if (all.back() == nullptr) {
      all.pop_back();
    }
  }
  return normalizer([all = std::move(all)](std::string& text, bool* at_start) {
    for (const auto& one : all) {
      one->apply(text, at_start);
    }
  });
}

std::unique_ptr<Normalizer> make_form(NormalForm form) {
  return normalizer([form](std::string& text, bool*) { text = normal_form(text, form); });
}

}  // namespace

std::unique_ptr<Normalizer> make_normalizer(const JsonFields& part, int depth) {
  const std::string type = part.required_text("type");
  if (depth > kMaxDepth) {
    part.problem(fmt::format("nests more than {} levels deep.", kMaxDepth));
    return nullptr;
  }
  if (type == "Sequence") {
    return make_sequence(part, depth);
  }
  if (type == "NFC") {
    return make_form(NormalForm::nfc);
  }
  if (type == "NFD") {
    return make_form(NormalForm::nfd);
  }
  if (type == "NFKC") {
    return make_form(NormalForm::nfkc);
  }
  if (type == "NFKD") {
    return make_form(NormalForm::nfkd);
  }
  if (type == "Lowercase") {
    return normalizer(lower_case);
  }
  if (type == "Strip") {
    const bool left = part.boolean("strip_left", true);
    const bool right = part.boolean("strip_right", true);
    return normalizer(
        [=](std::string& text, bool* at_start) { strip(text, at_start, left, right); });
  }
  if (type == "StripAccents") {
    return normalizer(
        [](std::string& text, bool* at_start) { remove_characters(text, at_start, is_mark); });
  }
  if (type == "Replace") {
    return make_replace(part);
  }
  if (type == "Prepend") {
    return normalizer([prefix = part.required_text("prepend")](std::string& text, bool*) {
      text.insert(0, text.empty() ? "" : prefix);
    });
  }
  if (type == "Nmt") {
    return normalizer(nmt);
  }
  if (type == "Precompiled") {
    return make_precompiled(part);
  }
  if (type == "BertNormalizer") {
    return make_bert(part);
  }
  if (type == "ByteLevel") {
    return normalizer([](std::string& text, bool*) {
      std::string mapped;
      append_byte_level(mapped, text);
      text = std::move(mapped);
    });
  }
  if (!type.empty()) {
    part.problem(fmt::format(
        "`{}` is no normaliser known here; known are Sequence, NFC, NFD, NFKC, NFKD, Lowercase, "
        "Strip, StripAccents, Replace, Prepend, Nmt, Precompiled, BertNormalizer, ByteLevel.",
        type));
  }
  return nullptr;
}

}  // namespace rlhf
