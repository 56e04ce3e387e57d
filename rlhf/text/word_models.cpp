// WordPiece: the longest token from the left, then again, with a prefix inside the word (Schuster
// and Nakajima, 2012). WordLevel: a word is a token or unknown. And the choice of a model by its
// `type`.
#include "rlhf/text/token_model.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

class WordLevelModel : public TokenModel {
 public:
  WordLevelModel(Vocabulary vocabulary, int32_t unknown)
      : vocabulary_(std::move(vocabulary)), unknown_(unknown) {}

  void encode(std::string_view piece, ModelScratch&, std::vector<int32_t>& out) const override {
    const int32_t id = vocabulary_.find(piece);
    add(id >= 0 ? id : unknown_, piece, out);
  }
  int32_t find(std::string_view token) const override { return vocabulary_.find(token); }
  std::string_view text(int32_t id) const override { return vocabulary_.text(id); }
  bool contains(int32_t id) const override { return vocabulary_.contains(id); }
  size_t size() const override { return vocabulary_.size(); }
  int64_t id_bound() const override { return vocabulary_.id_bound(); }

 protected:
  static void add(int32_t id, std::string_view piece, std::vector<int32_t>& out) {
    if (id < 0) {
      throw UserError(
          "tokenizer",
          fmt::format("the text has `{}`, which is not in the vocabulary, and the unknown "
                      "token is not either.",
                      piece));
    }
    out.push_back(id);
  }

  Vocabulary vocabulary_;
  int32_t unknown_;
};

class WordPieceModel : public WordLevelModel {
 public:
  WordPieceModel(Vocabulary vocabulary, int32_t unknown, std::string prefix, size_t longest)
      : WordLevelModel(std::move(vocabulary), unknown),
        prefix_(std::move(prefix)),
        longest_(longest) {}

  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& out) const override {
    size_t characters = 0;
    for (size_t at = 0; at < piece.size();
         at += utf8_length(static_cast<unsigned char>(piece[at]))) {
      ++characters;
    }
    const size_t before = out.size();
    size_t begin = 0;
    while (characters <= longest_ && begin < piece.size()) {
      size_t end = piece.size();
      const int32_t id = longest_token(piece, begin, scratch.text, &end);
      if (id < 0) {
        break;
      }
      out.push_back(id);
      begin = end;
    }
    if (begin < piece.size()) {
      out.resize(before);
      add(unknown_, piece, out);
    }
  }

 private:
  int32_t longest_token(std::string_view piece, size_t begin, std::string& buffer,
                        size_t* end) const {
    buffer = begin > 0 ? prefix_ : "";
    const size_t head = buffer.size();
    buffer += piece.substr(begin);
    while (*end > begin) {
      const int32_t id = vocabulary_.find(std::string_view(buffer).substr(0, head + *end - begin));
      if (id >= 0) {
        return id;
      }
      do {
        --*end;
      } while (*end > begin && (static_cast<unsigned char>(piece[*end]) & 0xC0) == 0x80);
    }
    return -1;
  }

  std::string prefix_;
  size_t longest_;
};

}  // namespace

std::unique_ptr<TokenModel> make_word_piece(const TokenizerFile& file, const JsonFields& model) {
  Vocabulary vocabulary(file.vocab, model.problems());
  const int32_t unknown = vocabulary.find(model.text("unk_token", "[UNK]"));
  const int64_t longest = model.integer("max_input_chars_per_word", 100, 0, INT32_MAX);
  return std::make_unique<WordPieceModel>(std::move(vocabulary), unknown,
                                          model.text("continuing_subword_prefix", "##"),
                                          static_cast<size_t>(longest));
}

std::unique_ptr<TokenModel> make_word_level(const TokenizerFile& file, const JsonFields& model) {
  Vocabulary vocabulary(file.vocab, model.problems());
  const int32_t unknown = vocabulary.find(model.text("unk_token", "<unk>"));
  return std::make_unique<WordLevelModel>(std::move(vocabulary), unknown);
}

std::unique_ptr<TokenModel> make_token_model(const TokenizerFile& file, bool raw_bytes,
                                             Problems& problems) {
  const JsonFields root(file.parts, "tokenizer.json", problems);
  const Json* const part = root.require("model");
  if (part == nullptr) {
    return nullptr;
  }
  const JsonFields model(*part, "model", problems);
  std::string type = model.text("type");
  if (type.empty()) {  // files of early versions do not say
    type = !file.merges.empty() ? "BPE" : !file.pieces.empty() ? "Unigram" : "WordPiece";
  }
  if (type != "Unigram" && file.vocab.empty() && problems.empty()) {
    model.problem("`vocab` must be an object of tokens and ids, and is empty or absent.");
  }
  if (type == "BPE") {
    return make_bpe(file, model, raw_bytes);
  }
  if (type == "Unigram") {
    return make_unigram(file, model);
  }
  if (type == "WordPiece") {
    return make_word_piece(file, model);
  }
  if (type == "WordLevel") {
    return make_word_level(file, model);
  }
  model.problem(fmt::format(
      "`{}` is no model known here; known are BPE, Unigram, WordPiece, WordLevel.", type));
  return nullptr;
}

}  // namespace rlhf
