// How the rows of a step are cut.
#include "rlhf/train/microbatches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

namespace rlhf {
namespace {

using Longs = std::vector<int64_t>;
using Lists = std::vector<Longs>;

TEST(CutRows, StayInOrderWhereNoGradientsAddUp) {
  EXPECT_EQ(cut_rows(Longs{3, 5, 1, 8}, {.tokens = 8}), (Lists{{0, 1}, {2}, {3}}));
  EXPECT_EQ(cut_rows({}, {.tokens = 8}), Lists{});
}

// Two micro-batches of at most 768. The first may have 676 tokens more than the second: 223 tokens are
// the fewest that the second can have.
TEST(CutRows, TheFirstTakesMost) {
  const Longs lengths = {262, 243, 223, 340};
  const MicrobatchSize size{.tokens = 768, .most_first = 1536, .head_start = 676};
  EXPECT_EQ(cut_rows(lengths, size), (Lists{{0, 1, 3}, {2}}));
}

TEST(CutRows, OneMicrobatchIsLeftAsItIs) {
  EXPECT_EQ(cut_rows(Longs{100, 300, 200}, {.tokens = 768, .most_first = 1536, .head_start = 676}),
            (Lists{{0, 1, 2}}));
  EXPECT_EQ(cut_rows({}, {.tokens = 768, .most_first = 1536, .head_start = 676}), Lists{});
}

TEST(CutRows, TheLongestRowIsFirst) {
  const MicrobatchSize size{.tokens = 10, .most_first = 20, .head_start = 0};
  EXPECT_EQ(cut_rows(Longs{4, 4, 30, 4}, size), (Lists{{2}, {0, 1}, {3}}));
}

TEST(CutRows, AHeadStartKeepsItsLimit) {
  const Longs lengths(12, 10);
  // Two of 60 tokens; with a head start of 40: 80 and 40, unless the first may have 70 only.
  EXPECT_EQ(cut_rows(lengths, {.tokens = 60, .most_first = 120, .head_start = 40})[1].size(), 4);
  EXPECT_EQ(cut_rows(lengths, {.tokens = 60, .most_first = 70, .head_start = 40})[1].size(), 5);
  EXPECT_EQ(cut_rows(lengths, {.tokens = 60, .most_first = 60, .head_start = 40})[1].size(), 6);
}

// Every row once, within its limits, in no more micro-batches than without a head start.
TEST(CutRows, AnyStep) {
  std::mt19937 random(5);
  const auto tokens_of = [](const Longs& lengths, const Longs& rows) {
    return std::accumulate(rows.begin(), rows.end(), int64_t{0}, [&](int64_t sum, int64_t row) {
      return sum + lengths[static_cast<size_t>(row)];
    });
  };
  for (int i = 0; i < 300; ++i) {
    Longs lengths(1 + random() % 40);
    for (int64_t& length : lengths) length = 1 + static_cast<int64_t>(random() % 60);
    const int64_t start = static_cast<int64_t>(random() % 80);
    const auto even = cut_rows(lengths, {.tokens = 80, .most_first = 80, .head_start = 0});
    const auto lists = cut_rows(lengths, {.tokens = 80, .most_first = 160, .head_start = start});
    ASSERT_LE(lists.size(), even.size());
    Longs all;
    int64_t others = 0;
    for (const Longs& rows : lists) {
      ASSERT_TRUE(std::is_sorted(rows.begin(), rows.end()));
      all.insert(all.end(), rows.begin(), rows.end());
      if (&rows != lists.data()) others = std::max(others, tokens_of(lengths, rows));
    }
    std::sort(all.begin(), all.end());
    Longs every(lengths.size());
    std::iota(every.begin(), every.end(), int64_t{0});
    ASSERT_EQ(all, every);
    ASSERT_LE(others, 80);
    if (lists.size() == 1) continue;
    ASSERT_LE(tokens_of(lengths, lists[0]), std::min<int64_t>(160, 80 + start));
  }
}

}  // namespace
}  // namespace rlhf
