#include "rlhf/nn/packed_batch.h"

#include <gtest/gtest.h>

#include <string>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

std::vector<int64_t> list(const torch::Tensor& tensor) {
  const auto plain = tensor.contiguous();
  return {plain.const_data_ptr<int64_t>(), plain.const_data_ptr<int64_t>() + plain.numel()};
}

using Longs = std::vector<int64_t>;

TEST(PackRows, LaysRowsSideBySide) {
  // token   0   1   2   3 |  4   5 |  6
  // row     a           a |  b   b |  c
  // id     10  11  12  13 | 20  21 | 30
  // scored  -   .   x   x |  -   x |  -      (position 0 of a row has nothing before it)
  // so the hidden rows are 1, 2 (before tokens 2, 3) and 4 (before token 5).
  const std::vector<int32_t> a{10, 11, 12, 13}, b{20, 21}, c{30};
  const std::vector<uint8_t> on_a{1, 0, 1, 1}, on_b{0, 1}, on_c{1};
  const std::vector<PackRow> rows{{a, on_a, 7}, {b, on_b, 3}, {c, on_c, 5}};
  const auto batch = pack_rows(rows);
  EXPECT_EQ(list(batch.ids), (Longs{10, 11, 12, 13, 20, 21, 30}));
  EXPECT_EQ(list(batch.positions), (Longs{0, 1, 2, 3, 0, 1, 0}));
  EXPECT_EQ(list(batch.rows), (Longs{1, 2, 4}));
  EXPECT_EQ(list(batch.targets), (Longs{12, 13, 21}));
  EXPECT_EQ(batch.row_of, (Longs{7, 7, 3}));
  EXPECT_EQ(batch.row_begin, (Longs{0, 2, 3, 3}));
  EXPECT_EQ(batch.tokens(), 7);
  EXPECT_EQ(batch.scored(), 3);
  ASSERT_EQ(batch.segments.size(), 3U);
  for (const auto& [segment, begin, length] : {std::tuple{batch.segments[0], 0, 4},
                                               {batch.segments[1], 4, 2},
                                               {batch.segments[2], 6, 1}}) {
    EXPECT_EQ(segment.begin, begin);
    EXPECT_EQ(segment.length, length);
    EXPECT_EQ(segment.prefix, -1);
  }
}

TEST(PackRows, AnyNonZeroMaskValueSupervises) {
  const std::vector<int32_t> ids{1, 2, 3};
  const std::vector<uint8_t> on{0, 255, 2};
  EXPECT_EQ(list(pack_rows(std::vector<PackRow>{{ids, on, 0}}).targets), (Longs{2, 3}));
}

TEST(PackRows, NothingGivesAnEmptyBatch) {
  const auto batch = pack_rows({});
  EXPECT_EQ(batch.tokens(), 0);
  EXPECT_EQ(batch.scored(), 0);
  EXPECT_EQ(batch.row_begin, (Longs{0}));
}

TEST(PackRows, RefusesEmptyRowsAndMasksOfAnotherLength) {
  const std::vector<int32_t> ids{1, 2};
  const std::vector<uint8_t> on{1};
  EXPECT_THROW(pack_rows(std::vector<PackRow>{{ids, on, 0}}), Error);
  EXPECT_THROW(pack_rows(std::vector<PackRow>{{{}, {}, 0}}), Error);
}

TEST(CutByTokens, FillsRunsInOrder) {
  // 3+4 = 7, +2 would be 9 > 8; 2+1+5 = 8 fits exactly; 9 stands alone though it is over.
  const Longs lengths{3, 4, 2, 1, 5, 9, 1};
  EXPECT_EQ(cut_by_tokens(lengths, 8), (Longs{0, 2, 5, 6, 7}));
  EXPECT_EQ(cut_by_tokens(lengths, 1000), (Longs{0, 7}));
  EXPECT_EQ(cut_by_tokens(lengths, 1), (Longs{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(cut_by_tokens(Longs{20, 3}, 8), (Longs{0, 1, 2}))
      << "a first row over the budget leaves no empty run";
}

TEST(CutByTokens, NothingGivesNoRun) { EXPECT_EQ(cut_by_tokens({}, 8), (Longs{0})); }

}  // namespace
}  // namespace rlhf
