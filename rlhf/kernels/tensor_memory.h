// Memory of large tensors on the CPU: one range of addresses, from which every block is cut and to
// which it comes back.
//
// A step asks for the same things over and over: activations, which leave in the order in which
// they came, last first; gradients, which come meanwhile; logits, keys and values. A general
// allocator gives each size pages of its own, so that what one phase has left does not serve the
// next. Here free neighbours are one block, whatever they were. The smallest free block that is
// large enough is cut (best fit: Knuth, The Art of Computer Programming, vol. 1, 2.5), untouched
// addresses only where no other is. What was touched stays in memory: a page that is used again
// costs no fault. Fresh pages are huge where the system has such.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

namespace rlhf {

/// Blocks of a range of addresses; it touches none of them. One thread at a time.
class AddressBlocks {
 public:
  AddressBlocks(char* begin, size_t bytes);

  /// A block of `bytes`, rounded up to whole pages of 4 KiB; null where none is left.
  char* take(size_t bytes);
  /// Takes back what take() gave. Whether the block is of this range.
  bool give_back(char* block);
  /// (address, bytes) of what is free, by address; no two are neighbours.
  const std::map<char*, size_t>& free_blocks() const { return by_address_; }

 private:
  void add(char* begin, size_t bytes);
  void remove(std::map<char*, size_t>::iterator block);

  char* begin_;
  char* end_;
  std::map<char*, size_t> by_address_;
  std::set<std::pair<size_t, char*>> by_size_;
  std::unordered_map<char*, size_t> taken_;
};

/// Bytes from which on a tensor lies in the range; smaller ones are the allocator's that was there.
inline constexpr size_t kLeastInRange = size_t{128} << 10;

/// From now on large tensors of the process lie in one range of `bytes` addresses, whole pages;
/// those that do not fit are the former allocator's. A second call does nothing, nor does one where
/// the system has no such range. For programs, before their first tensor: a library leaves the
/// allocator alone.
void use_tensor_memory(size_t bytes);

}  // namespace rlhf
