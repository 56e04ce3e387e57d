// Unigram: the split into pieces with the largest sum of scores (log-probabilities), by Viterbi's
// algorithm; a character without a piece costs the smallest score less 10. Kudo, "Subword
// Regularization" (2018); scores, ties (the first found stays) and fused unknown runs as in
// SentencePiece and `tokenizers`.
#include <algorithm>
#include <limits>

#include "rlhf/text/token_model.h"
#include "rlhf/text/unicode.h"

namespace rlhf {
namespace {

constexpr double kUnknownPenalty = 10.0;

class UnigramModel : public TokenModel {
 public:
  UnigramModel(std::vector<std::pair<std::string, double>> pieces, int32_t unknown,
               bool byte_fallback)
      : pieces_(std::move(pieces)), unknown_(unknown), byte_fallback_(byte_fallback) {
    double smallest = std::numeric_limits<double>::infinity();
    for (size_t i = pieces_.size();
         i-- > 0;) {  // from the back: of equal pieces the last one counts
      trie_.add(pieces_[i].first, static_cast<int32_t>(i));
      smallest = std::min(smallest, pieces_[i].second);
    }
    unknown_score_ = smallest - kUnknownPenalty;
    for (unsigned b = 0; b < 256; ++b) {
      const int32_t id = find(fmt::format("<0x{:02X}>", b));
      byte_ids_.push_back(id);
    }
  }

  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& out) const override {
    auto& best = scratch.lattice;
    best.assign(piece.size() + 1, {0.0, -1, -1});
    for (size_t at = 0; at < piece.size();) {
      const double here = best[at].score;
      const size_t length = utf8_length(static_cast<unsigned char>(piece[at]));
      bool whole_character = false;
      const auto offer = [&](size_t end, double score, int32_t id) {
        if (best[end].start < 0 || score > best[end].score) {
          best[end] = {score, id, static_cast<int64_t>(at)};
        }
      };
      trie_.prefixes(piece, at, [&](size_t n, int32_t id) {
        offer(at + n, pieces_[static_cast<size_t>(id)].second + here, id);
        whole_character |= n == length;
      });
      if (!whole_character) {
        if (unknown_ < 0) {
          throw UserError(
              "tokenizer",
              fmt::format("the text has `{}`, for which the vocabulary has no piece, and "
                          "`unk_id` is null.",
                          piece.substr(at, length)));
        }
        offer(at + length, unknown_score_ + here, unknown_);
      }
      at += length;
    }
    walk_back(piece, scratch, out);
  }

  int32_t find(std::string_view token) const override {
    int32_t found = -1;
    trie_.prefixes(token, 0, [&](size_t n, int32_t id) { found = n == token.size() ? id : found; });
    return found;
  }
  std::string_view text(int32_t id) const override {
    return contains(id) ? std::string_view(pieces_[static_cast<size_t>(id)].first)
                        : std::string_view();
  }
  bool contains(int32_t id) const override { return id >= 0 && id < id_bound(); }
  size_t size() const override { return pieces_.size(); }
  int64_t id_bound() const override { return static_cast<int64_t>(pieces_.size()); }

 private:
  /// The best path from the end, unknown neighbours fused into one span.
  void walk_back(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& out) const {
    scratch.ids.clear();  // ids in reverse
    size_t unknown_end = 0;
    size_t end = piece.size();
    const auto flush = [&] {
      if (unknown_end > end) {
        add_unknown(piece.substr(end, unknown_end - end), scratch.ids);
      }
      unknown_end = 0;
    };
    while (end > 0) {
      const ModelScratch::Node& node = scratch.lattice[end];
      if (node.id == unknown_) {
        unknown_end = unknown_end == 0 ? end : unknown_end;
      } else {
        flush();
        scratch.ids.push_back(node.id);
      }
      end = static_cast<size_t>(node.start);
    }
    flush();
    out.insert(out.end(), scratch.ids.rbegin(), scratch.ids.rend());
  }

  void add_unknown(std::string_view span, std::vector<int32_t>& reversed) const {
    if (const int32_t id = find(span); id >= 0) {
      reversed.push_back(id);
      return;
    }
    const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (byte_fallback_ &&
        std::all_of(span.begin(), span.end(), [&](char c) { return byte_id(c) >= 0; })) {
      std::transform(span.rbegin(), span.rend(), std::back_inserter(reversed), byte_id);
    } else {
      reversed.push_back(unknown_);
    }
  }

  std::vector<std::pair<std::string, double>> pieces_;
  ByteTrie trie_;
  int32_t unknown_;
  bool byte_fallback_;
  double unknown_score_ = 0.0;
  std::vector<int32_t> byte_ids_;
};

}  // namespace

std::unique_ptr<TokenModel> make_unigram(const TokenizerFile& file, const JsonFields& model) {
  const auto count = static_cast<int64_t>(file.pieces.size());
  if (count == 0 || count > kMaxTokenId) {
    model.problem(fmt::format("`vocab` must be an array of 1 to {} [piece, score], got {} of them.",
                              kMaxTokenId, count));
    return nullptr;
  }
  const auto unknown = static_cast<int32_t>(model.integer("unk_id", -1, 0, count - 1));
  return std::make_unique<UnigramModel>(file.pieces, unknown,
                                        model.boolean("byte_fallback", false));
}

}  // namespace rlhf
