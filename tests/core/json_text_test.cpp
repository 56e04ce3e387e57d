#include "rlhf/core/json_text.h"

#include <gtest/gtest.h>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

TEST(JsonText, DepthCountsBracketsOutsideStrings) {
  EXPECT_EQ(json_depth("1"), 0);
  EXPECT_EQ(json_depth(R"([{"a": [1]}, [2]])"), 3);
  EXPECT_EQ(json_depth(R"({"[[[": "\"[[", "\\": []})"), 2);
  EXPECT_EQ(json_depth("]]][[\"["), 0);  // closed before they open: no JSON at all
  EXPECT_EQ(json_depth("\"\\"), 0);
}

TEST(JsonText, RefusesWhatIsNoJsonAndWhatNestsTooDeep) {
  const auto problem = [](const std::string& text) -> std::string {
    try {
      parse_json(text, "a.json");
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  const auto nested = [](size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  EXPECT_EQ(parse_json(R"({"a": [1, null]})", "a.json"), Json::parse(R"({"a": [1, null]})"));
  EXPECT_EQ(problem(nested(256)), "");
  EXPECT_EQ(problem(nested(257)), "[a.json] JSON of at most 256 levels was expected, got 257.");
  EXPECT_EQ(problem(nested(1'000'000)),
            "[a.json] JSON of at most 256 levels was expected, got 1000000.");
  EXPECT_TRUE(problem("{\"a\": 1,\n x}")
                  .starts_with("[a.json] JSON was expected, got parse error at line 2, column 2"))
      << problem("{\"a\": 1,\n x}");
  EXPECT_NE(problem("\"\xFF\""), "");
}

}  // namespace
}  // namespace rlhf
