#include "rlhf/core/json_text.h"

#include <algorithm>

#include "rlhf/core/error.h"

namespace rlhf {

int json_depth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool inside_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (inside_string) {
      i += c == '\\' ? 1 : 0;
      inside_string = c != '"';
    } else if (c == '"') {
      inside_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

Json parse_json(std::string_view text, const std::string& where) {
  if (json_depth(text) > kMaxJsonDepth) {
    throw UserError(where, fmt::format("JSON of at most {} levels was expected, got {}.",
                                       kMaxJsonDepth, json_depth(text)));
  }
  try {
    return Json::parse(text);
  } catch (const Json::exception& error) {
    // nlohmann: "[json.exception.parse_error.101] parse error at line 1, column 7: ..."
    std::string_view what = error.what();
    if (const size_t end = what.find("] "); end != std::string_view::npos) {
      what.remove_prefix(end + 2);
    }
    throw UserError(where, fmt::format("JSON was expected, got {}.", what),
                    "the file may be cut off; write or fetch it again.");
  }
}

}  // namespace rlhf
