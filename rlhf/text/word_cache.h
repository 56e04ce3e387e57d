// Remembers the ids of pieces that came before: most of a text is a few thousand words.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/text/vocabulary.h"

namespace rlhf {

/// A direct-mapped cache: each piece has one slot, a newcomer takes it over. Bounded memory; for
/// one thread.
class WordCache {
 public:
  /// Longer pieces are not kept: they rarely come again.
  static constexpr size_t kLongest = 64;

  WordCache() : slots_(kSlots) {}

  /// The ids of `piece` whose hash_bytes is `hash`; nullptr where not known.
  const int32_t* find(std::string_view piece, uint64_t hash, size_t* count) const {
    const Slot& slot = slots_[hash % kSlots];
    if (slot.hash != hash || slot.length != piece.size() ||
        std::string_view(texts_).substr(slot.text, slot.length) != piece) {
      return nullptr;
    }
    *count = slot.count;
    return ids_.data() + slot.ids;
  }

  void add(std::string_view piece, uint64_t hash, std::span<const int32_t> ids) {
    if (texts_.size() + ids_.size() > kMaxEntries) {
      slots_.assign(kSlots, {});
      texts_.clear();
      ids_.clear();
    }
    slots_[hash % kSlots] = {
        hash, static_cast<uint32_t>(texts_.size()), static_cast<uint32_t>(ids_.size()),
        static_cast<uint16_t>(piece.size()), static_cast<uint16_t>(ids.size())};
    texts_ += piece;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 15;
  static constexpr size_t kMaxEntries = size_t{1} << 22;
  struct Slot {
    uint64_t hash = 0;
    uint32_t text = 0;
    uint32_t ids = 0;
    uint16_t length = 0;  // 0: free, for no piece is empty
    uint16_t count = 0;
  };
  std::vector<Slot> slots_;
  std::string texts_;
  std::vector<int32_t> ids_;
};

}  // namespace rlhf
