// Tokens that stand outside the model: they are found in the text as written, before anything else
// cuts it.
//
// Tokens without `normalized` are looked for in the raw text; then each gap is normalised, and
// tokens with it (their contents normalised too) are looked for there. Of several that match, the
// leftmost wins, and of those the longest. Ids are given as `tokenizers` gives them: the model's id
// for a content that it has, else the next free one.
#pragma once

#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rlhf/text/normalizer.h"
#include "rlhf/text/token_model.h"

namespace rlhf {

struct AddedToken {
  std::string content;
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< takes the white space before it along
  bool rstrip = false;       ///< takes the white space behind it along
  bool normalized = false;
  bool special = false;  ///< left out by decode(skip_special_tokens)

  bool operator==(const AddedToken&) const = default;
};

/// An AddedToken from its JSON object.
AddedToken read_added_token(const JsonFields& part, bool normalized_by_default);

class AddedTokens {
 public:
  /// A part of a text: an added token, or (id -1) a gap between them.
  struct Span {
    size_t begin;
    size_t end;
    int32_t id;
  };

  /// Adds or redefines one token and returns its id (-1 for an empty content).
  int32_t add(const AddedToken& token, const TokenModel& model);
  /// Prepares the search; call after the last add.
  void build(const Normalizer* normalizer);

  /// Covers `text` with spans, appended to `out`. `normalized` chooses the set.
  void split(std::string_view text, bool normalized, std::vector<Span>& out) const;

  const AddedToken* find(int32_t id) const;
  /// What decoding takes for the token: its content, in the form of the normaliser for the
  /// `normalized` kind. nullptr for an id that is not an added token's.
  const std::string* text(int32_t id) const;
  int32_t find(std::string_view content) const;  ///< the id, or -1
  bool is_special(std::string_view content) const { return special_.contains(content); }
  /// The tokens as defined now, by id.
  std::vector<AddedToken> all() const;
  int64_t id_bound() const { return tokens_.empty() ? 0 : tokens_.rbegin()->first + 1; }

 private:
  struct Matcher {
    ByteTrie trie;
    std::array<bool, 256> first{};
    void add(std::string_view content, int32_t id);
  };

  std::map<std::string, int32_t, std::less<>> ids_;
  std::map<int32_t, AddedToken> tokens_;
  std::set<std::string, std::less<>> special_;
  std::map<int32_t, std::string> texts_;
  std::vector<AddedToken> order_;  // every content that was ever added, specials as first seen
  Matcher raw_;
  Matcher normalized_;
};

}  // namespace rlhf
