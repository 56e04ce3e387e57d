// Pre-tokenisers of tokenizer.json: cut a normalised text into pieces that the model then encodes
// one by one.
//
// A pre-tokeniser is kept as a flat list of stages; each cuts the pieces further or rewrites them.
// A later stage sees every piece as a text of its own, so look-ahead never crosses a cut.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/text/json_fields.h"
#include "rlhf/text/regex.h"

namespace rlhf {

/// A piece of PreTokens::text.
struct Piece {
  size_t begin;
  size_t end;
  bool at_start;  ///< its first character comes from the very start of what the user gave
};

/// A text being cut, with the buffers that cutting needs; reused from text to text.
struct PreTokens {
  std::string_view text;
  std::vector<Piece> pieces;

  std::string rewritten;  ///< holds `text` once a stage has rewritten it
  std::string spare_text;
  std::vector<Piece> spare;
  std::vector<Match> matches;

  /// Starts with one piece, the whole of `new_text`, which must outlive the use.
  void reset(std::string_view new_text, bool at_start);
  std::string_view piece(const Piece& p) const { return text.substr(p.begin, p.end - p.begin); }
};

/// One stage; immutable.
class PreTokenizerStage {
 public:
  virtual ~PreTokenizerStage() = default;
  virtual void apply(PreTokens& tokens) const = 0;
  /// True for the stage that writes bytes in the byte alphabet: a byte-level BPE can take that
  /// over.
  virtual bool maps_bytes() const { return false; }
};

using PreTokenizerStages = std::vector<std::unique_ptr<PreTokenizerStage>>;

/// The stages of `part`; adds what is wrong to the fields' problems.
/// Known: Sequence, ByteLevel, Split, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit,
/// BertPreTokenizer, CharDelimiterSplit, FixedLength.
void make_pre_tokenizer(const JsonFields& part, PreTokenizerStages& stages, int depth = 0);

}  // namespace rlhf
