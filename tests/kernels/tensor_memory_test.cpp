// Blocks of one range of addresses, and libtorch's tensors in it.
#include "rlhf/kernels/tensor_memory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

namespace rlhf {
namespace {

constexpr size_t kPage = 4096;
using Blocks = std::map<char*, size_t>;

/// No byte of it is ever touched.
char* const kBegin = reinterpret_cast<char*>(uintptr_t{1} << 40);

TEST(AddressBlocks, TakesWholePagesFromTheFront) {
  AddressBlocks blocks(kBegin, 10 * kPage);
  EXPECT_EQ(blocks.take(1), kBegin);
  EXPECT_EQ(blocks.take(kPage + 1), kBegin + kPage);
  EXPECT_EQ(blocks.take(kPage), kBegin + 3 * kPage);
  EXPECT_EQ(blocks.take(7 * kPage), nullptr);
  EXPECT_EQ(blocks.take(6 * kPage), kBegin + 4 * kPage);
  EXPECT_TRUE(blocks.free_blocks().empty());
  EXPECT_EQ(blocks.take(1), nullptr);
}

TEST(AddressBlocks, TheSmallestThatIsLargeEnoughIsCut) {
  AddressBlocks blocks(kBegin, 20 * kPage);
  std::vector<char*> taken;
  for (const size_t pages : {4, 1, 2, 1, 3, 1}) taken.push_back(blocks.take(pages * kPage));
  for (const size_t i : {0, 2, 4}) blocks.give_back(taken[i]);
  // Free: four pages, two, three, and what is left behind all.
  EXPECT_EQ(blocks.take(3 * kPage), taken[4]);
  EXPECT_EQ(blocks.take(2 * kPage), taken[2]);
  EXPECT_EQ(blocks.take(3 * kPage), taken[0]);
  EXPECT_EQ(blocks.take(2 * kPage), kBegin + 12 * kPage);
}

TEST(AddressBlocks, NeighboursBecomeOne) {
  AddressBlocks blocks(kBegin, 9 * kPage);
  std::vector<char*> taken;
  for (int i = 0; i < 3; ++i) taken.push_back(blocks.take(3 * kPage));
  blocks.give_back(taken[0]);
  blocks.give_back(taken[2]);
  EXPECT_EQ(blocks.free_blocks(), (Blocks{{kBegin, 3 * kPage}, {kBegin + 6 * kPage, 3 * kPage}}));
  blocks.give_back(taken[1]);
  EXPECT_EQ(blocks.free_blocks(), (Blocks{{kBegin, 9 * kPage}}));
}

TEST(AddressBlocks, KnowsItsOwn) {
  AddressBlocks blocks(kBegin, kPage);
  EXPECT_FALSE(blocks.give_back(kBegin - 1));
  EXPECT_FALSE(blocks.give_back(kBegin + kPage));
  EXPECT_TRUE(blocks.give_back(blocks.take(kPage)));
}

// Blocks never overlap, and what is free is what is not taken.
TEST(AddressBlocks, KeepsCountOfEveryPage) {
  constexpr size_t kPages = 500;
  AddressBlocks blocks(kBegin, kPages * kPage);
  std::mt19937 random(3);
  Blocks taken;
  for (int i = 0; i < 20'000; ++i) {
    if (random() % 2 == 0) {
      const size_t bytes = (1 + random() % 40) * kPage;
      char* block = blocks.take(bytes);
      if (block == nullptr) continue;
      ASSERT_TRUE(taken.emplace(block, bytes).second);
    } else if (!taken.empty()) {
      const auto chosen = std::next(taken.begin(), static_cast<int64_t>(random() % taken.size()));
      ASSERT_TRUE(blocks.give_back(chosen->first));
      taken.erase(chosen);
    }
    Blocks all = taken;
    for (const auto& free : blocks.free_blocks()) ASSERT_TRUE(all.insert(free).second);
    char* end = kBegin;
    for (const auto& [begin, bytes] : all) {
      ASSERT_EQ(begin, end);
      end = begin + bytes;
    }
    ASSERT_EQ(end, kBegin + kPages * kPage);
  }
}

/// Bytes of this process in memory.
int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  file >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

void expect(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::_Exit(1);
}

/// In a process of its own: the allocator stays for its life.
void use_it() {
  constexpr int64_t kBytes = int64_t{64} << 20;
  const auto numbers = [](int64_t bytes) { return at::full({bytes / 4}, 2.0, at::kFloat); };
  auto before = numbers(kBytes);
  use_tensor_memory(size_t{3} * kBytes);
  const int64_t start = resident_bytes();
  auto first = numbers(kBytes);
  auto view = first.narrow(0, 5, 7);
  const void* place = first.const_data_ptr();
  first.reset();
  expect(view.sum().item<double>() == 14.0, "a view keeps its block");
  view.reset();
  auto second = numbers(kBytes);
  expect(second.const_data_ptr() == place, "a block is used again");
  auto third = numbers(3 * kBytes);
  expect(third.sum(at::kDouble).item<double>() == 3.0 * kBytes / 2,
         "what does not fit is elsewhere");
  third.reset();
  before.reset();
  expect(second.clone().equal(second), "a copy");
  second.reset();
  expect(resident_bytes() > start, "pages stay");
  std::vector<std::thread> threads;
  for (int64_t i = 1; i <= 4; ++i) {
    threads.emplace_back([&, i] {
      for (int64_t n = 0; n < 500; ++n) {
        const int64_t bytes = (1 + (n * i) % 50) * 100'000;
        const auto made = at::full({bytes}, i, at::kByte);
        expect(made.min().item<int64_t>() == i && made.max().item<int64_t>() == i,
               "blocks of threads are apart");
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::_Exit(0);
}

TEST(TensorMemoryDeathTest, HoldsLargeTensors) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(use_it(), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace rlhf
