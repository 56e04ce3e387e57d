#include "rlhf/text/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace rlhf {

uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kMix = 0x9E3779B97F4A7C15u;
  uint64_t hash = bytes.size() * kMix;
  const char* p = bytes.data();
  size_t left = bytes.size();
  while (left >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    hash = (hash ^ word) * kMix;
    hash ^= hash >> 32;
    p += 8;
    left -= 8;
  }
  uint64_t tail = 0;
  for (size_t i = 0; i < left; ++i) {
    tail |= static_cast<uint64_t>(static_cast<unsigned char>(p[i])) << (8 * i);
  }
  hash = (hash ^ tail) * kMix;
  hash ^= hash >> 29;
  hash *= kMix;
  return hash ^ (hash >> 32);
}

Vocabulary::Vocabulary(const std::vector<std::pair<std::string, int64_t>>& tokens,
                       Problems& problems) {
  int64_t bound = 0;
  size_t bytes = 0;
  for (const auto& [token, id] : tokens) {
    bound = std::max(bound, id + 1);
    bytes += token.size();
  }
  spans_.resize(static_cast<size_t>(bound));
  slots_.assign(std::bit_ceil(2 * tokens.size() + 2), -1);
  texts_.reserve(bytes);
  for (const auto& [token, id] : tokens) {
    Span& span = spans_[static_cast<size_t>(id)];
    if (span.length != Span::kNone) {
      problems.add("model.vocab", fmt::format("`{}` and `{}` have the same id {}.",
                                              text(static_cast<int32_t>(id)), token, id));
      continue;
    }
    const size_t mask = slots_.size() - 1;
    size_t slot = hash_bytes(token) & mask;
    while (slots_[slot] >= 0 && text(slots_[slot]) != token) {
      slot = (slot + 1) & mask;
    }
    if (slots_[slot] >= 0) {
      problems.add("model.vocab", fmt::format("`{}` appears twice, with the ids {} and {}.", token,
                                              slots_[slot], id));
      continue;
    }
    slots_[slot] = static_cast<int32_t>(id);
    span = {texts_.size(), token.size()};
    texts_ += token;
    ++count_;
  }
}

int32_t Vocabulary::find(std::string_view token) const {
  if (slots_.empty()) {
    return -1;
  }
  const size_t mask = slots_.size() - 1;
  for (size_t slot = hash_bytes(token) & mask; slots_[slot] >= 0; slot = (slot + 1) & mask) {
    if (text(slots_[slot]) == token) {
      return slots_[slot];
    }
  }
  return -1;
}

bool Vocabulary::contains(int32_t id) const {
  return id >= 0 && id < id_bound() && spans_[static_cast<size_t>(id)].length != Span::kNone;
}

std::string_view Vocabulary::text(int32_t id) const {
  if (!contains(id)) {
    return {};
  }
  const Span& span = spans_[static_cast<size_t>(id)];
  return std::string_view(texts_).substr(span.begin, span.length);
}

void ByteTrie::insert(uint64_t key, uint32_t node) {
  const size_t mask = slots_.size() - 1;
  size_t i = slot_of(key) & mask;
  while (slots_[i].key != 0) {
    i = (i + 1) & mask;
  }
  slots_[i] = {key, node};
}

void ByteTrie::add(std::string_view entry, int32_t value) {
  uint32_t node = 0;
  for (const char c : entry) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t next = child(node, byte);
    if (next == 0) {
      if (2 * values_.size() >= slots_.size()) {
        std::vector<Slot> old(2 * slots_.size());
        old.swap(slots_);
        for (const Slot& slot : old) {
          if (slot.key != 0) {
            insert(slot.key, slot.node);
          }
        }
      }
      next = static_cast<uint32_t>(values_.size());
      values_.push_back(-1);
      insert((static_cast<uint64_t>(node) << 8 | byte) + 1, next);
    }
    node = next;
  }
  if (!entry.empty() && values_[node] < 0) {
    values_[node] = value;
  }
}

}  // namespace rlhf
