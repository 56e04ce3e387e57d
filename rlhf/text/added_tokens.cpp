#include "rlhf/text/added_tokens.h"

#include <algorithm>

#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

/// Start of the character that ends at `end`.
size_t character_before(std::string_view text, size_t end) {
  size_t at = end - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) {
    --at;
  }
  return at;
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && is_word_character(decode_utf8(text, character_before(text, begin)).value)) ||
         (end < text.size() && is_word_character(decode_utf8(text, end).value));
}

}  // namespace

AddedToken read_added_token(const JsonFields& part, bool normalized_by_default) {
  AddedToken token;
  token.content = part.required_text("content");
  token.single_word = part.boolean("single_word", false);
  token.lstrip = part.boolean("lstrip", false);
  token.rstrip = part.boolean("rstrip", false);
  token.normalized = part.boolean("normalized", normalized_by_default);
  token.special = part.boolean("special", false);
  return token;
}

int32_t AddedTokens::add(const AddedToken& token, const TokenModel& model) {
  if (token.content.empty()) {
    return -1;
  }
  const bool new_special = token.special && special_.insert(token.content).second;
  int32_t id = find(token.content);
  id = id >= 0 ? id : model.find(token.content);
  if (id < 0) {
    // Where the largest added id lies inside the model's range, numbering goes on behind the model.
    const auto model_size = static_cast<int64_t>(model.size());
    int64_t largest = -1;
    for (const auto& [content, one] : ids_) {
      largest = std::max<int64_t>(largest, one);
    }
    id = static_cast<int32_t>(largest >= model_size ? largest + 1 : model_size);
  }
  const auto known = tokens_.find(id);
  const bool same = known != tokens_.end() && known->second == token;
  if (new_special || (!same && !special_.contains(token.content))) {
    order_.push_back(token);
  }
  ids_[token.content] = id;
  tokens_[id] = token;
  return id;
}

void AddedTokens::Matcher::add(std::string_view content, int32_t id) {
  if (!content.empty()) {
    trie.add(content, id);
    first[static_cast<unsigned char>(content[0])] = true;
  }
}

void AddedTokens::build(const Normalizer* normalizer) {
  raw_ = {};
  normalized_ = {};
  const auto normalized = [&](std::string content) {
    bool at_start = true;
    if (normalizer != nullptr) {
      normalizer->apply(content, &at_start);
    }
    return content;
  };
  for (const AddedToken& token : order_) {
    const int32_t id = find(token.content);
    if (token.normalized) {
      normalized_.add(normalized(token.content), id);
    } else {
      raw_.add(token.content, id);
    }
  }
  for (const auto& [id, token] : tokens_) {
    texts_[id] = token.normalized ? normalized(token.content) : token.content;
  }
}

void AddedTokens::split(std::string_view text, bool normalized, std::vector<Span>& out) const {
  const Matcher& matcher = normalized ? normalized_ : raw_;
  size_t covered = 0;
  for (size_t at = 0; at < text.size() && !matcher.trie.empty();) {
    if (!matcher.first[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    size_t length = 0;
    int32_t id = -1;
    matcher.trie.prefixes(text, at, [&](size_t n, int32_t found) {
      length = n;
      id = found;
    });
    if (id < 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + length;
    at = end;
    const AddedToken& token = tokens_.at(id);
    if (token.single_word && touches_word(text, begin, end)) {
      continue;
    }
    while (token.lstrip && begin > covered) {
      const size_t before = character_before(text, begin);
      if (!is_white_space(decode_utf8(text, before).value)) {
        break;
      }
      begin = before;
    }
    while (token.rstrip && end < text.size() && is_white_space(decode_utf8(text, end).value)) {
      end += utf8_length(static_cast<unsigned char>(text[end]));
    }
    if (covered < begin) {
      out.push_back({covered, begin, -1});
    }
    out.push_back({begin, end, id});
    covered = end;
  }
  if (covered < text.size()) {
    out.push_back({covered, text.size(), -1});
  }
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : &found->second;
}

std::vector<AddedToken> AddedTokens::all() const {
  std::vector<AddedToken> out;
  for (const auto& [id, token] : tokens_) {
    out.push_back(token);
  }
  return out;
}

const std::string* AddedTokens::text(int32_t id) const {
  const auto found = texts_.find(id);
  return found == texts_.end() ? nullptr : &found->second;
}

int32_t AddedTokens::find(std::string_view content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? -1 : found->second;
}

}  // namespace rlhf
