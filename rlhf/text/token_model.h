// What turns one piece of text (the pre-tokeniser's output) into ids: BPE, Unigram, WordPiece,
// WordLevel.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/text/json_fields.h"
#include "rlhf/text/tokenizer_file.h"
#include "rlhf/text/vocabulary.h"

namespace rlhf {

/// Buffers of one thread, kept between calls so that encoding a word allocates nothing.
struct ModelScratch {
  struct Symbol {
    int32_t id;
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    uint32_t rank;
    int32_t position;
    int32_t id;
  };
  struct Node {
    double score;
    int32_t id;
    int64_t start;
  };
  std::vector<int32_t> ids;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<Node> lattice;
  std::string text;
};

/// A model with its vocabulary; immutable.
class TokenModel {
 public:
  virtual ~TokenModel() = default;

  /// Appends the ids of `piece` (valid UTF-8, or any bytes for a byte-level BPE).
  virtual void encode(std::string_view piece, ModelScratch& scratch,
                      std::vector<int32_t>& out) const = 0;
  virtual int32_t find(std::string_view token) const = 0;  ///< the id, or -1
  virtual std::string_view text(int32_t id) const = 0;     ///< empty for an id without a token
  virtual bool contains(int32_t id) const = 0;
  virtual size_t size() const = 0;       ///< number of tokens
  virtual int64_t id_bound() const = 0;  ///< largest id + 1
};

/// The model that `file` describes. `raw_bytes`: pieces come as plain bytes and the model applies
/// the byte alphabet itself (BPE only). Adds what is wrong to `problems` and then may return
/// nullptr.
std::unique_ptr<TokenModel> make_token_model(const TokenizerFile& file, bool raw_bytes,
                                             Problems& problems);

/// Makers of the single models; `model` names the fields of `model` in tokenizer.json.
std::unique_ptr<TokenModel> make_bpe(const TokenizerFile& file, const JsonFields& model,
                                     bool raw_bytes);
std::unique_ptr<TokenModel> make_unigram(const TokenizerFile& file, const JsonFields& model);
std::unique_ptr<TokenModel> make_word_piece(const TokenizerFile& file, const JsonFields& model);
std::unique_ptr<TokenModel> make_word_level(const TokenizerFile& file, const JsonFields& model);

}  // namespace rlhf
