// Tokens and their ids, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rlhf/core/error.h"

namespace rlhf {

/// An open-addressing table over token texts held in one block of memory. Built once, then read
/// only.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Ids must lie in [0, kMaxTokenId]. A token or an id that appears twice is a problem.
  Vocabulary(const std::vector<std::pair<std::string, int64_t>>& tokens, Problems& problems);

  /// The id, or -1.
  int32_t find(std::string_view token) const;
  /// The token, empty for an id without one.
  std::string_view text(int32_t id) const;
  bool contains(int32_t id) const;

  size_t size() const { return count_; }                                    ///< number of tokens
  int64_t id_bound() const { return static_cast<int64_t>(spans_.size()); }  ///< largest id + 1

 private:
  struct Span {
    size_t begin = 0;
    size_t length = kNone;
    static constexpr size_t kNone = static_cast<size_t>(-1);
  };

  std::string texts_;
  std::vector<Span> spans_;     // by id
  std::vector<int32_t> slots_;  // ids, -1 where free
  size_t count_ = 0;
};

/// A fast hash of a few bytes; not for adversaries' eyes, only for tables of this room.
uint64_t hash_bytes(std::string_view bytes);

/// A trie over byte strings: finds the entries that begin at a position of a text.
class ByteTrie {
 public:
  ByteTrie() : slots_(16), values_(1, -1) {}

  /// The first value added for an entry stays.
  void add(std::string_view entry, int32_t value);
  bool empty() const { return values_.size() == 1; }

  /// Calls fn(length, value) for every entry that begins at `at`, shortest first.
  template <class Fn>
  void prefixes(std::string_view text, size_t at, Fn&& fn) const {
    uint32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      node = child(node, static_cast<unsigned char>(text[i]));
      if (node == 0) {
        return;
      }
      if (values_[node] >= 0) {
        fn(i + 1 - at, values_[node]);
      }
    }
  }

 private:
  struct Slot {
    uint64_t key = 0;  // (node << 8 | byte) + 1, 0 where free
    uint32_t node = 0;
  };

  uint32_t child(uint32_t node, unsigned char byte) const {
    const uint64_t key = (static_cast<uint64_t>(node) << 8 | byte) + 1;
    const size_t mask = slots_.size() - 1;
    for (size_t i = slot_of(key) & mask;; i = (i + 1) & mask) {
      if (slots_[i].key == key) {
        return slots_[i].node;
      }
      if (slots_[i].key == 0) {
        return 0;
      }
    }
  }
  static size_t slot_of(uint64_t key) {
    return static_cast<size_t>((key * 0x9E3779B97F4A7C15u) >> 20);
  }
  void insert(uint64_t key, uint32_t node);

  std::vector<Slot> slots_;
  std::vector<int32_t> values_;  // by node, -1 for none
};

}  // namespace rlhf
