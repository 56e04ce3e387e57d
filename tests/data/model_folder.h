// The tiny tokenizers and the template of tests/fixtures/data.
#pragma once

#include <optional>
#include <string>

#include "rlhf/core/file.h"
#include "rlhf/text/chat_template.h"
#include "rlhf/text/tokenizer.h"

namespace rlhf {

inline fs::path data_fixture(const std::string& name) {
  return fs::path(RLHF_FIXTURES) / "data" / name;
}

struct ModelFolder {
  explicit ModelFolder(const std::string& name)
      : tokenizer(Tokenizer::load(data_fixture(name))),
        chat(ChatTemplate::parse(tokenizer.chat_template(), name)) {}

  Tokenizer tokenizer;
  std::optional<ChatTemplate> chat;
};

/// The text with every `from` replaced.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

/// The template without its `{% generation %}` marks.
inline std::string without_marks(const std::string& source) {
  return replaced(replaced(source, "{% generation %}", ""), "{% endgeneration %}", "");
}

}  // namespace rlhf
