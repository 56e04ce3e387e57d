// Byte-pair encoding: of all adjacent pairs that have a merge, the one with the smallest rank (the
// leftmost of equals) is joined, until none is left. Sennrich, Haddow and Birch, "Neural Machine
// Translation of Rare Words with Subword Units" (2016); byte-level: see byte_level.h; byte
// fallback: a character without a token becomes its UTF-8 bytes
// `<0xE2>`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/text/token_model.h"

namespace rlhf {

/// The merges as a hash table from a pair of ids.
class MergeTable {
 public:
  struct Merge {
    uint64_t pair;
    uint32_t rank;
    int32_t id;
  };

  /// Sized for `count` merges.
  explicit MergeTable(size_t count);
  /// A later merge of the same pair replaces the earlier one.
  void add(int32_t left, int32_t right, uint32_t rank, int32_t id);
  /// nullptr when the pair does not merge.
  const Merge* find(int32_t left, int32_t right) const;

 private:
  size_t slot(uint64_t pair) const;

  static constexpr uint64_t kFree = ~uint64_t{0};
  std::vector<Merge> slots_;
  int shift_;
};

/// BPE with everything tokenizer.json allows but dropout, which has no meaning outside training of
/// a tokenizer.
class BpeModel : public TokenModel {
 public:
  struct Options {
    std::string unknown;  ///< the token for what has none; empty: such characters vanish
    std::string prefix;  ///< `continuing_subword_prefix`: before every character but a word's first
    std::string suffix;  ///< `end_of_word_suffix`: behind a word's last character
    bool fuse_unknown = false;
    bool byte_fallback = false;
    bool ignore_merges = false;  ///< a piece that is a token is that token, whatever the merges say
    bool raw_bytes =
        false;  ///< pieces are plain bytes, the vocabulary is written in the byte alphabet
  };

  BpeModel(Vocabulary vocabulary, MergeTable merges, Options options);

  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& out) const override;
  int32_t find(std::string_view token) const override { return vocabulary_.find(token); }
  std::string_view text(int32_t id) const override { return vocabulary_.text(id); }
  bool contains(int32_t id) const override { return vocabulary_.contains(id); }
  size_t size() const override { return vocabulary_.size(); }
  int64_t id_bound() const override { return vocabulary_.id_bound(); }

 private:
  void split(std::string_view piece, ModelScratch& scratch) const;
  void add_unit(std::string_view unit, bool& pending_unknown, std::vector<int32_t>& ids) const;
  void merge_short(std::vector<int32_t>& ids, std::vector<int32_t>& out) const;
  void merge_long(ModelScratch& scratch, std::vector<int32_t>& out) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  Options options_;
  int32_t unknown_ = -1;
  std::array<int32_t, 256> byte_ids_{};  // raw bytes: the id of each byte's character
  bool every_byte_has_id_ = false;
  std::array<int32_t, 256> fallback_ids_{};  // <0x00> to <0xFF>
};

}  // namespace rlhf
