#include "rlhf/kernels/tensor_memory.h"

#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>

#include <iterator>
#include <mutex>

namespace rlhf {
namespace {

constexpr size_t kPage = 4096;

/// The allocator of libtorch's CPU tensors.
class TensorMemory final : public at::Allocator {
 public:
  TensorMemory(char* begin, size_t bytes, at::Allocator& former)
      : blocks_(begin, bytes), former_(former) {}

  static TensorMemory* installed;

  at::DataPtr allocate(size_t bytes) override {
    void* block = bytes < kLeastInRange ? nullptr : take(bytes);
    if (block == nullptr) block = former_.raw_allocate(bytes);
    return {block, block, &give_back, at::Device(at::kCPU)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

 private:
  char* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    return blocks_.take(bytes);
  }

  static void give_back(void* block) {
    {
      const std::lock_guard lock(installed->mutex_);
      if (installed->blocks_.give_back(static_cast<char*>(block))) return;
    }
    installed->former_.raw_deallocate(block);
  }

  std::mutex mutex_;
  AddressBlocks blocks_;
  at::Allocator& former_;
};

TensorMemory* TensorMemory::installed = nullptr;

}  // namespace

AddressBlocks::AddressBlocks(char* begin, size_t bytes) : begin_(begin), end_(begin + bytes) {
  add(begin, bytes);
}

char* AddressBlocks::take(size_t bytes) {
  if (bytes > static_cast<size_t>(end_ - begin_)) return nullptr;
  bytes = (bytes + kPage - 1) / kPage * kPage;
  const auto found = by_size_.lower_bound({bytes, nullptr});
  if (found == by_size_.end()) return nullptr;
  const auto [size, block] = *found;
  remove(by_address_.find(block));
  if (size > bytes) add(block + bytes, size - bytes);
  taken_.emplace(block, bytes);
  return block;
}

bool AddressBlocks::give_back(char* block) {
  const auto taken = taken_.find(block);
  if (taken == taken_.end()) return false;
  size_t bytes = taken->second;
  taken_.erase(taken);
  const auto next = by_address_.lower_bound(block);
  if (next != by_address_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == block) {
      block = before->first;
      bytes += before->second;
      remove(before);
    }
  }
  if (next != by_address_.end() && next->first == block + bytes) {
    bytes += next->second;
    remove(next);
  }
  add(block, bytes);
  return true;
}

void AddressBlocks::add(char* begin, size_t bytes) {
  by_address_.emplace(begin, bytes);
  by_size_.emplace(bytes, begin);
}

void AddressBlocks::remove(std::map<char*, size_t>::iterator block) {
  by_size_.erase({block->second, block->first});
  by_address_.erase(block);
}

void use_tensor_memory(size_t bytes) {
  if (TensorMemory::installed != nullptr) return;
  void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return;
  ::madvise(pages, bytes, MADV_HUGEPAGE);
  // Never deleted: tensors may outlive main().
  TensorMemory::installed =
      new TensorMemory(static_cast<char*>(pages), bytes, *c10::GetCPUAllocator());
  c10::SetCPUAllocator(TensorMemory::installed, /*priority=*/1);
}

}  // namespace rlhf
