#include "rlhf/core/utf8.h"

#include <gtest/gtest.h>

namespace rlhf {
namespace {

TEST(Utf8, FindsTheFirstBadByte) {
  EXPECT_TRUE(valid_utf8("plain, gr\u00f6\u00dfer \u4e2d \U0010FFFF"));
  EXPECT_EQ(invalid_utf8_at("abcdefgh\u00e9\xC3"), 10u);
  EXPECT_EQ(invalid_utf8_at("\xED\xA0\x80"), 0u);   // a surrogate
  EXPECT_EQ(invalid_utf8_at("a\xE0\x80\x80"), 1u);  // overlong
  EXPECT_EQ(invalid_utf8_at("a\xF4\x90\x80\x80"), 1u);
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // The Unicode standard's own example (table 3-8): six replacements between the letters.
  EXPECT_EQ(replace_invalid_utf8("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(incomplete_utf8_tail("ab"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("a\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incomplete_utf8_tail("a\xF0\x80"), 0u);  // can never complete
  EXPECT_EQ(incomplete_utf8_tail("a\xC3\xA9"), 0u);
}

}  // namespace
}  // namespace rlhf
