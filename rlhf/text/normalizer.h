// Normalisers of tokenizer.json: text to text, before added tokens of the `normalized` kind and the
// pre-tokeniser.
#pragma once

#include <memory>
#include <string>

#include "rlhf/text/json_fields.h"

namespace rlhf {

class Normalizer {
 public:
  virtual ~Normalizer() = default;

  /// Rewrites `text` (valid UTF-8, stays so). `*at_start` says that the first character comes from
  /// the very start of what the user gave; it becomes false where leading characters are dropped
  /// (Metaspace's `first` depends on it).
  virtual void apply(std::string& text, bool* at_start) const = 0;
};

/// The normaliser that `part` describes; adds what is wrong to the fields' problems and then
/// returns nullptr. Known: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace,
/// Prepend, Nmt, Precompiled, BertNormalizer, ByteLevel.
std::unique_ptr<Normalizer> make_normalizer(const JsonFields& part, int depth = 0);

}  // namespace rlhf
