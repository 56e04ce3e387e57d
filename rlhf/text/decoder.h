// Decoders of tokenizer.json: tokens back to text.
//
// A decoder is a chain of steps over the list of token texts; what is left is joined. Without a
// decoder the tokens are joined by spaces, as `tokenizers` does.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/text/json_fields.h"

namespace rlhf {

class Decoder {
 public:
  /// How text may be given out while tokens still arrive.
  enum class Streaming {
    bytes,   ///< each token is bytes of its own: complete characters are final
    window,  ///< a token's text depends on the one before it, and on a run of byte tokens around it
    whole,   ///< later tokens can change any of it
  };

  Decoder() = default;  ///< no decoder
  /// Adds what is wrong to the fields' problems. Known: ByteLevel, Metaspace, ByteFallback, Fuse,
  /// Strip, Replace, WordPiece, BPEDecoder, Sequence.
  explicit Decoder(const JsonFields& part);

  std::string decode(std::vector<std::string> tokens) const;
  Streaming streaming() const { return streaming_; }
  bool has_byte_fallback() const { return byte_fallback_; }

 private:
  using Step = std::function<void(std::vector<std::string>& tokens)>;
  void read(const JsonFields& part, int depth);
  void read_strip(const JsonFields& part);

  std::vector<Step> steps_;
  bool present_ = false;
  bool byte_fallback_ = false;
  bool byte_level_ = false;
  bool fused_ = false;
  Streaming streaming_ = Streaming::window;
};

/// The byte that a token such as `<0xE2>` stands for, or -1.
int fallback_byte(std::string_view token);

}  // namespace rlhf
