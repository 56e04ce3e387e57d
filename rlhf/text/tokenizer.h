// Text to token ids and back, from a Hugging Face tokenizer.json; the same ids as the `tokenizers`
// library.
//
// The way of a text: added tokens are found as written (added_tokens.h); the rest is normalised
// (normalizer.h), cut into pieces (pre_tokenizer.h) and encoded piece by piece (token_model.h); a
// post-processor adds special tokens when asked (post_processor.h). decoder.h goes back. Parts that
// are not supported are refused at load time by name.
//
// What is loaded is what transformers 5.23's AutoTokenizer loads from the same folder:
// - `added_tokens_decoder`, the named special tokens (`bos_token`, ...), `extra_special_tokens` and
//   `additional_special_tokens` of tokenizer_config.json are added, or redefine what tokenizer.json
//   says of them; named ones are special. special_tokens_map.json overrides names only where there
//   is no `added_tokens_decoder`.
// - `add_bos_token` and `add_eos_token` have no effect beside a tokenizer.json: its post-processor
//   decides.
// - `truncation` and `padding` of tokenizer.json are ignored.
// - With `tokenizer_class` LlamaTokenizer(Fast), a BPE without ByteLevel, and a model type
//   (config.json) that has no tokenizer class of its own in transformers, normaliser, pre-tokeniser
//   and decoder of the file are replaced by Metaspace ("first", "always" with `legacy`, "never"
//   with `add_prefix_space: false`) with byte fallback.
//
// Not followed: for GPT2Tokenizer, GPTNeoXTokenizer and some older classes transformers 5 rebuilds
// the pre-tokeniser from the class and loses what the file says of it (SmolLM2's Digits, for one);
// here the file, which the model was trained with, stands.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// A tokenizer. Immutable, safe to use from several threads, cheap to copy.
class Tokenizer {
 public:
  /// Reads `folder`: tokenizer.json (or tokenizer.json.gz), and where present
  /// tokenizer_config.json, special_tokens_map.json, chat_template.jinja and config.json (its model
  /// type). UserError with every problem found.
  static Tokenizer load(const fs::path& folder);
  /// From parsed documents; `config` is tokenizer_config.json (may be null). A large vocabulary
  /// takes minutes to parse into the project's JSON type: load() does not go through it.
  static Tokenizer from_json(const Json& tokenizer, const Json& config);

  /// The ids of `text`, with the post-processor's special tokens when asked. Special tokens written
  /// in the text are recognised. UserError when `text` is not valid UTF-8 or has a character the
  /// vocabulary cannot express.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = false) const;
  /// encode() of each text, on worker_threads() threads.
  std::vector<std::vector<int32_t>> encode_batch(std::span<const std::string> texts,
                                                 bool add_special_tokens) const;
  /// The text of `ids`, always valid UTF-8; ids without a token are left out. As transformers with
  /// `clean_up_tokenization_spaces=False`; as there, a special token of the `normalized` kind that
  /// the normaliser changes is not left out by `skip_special_tokens`.
  std::string decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  std::optional<int32_t> token_to_id(std::string_view token) const;
  /// The token as the vocabulary writes it (`Ġthe`, `▁the`); empty for an id without one.
  std::string id_to_token(int32_t id) const;
  /// Whether the id is a token's; a vocabulary may have holes below vocab_size().
  bool has_token(int32_t id) const;
  /// Largest id + 1, added tokens included.
  int64_t vocab_size() const;
  /// Whether the id is a special token's: of tokenizer.json's flag, or by its name in
  /// tokenizer_config.json.
  bool is_special(int32_t id) const;

  /// The named tokens of tokenizer_config.json: absent, or empty text, when not named there.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  std::optional<int32_t> unk_id() const;
  std::string bos_token() const;
  std::string eos_token() const;
  std::string pad_token() const;
  std::string unk_token() const;

  /// chat_template.jinja, or `chat_template` of tokenizer_config.json (of several the one named
  /// `default`); empty when there is none.
  std::string chat_template() const;
  /// tokenizer_config.json; an empty object when there was none.
  const Json& config() const;

  struct Impl;  ///< tokenizer_impl.h

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

/// Decodes ids as they arrive. The texts of all push() and of flush(), joined, are decode() of all
/// ids; a text appears once no later id can change it, so half a character, or a run of byte
/// tokens, waits.
class StreamDecoder {
 public:
  StreamDecoder(Tokenizer tokenizer, bool skip_special_tokens);

  std::string push(int32_t id);
  /// What still waits. The decoder is then as new.
  std::string flush();

 private:
  std::string push_bytes(std::string_view token);
  std::string push_window(int32_t id, std::string_view token);

  Tokenizer tokenizer_;
  bool skip_special_;
  std::string bytes_;  // byte-level: what no complete character has claimed yet
  std::vector<int32_t> window_;
  std::string given_;  // decode() of the part of window_ that is given out
};

}  // namespace rlhf
