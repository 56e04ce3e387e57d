// Texts that end a completion, looked for while its tokens come.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rlhf/text/tokenizer.h"

namespace rlhf {

/// Follows the text of one running completion. Keeps references to the tokenizer and the list.
class StopStrings {
 public:
  StopStrings(const Tokenizer& tokenizer, const std::vector<std::string>& stop);

  /// Whether one of the texts stands in the completion with this token.
  bool push(int32_t id);
  /// The text before the first of them, if one was found.
  std::optional<std::string> cut_text() const;

 private:
  StreamDecoder decoder_;
  const std::vector<std::string>& stop_;
  size_t longest_ = 0;
  std::string text_;
  size_t found_ = std::string::npos;
};

}  // namespace rlhf
