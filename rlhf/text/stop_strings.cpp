#include "rlhf/text/stop_strings.h"

#include <algorithm>

namespace rlhf {
namespace {

/// Bytes at the end of `text` that begin `stop`.
size_t begun(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size()); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

StopStrings::StopStrings(const Tokenizer& tokenizer, const std::vector<std::string>& stop)
    : decoder_(tokenizer, /*skip_special_tokens=*/true), stop_(stop) {
  for (const std::string& one : stop) longest_ = std::max(longest_, one.size());
}

bool StopStrings::push(int32_t id) {
  const std::string piece = decoder_.push(id);
  const size_t from = text_.size() >= longest_ ? text_.size() - longest_ + 1 : 0;
  text_ += piece;
  if (longest_ == 0) return false;
  // What the decoder holds back for a later token belongs to the text if none comes.
  StreamDecoder held = decoder_;
  const std::string tail = text_.substr(from) + held.flush();
  for (const std::string& one : stop_) {
    if (const size_t at = tail.find(one); at != std::string::npos)
      found_ = std::min(found_, from + at);
  }
  if (found_ == std::string::npos) return false;
  text_.replace(from, std::string::npos, tail);
  return true;
}

std::optional<std::string> StopStrings::cut_text() const {
  return found_ == std::string::npos ? std::nullopt : std::optional(text_.substr(0, found_));
}

std::string StopStrings::shown_to(size_t end) {
  const std::string out = text_.substr(shown_, end - shown_);
  shown_ = end;
  return out;
}

std::string StopStrings::take() {
  if (found_ != std::string::npos) return shown_to(found_);
  size_t held = 0;
  for (const std::string& one : stop_) held = std::max(held, begun(text_, one));
  return shown_to(std::max(shown_, text_.size() - held));
}

std::string StopStrings::rest() {
  if (found_ == std::string::npos) text_ += decoder_.flush();
  return shown_to(std::min(found_, text_.size()));
}

}  // namespace rlhf
