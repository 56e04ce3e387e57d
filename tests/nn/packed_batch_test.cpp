#include "rlhf/nn/packed_batch.h"

#include <gtest/gtest.h>

#include <string>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

std::vector<int64_t> list(const at::Tensor& tensor) {
  const auto plain = tensor.contiguous();
  return {plain.const_data_ptr<int64_t>(), plain.const_data_ptr<int64_t>() + plain.numel()};
}

using Longs = std::vector<int64_t>;

TEST(BatchRows, LaysRowsSideBySide) {
  // token   0   1   2   3 |  4   5 |  6
  // row     a           a |  b   b |  c
  // id     10  11  12  13 | 20  21 | 30
  // scored  -   .   x   x |  -   x |  -      (position 0 of a row has nothing before it)
  // so the hidden rows are 1, 2 (before tokens 2, 3) and 4 (before token 5).
  const std::vector<int32_t> a{10, 11, 12, 13}, b{20, 21}, c{30};
  const std::vector<uint8_t> on_a{1, 0, 1, 1}, on_b{0, 1}, on_c{1};
  const std::vector<PackRow> rows{{a, on_a, 7}, {b, on_b, 3}, {c, on_c, 5}};
  const auto batch = batch_rows(rows);
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

TEST(BatchRows, AnyNonZeroMaskValueSupervises) {
  const std::vector<int32_t> ids{1, 2, 3};
  const std::vector<uint8_t> on{0, 255, 2};
  EXPECT_EQ(list(batch_rows(std::vector<PackRow>{{ids, on, 0}}).targets), (Longs{2, 3}));
}

TEST(BatchRows, NothingGivesAnEmptyBatch) {
  const auto batch = batch_rows({});
  EXPECT_EQ(batch.tokens(), 0);
  EXPECT_EQ(batch.scored(), 0);
  EXPECT_EQ(batch.row_begin, (Longs{0}));
}

TEST(BatchRows, RefusesEmptyRowsAndMasksOfAnotherLength) {
  const std::vector<int32_t> ids{1, 2};
  const std::vector<uint8_t> on{1};
  EXPECT_THROW(batch_rows(std::vector<PackRow>{{ids, on, 0}}), Error);
  EXPECT_THROW(batch_rows(std::vector<PackRow>{{{}, {}, 0}}), Error);
}

// A prompt p of 3 tokens with answers a (2 tokens) and b (1), then q of 2 with the single answer c.
//   token    0  1  2 |  3  4 |  5 |  6  7  8
//   segment  p       |  a    |  b |  q+c
//   id      10 11 12 | 20 21 | 30 | 40 41 50
//   place    0  1  2 |  3  4 |  3 |  0  1  2
// 20 and 30 are both predicted from token 2, 21 from 3, 50 from 7.
TEST(BatchPrompts, AnswersShareTheirPrompt) {
  const std::vector<int32_t> p{10, 11, 12}, a{20, 21}, b{30}, q{40, 41}, c{50};
  const std::vector<PackPrompt> prompts{{p, {{a, 5}, {b, 6}}}, {q, {{c, 9}}}};
  const auto batch = batch_prompts(prompts);
  EXPECT_EQ(list(batch.ids), (Longs{10, 11, 12, 20, 21, 30, 40, 41, 50}));
  EXPECT_EQ(list(batch.positions), (Longs{0, 1, 2, 3, 4, 3, 0, 1, 2}));
  EXPECT_EQ(list(batch.rows), (Longs{2, 3, 2, 7}));
  EXPECT_EQ(list(batch.targets), (Longs{20, 21, 30, 50}));
  EXPECT_EQ(batch.row_of, (Longs{5, 5, 6, 9}));
  EXPECT_EQ(batch.row_begin, (Longs{0, 2, 3, 4}));
  EXPECT_EQ(batch.row_end, (Longs{4, 5, 8}));
  ASSERT_EQ(batch.segments.size(), 4U);
  EXPECT_EQ(batch.segments[1].prefix, 0);
  EXPECT_EQ(batch.segments[2].prefix, 0);
  EXPECT_EQ(batch.segments[3].prefix, -1);
  EXPECT_EQ(prompts[0].tokens(100), 6);
}

// The same pair where a row of 5 tokens is above the limit of 4: p is repeated.
//   token    0  1  2  3  4 |  5  6  7  8
//   id      10 11 12 20 21 | 10 11 12 30
TEST(BatchPrompts, LongRowsRepeatTheirPrompt) {
  const std::vector<int32_t> p{10, 11, 12}, a{20, 21}, b{30};
  const std::vector<PackPrompt> prompts{{p, {{a, 0}, {b, 1}}}};
  const auto batch = batch_prompts(prompts, /*share_limit=*/4);
  EXPECT_EQ(list(batch.ids), (Longs{10, 11, 12, 20, 21, 10, 11, 12, 30}));
  EXPECT_EQ(list(batch.positions), (Longs{0, 1, 2, 3, 4, 0, 1, 2, 3}));
  EXPECT_EQ(list(batch.rows), (Longs{2, 3, 7}));
  EXPECT_EQ(batch.row_end, (Longs{4, 8}));
  ASSERT_EQ(batch.segments.size(), 2U);
  EXPECT_EQ(batch.segments[1].prefix, -1);
  EXPECT_EQ(prompts[0].tokens(4), 9);
}

// With the prompt scored as row 7, its tokens 11 and 12 come first (from tokens 0 and 1), once.
TEST(BatchPrompts, APromptMayBeScoredItself) {
  const std::vector<int32_t> p{10, 11, 12}, a{20}, b{30};
  for (const int64_t limit : {100, 0}) {
    const auto batch =
        batch_prompts(std::vector<PackPrompt>{{p, {{a, 0}, {b, 1}}, /*scored_as=*/7}}, limit);
    EXPECT_EQ(list(batch.targets), (Longs{11, 12, 20, 30})) << limit;
    EXPECT_EQ(batch.row_of, (Longs{7, 7, 0, 1})) << limit;
    EXPECT_EQ(batch.row_begin, (Longs{0, 2, 3, 4})) << limit;
  }
}

// Without a prompt the first token of an answer has nothing before it, as in a row of its own.
TEST(BatchPrompts, AnEmptyPromptLeavesTheFirstTokenOut) {
  const std::vector<int32_t> a{20, 21}, b{30};
  const auto batch = batch_prompts(std::vector<PackPrompt>{{{}, {{a, 0}, {b, 1}}}});
  EXPECT_EQ(list(batch.targets), (Longs{21}));
  EXPECT_EQ(batch.row_begin, (Longs{0, 1, 1}));
  EXPECT_EQ(batch.row_end, (Longs{1, 2}));
}

TEST(BatchPrompts, RefusesPromptsWithoutAnswers) {
  const std::vector<int32_t> p{10};
  EXPECT_THROW(batch_prompts(std::vector<PackPrompt>{{p, {}}}), Error);
  EXPECT_THROW(batch_prompts(std::vector<PackPrompt>{{p, {{{}, 0}}}}), Error);
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
