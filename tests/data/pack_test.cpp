#include "rlhf/data/pack.h"

#include <gtest/gtest.h>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"

namespace rlhf {
namespace {

using Packs = std::vector<std::vector<PackPiece>>;

Packs packs_of(const PackPlan& plan) {
  Packs packs;
  for (int64_t i = 0; i < plan.packs(); ++i)
    packs.emplace_back(plan.pack(i).begin(), plan.pack(i).end());
  return packs;
}

Packs pack(std::vector<int64_t> lengths, PackStrategy strategy, std::vector<int64_t> order = {}) {
  return packs_of(pack_rows(lengths, {.max_length = 4, .strategy = strategy}, order));
}

// The example of TRL's documentation of pack_dataset: lengths 5, 2, 3, 1 into 4.
TEST(Pack, FollowsTheDocumentedExample) {
  EXPECT_EQ(pack({5, 2, 3, 1}, PackStrategy::bfd),
            (Packs{{{0, 0, 4}}, {{2, 0, 3}, {3, 0, 1}}, {{1, 0, 2}}}));
  EXPECT_EQ(pack({5, 2, 3, 1}, PackStrategy::bfd_split),
            (Packs{{{0, 0, 4}}, {{2, 0, 3}, {0, 4, 5}}, {{1, 0, 2}, {3, 0, 1}}}));
  EXPECT_EQ(pack({5, 2, 3, 1}, PackStrategy::wrapped),
            (Packs{{{0, 0, 4}}, {{0, 4, 5}, {1, 0, 2}, {2, 0, 1}}, {{2, 1, 3}, {3, 0, 1}}}));
}

TEST(Pack, TakesRowsInTheGivenOrder) {
  EXPECT_EQ(pack({2, 2, 2}, PackStrategy::wrapped, {2, 0, 1}),
            (Packs{{{2, 0, 2}, {0, 0, 2}}, {{1, 0, 2}}}));
}

TEST(Pack, CountsWhatIsCut) {
  const PackPlan plan = pack_rows(std::vector<int64_t>{5, 2, 9}, {.max_length = 4});
  EXPECT_EQ(plan.rows_cut, 2);
  EXPECT_EQ(plan.tokens_cut, 6);
}

TEST(Pack, EveryTokenOnceAndNoPackTooLong) {
  Random random(3, {1});
  std::vector<int64_t> lengths(3000);
  for (auto& length : lengths) length = static_cast<int64_t>(random.below(300));
  for (const auto strategy : {PackStrategy::bfd, PackStrategy::bfd_split, PackStrategy::wrapped}) {
    for (const int64_t group : {int64_t{0}, int64_t{1000}}) {
      const PackPlan plan =
          pack_rows(lengths, {.max_length = 128, .strategy = strategy, .rows_per_group = group});
      std::vector<std::vector<int>> seen;
      for (const int64_t length : lengths) seen.emplace_back(static_cast<size_t>(length));
      for (int64_t p = 0; p < plan.packs(); ++p) {
        EXPECT_LE(plan.length(p), 128);
        for (const PackPiece& piece : plan.pack(p)) {
          for (int64_t i = piece.begin; i < piece.end; ++i)
            ++seen[static_cast<size_t>(piece.row)][static_cast<size_t>(i)];
        }
      }
      for (const auto& row : seen) {
        for (size_t i = 0; i < row.size(); ++i) {
          ASSERT_EQ(row[i], strategy == PackStrategy::bfd && i >= 128 ? 0 : 1);
        }
      }
    }
  }
}

TEST(Pack, RefusesNonsense) {
  EXPECT_THROW(pack_rows(std::vector<int64_t>{1}, {.max_length = 0}), Error);
  EXPECT_THROW(pack_rows(std::vector<int64_t>{1}, {.max_length = 4}, std::vector<int64_t>{0, 1}),
               Error);
}

}  // namespace
}  // namespace rlhf
