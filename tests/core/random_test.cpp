// Expected words: tools/make_random.py, an implementation in plain integers that is checked against
// Random123's published answers.
#include "rlhf/core/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

namespace rlhf {
namespace {

void expect_words(Random random, const std::array<uint32_t, 8>& words) {
  for (const uint32_t word : words) EXPECT_EQ(random.next32(), word);
}

TEST(Random, IsPhilox) {
  expect_words(Random(0, {1, 0}), {0x9FDE5795, 0x5727360C, 0x1A2D5D18, 0xABE338C4, 0xEF7EC4C1,
                                   0x1C082CAE, 0x9AB7C460, 0x3746A470});
  expect_words(Random(42, {1, 3}), {0xB7A17A1C, 0xC19DAD37, 0xA8123F65, 0xD5FC7C5C, 0xD8441496,
                                    0x2CDC0890, 0xD1901D7E, 0xF03F7774});
  expect_words(Random(UINT64_MAX, {4, 7, uint64_t{1} << 40, 5}),
               {0x70F54822, 0x49559B2C, 0xFC772F77, 0x234B756D, 0xC0B0224B, 0x23C83278, 0xFDA8E378,
                0x1B2E95F3});
}

TEST(Random, NumbersComeFromTheWords) {
  // From the first two words of (0, {1, 0}): the high word first, 53 bits of the pair.
  EXPECT_EQ(Random(0, {1, 0}).next64(), 0x9FDE57955727360CU);
  EXPECT_EQ(Random(0, {1, 0}).uniform(),
            static_cast<double>(0x9FDE57955727360CU >> 11) / 9007199254740992.0);
}

TEST(Random, StreamsDiffer) {
  std::set<uint64_t> first;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t purpose = 0; purpose < 10; ++purpose) {
      for (uint64_t index = 0; index < 10; ++index)
        first.insert(Random(seed, {purpose, index}).next64());
    }
  }
  EXPECT_EQ(first.size(), 1000U);
  EXPECT_NE(Random(1, {2}).next64(), Random(2, {1}).next64());
  EXPECT_NE(Random(0, {1, 2}).next64(), Random(0, {2, 1}).next64());
  EXPECT_NE(Random(0, {1}).next64(), Random(0, {1, 0}).next64());
}

TEST(Random, BelowIsUniform) {
  Random random(7, {1});
  std::array<int, 6> counts{};
  constexpr int kDraws = 60000;
  for (int i = 0; i < kDraws; ++i) ++counts.at(random.below(6));
  // Chi squared with 5 degrees of freedom: 20.5 is passed once in a thousand; the stream is fixed.
  double chi = 0;
  for (const int count : counts) chi += (count - 1e4) * (count - 1e4) / 1e4;
  EXPECT_LT(chi, 20.5);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(random.below(1), 0U);
}

TEST(Random, NormalHasItsMoments) {
  Random random(3, {1});
  constexpr int kDraws = 200000;
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
  }
  // Four standard errors: 1/sqrt(n), sqrt(2/n), sqrt(96/n).
  EXPECT_NEAR(sum / kDraws, 0, 4 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 4 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3, 4 * std::sqrt(96.0 / kDraws));
}

}  // namespace
}  // namespace rlhf
