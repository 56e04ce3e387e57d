#include "rlhf/text/stop_strings.h"

#include <algorithm>

namespace rlhf {

StopStrings::StopStrings(const Tokenizer& tokenizer, const std::vector<std::string>& stop)
    : decoder_(tokenizer, /*skip_special_tokens=*/true), stop_(stop) {
  for (const std::string& one : stop) longest_ = std::max(longest_, one.size());
}

bool StopStrings::push(int32_t id) {
  const std::string piece = decoder_.push(id);
  const size_t from = text_.size() >= longest_ ? text_.size() - longest_ + 1 : 0;
  text_ += piece;
  // What the decoder holds back for a later token belongs to the text if none comes.
  StreamDecoder held = decoder_;
  const std::string tail = text_.substr(from) + held.flush();
  for (const std::string& one : stop_) {
    if (const size_t at = tail.find(one); at != std::string::npos)
      found_ = std::min(found_, from + at);
  }
  return found_ != std::string::npos;
}

std::optional<std::string> StopStrings::cut_text() const {
  return found_ == std::string::npos ? std::nullopt : std::optional(text_.substr(0, found_));
}

}  // namespace rlhf
