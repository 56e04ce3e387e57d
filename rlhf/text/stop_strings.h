// Texts that end a completion, looked for while its tokens come; and the part of the text that can
// be shown meanwhile.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rlhf/text/tokenizer.h"

namespace rlhf {

/// Follows the text of one running completion. Keeps a reference to the list.
class StopStrings {
 public:
  StopStrings(const Tokenizer& tokenizer, const std::vector<std::string>& stop);

  /// Whether one of the texts stands in the completion with this token.
  bool push(int32_t id);
  /// The text before the first of them, if one was found.
  std::optional<std::string> cut_text() const;

  /// What has become certain since the last call: whole characters that are no special token's, and
  /// nothing that later tokens could make the beginning of one of the texts. All calls and rest(),
  /// joined, are the completion's text.
  std::string take();
  /// What is left when no more tokens come.
  std::string rest();

 private:
  std::string shown_to(size_t end);

  StreamDecoder decoder_;
  const std::vector<std::string>& stop_;
  size_t longest_ = 0;
  std::string text_;
  size_t found_ = std::string::npos;
  size_t shown_ = 0;  // bytes of text_ that take() has given
};

}  // namespace rlhf
