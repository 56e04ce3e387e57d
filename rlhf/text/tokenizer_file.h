// tokenizer.json as data: the small parts as JSON, the large tables (vocabulary, merges) as plain
// vectors.
//
// The project's JSON type keeps the order of keys and finds them by walking, so a vocabulary of
// 150,000 keys would take minutes to read into it. read() therefore takes the tables out of the
// stream of parse events.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// Everything tokenizer.json says. Problems of form are collected by the readers, not thrown one by
/// one.
struct TokenizerFile {
  Json parts = Json::object();  ///< the document without `model.vocab` and `model.merges`

  std::vector<std::pair<std::string, int64_t>> vocab;  ///< token and id (BPE, WordPiece, WordLevel)
  std::vector<std::pair<std::string, double>> pieces;  ///< piece and score, ids in order (Unigram)
  std::vector<std::pair<std::string, std::string>> merges;

  /// Parses the text of a tokenizer.json. UserError naming `where` when it is no JSON; adds other
  /// problems.
  static TokenizerFile read(std::string_view text, const std::string& where, Problems& problems);
  /// The same from a parsed document.
  static TokenizerFile from_json(const Json& document, Problems& problems);
};

/// The largest id a vocabulary may use; keeps a damaged file from asking for all memory.
inline constexpr int64_t kMaxTokenId = (int64_t{1} << 24) - 1;

}  // namespace rlhf
