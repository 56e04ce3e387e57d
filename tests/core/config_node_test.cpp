#include "rlhf/core/config_node.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"

namespace rlhf {
namespace {

Json json_of(const std::string& text) { return to_json(parse_config_text(text, "test.yaml")); }

TEST(ConfigNode, ReadsScalarsByYaml12AndNumbersWithoutAPoint) {
  EXPECT_EQ(json_of("[1, -2, 1.5, 1e-5, 2.0e-05, .5]"),
            Json::parse("[1, -2, 1.5, 1e-5, 2e-5, 0.5]"));
  EXPECT_EQ(json_of("[true, False, null, ~, None, ]"),
            Json::parse("[true, false, null, null, null]"));
  EXPECT_EQ(json_of(R"(["1", 'true', "null", ""])"), Json::parse(R"(["1", "true", "null", ""])"));
  EXPECT_EQ(json_of("[no, on, inf, 1.2.3, 12abc, e5, 0x10]"),
            Json::parse(R"(["no", "on", "inf", "1.2.3", "12abc", "e5", "0x10"])"));
}

TEST(ConfigNode, KeepsLines) {
  const ConfigNode node =
      parse_config_text("a: 1\n\nb:\n  - x: 2\n    y: 3\nc: {d: 4}\n", "test.yaml");
  EXPECT_EQ(node.find("a")->line, 1);
  EXPECT_EQ(node.find("b")->line, 3);
  EXPECT_EQ(node.find("b")->items.at(0).find("y")->line, 5);
  EXPECT_EQ(node.find("c")->find("d")->line, 6);
  EXPECT_EQ(node.find("e"), nullptr);
}

TEST(ConfigNode, KeepsRepeatedKeys) {
  const ConfigNode node = parse_config_text("a: 1\nb: 2\na: 3\n", "test.yaml");
  ASSERT_EQ(node.entries.size(), 3U);
  EXPECT_EQ(node.entries[2].first, "a");
  EXPECT_EQ(node.entries[2].second.text, "3");
}

TEST(ConfigNode, ReadsJson) {
  EXPECT_EQ(
      json_of("{\n\t\"a\": [1, 2.5, \"x\\ny\", true, null],\n\t\"b\": {\"c\": \"\\u00e9\"}\n}"),
      Json::parse(R"({"a": [1, 2.5, "x\ny", true, null], "b": {"c": "é"}})"));
}

TEST(ConfigNode, NamesTheLineOfASyntaxError) {
  try {
    parse_config_text("a: 1\nb: [1, 2\nc: 3\n", "run.yaml");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.problems().at(0).where.rfind("run.yaml:", 0), 0U) << error.what();
  }
  EXPECT_THROW(parse_config_text("a: 1\n---\nb: 2\n", "run.yaml"), UserError);
  EXPECT_THROW(parse_config_text("&a [*a]", "run.yaml"), UserError)
      << "an anchor that contains itself";
  EXPECT_THROW(parse_config_text(std::string(40, '[') + std::string(40, ']'), "run.yaml"),
               UserError);
}

TEST(ConfigNode, RefusesBytesThatYamlCppWouldGuessAt) {
  const auto place_of = [](std::string_view text) -> std::string {
    try {
      parse_config_text(std::string(text), "run.yaml");
    } catch (const UserError& error) {
      return error.problems().at(0).where;
    }
    return "";
  };
  using std::string_view_literals::operator""sv;
  EXPECT_EQ(place_of("a: 1\nb: \xFF\n"), "run.yaml:2");
  EXPECT_EQ(place_of("\xFE\xFF\0a"sv), "run.yaml:1");       // UTF-16
  EXPECT_EQ(place_of("a\0:\0"sv), "run.yaml:1");            // UTF-16 without its mark
  EXPECT_EQ(place_of("a: 1\n\x04\nb: 2\n"), "run.yaml:2");  // yaml-cpp takes it for the end
  EXPECT_EQ(place_of("\xEF\xBB\xBF"
                     "a: \"gr\u00fcn\"\r\n\tb"),
            "run.yaml:2");
  EXPECT_EQ(to_json(parse_config_text("\xEF\xBB\xBF"
                                      "a: gr\u00fcn\r\nb: 1",
                                      "run.yaml")),
            Json::parse(R"({"a": "gr\u00fcn", "b": 1})"));
}

TEST(ConfigNode, BooleansIntegersNumbers) {
  const auto scalar = [](const char* text) { return ConfigNode::scalar(text); };
  bool flag = false;
  EXPECT_TRUE(read_boolean(scalar("yes"), flag) && flag);
  EXPECT_TRUE(read_boolean(scalar("OFF"), flag) && !flag);
  EXPECT_FALSE(read_boolean(scalar("1"), flag));
  EXPECT_FALSE(read_boolean(scalar("tRuE"), flag));
  int64_t integer = 0;
  EXPECT_TRUE(read_integer(scalar("9223372036854775807"), integer) && integer == INT64_MAX);
  EXPECT_TRUE(read_integer(scalar("1e3"), integer) && integer == 1000);
  EXPECT_TRUE(read_integer(scalar("+5"), integer) && integer == 5);
  EXPECT_FALSE(read_integer(scalar("1.5"), integer));
  EXPECT_FALSE(read_integer(scalar("9223372036854775808"), integer));
  EXPECT_FALSE(read_integer(scalar("12 "), integer));
  EXPECT_FALSE(read_integer(scalar(""), integer));
  double number = 0;
  EXPECT_TRUE(read_number(scalar("-.inf"), number) &&
              number == -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(read_number(scalar("+2e-5"), number) && number == 2e-5);
  EXPECT_FALSE(read_number(scalar("+-2"), number));
  EXPECT_FALSE(read_number(scalar("2e"), number));
  EXPECT_FALSE(read_number(scalar("."), number));
}

TEST(ConfigNode, NumbersAreWrittenShortestAndRoundTrip) {
  EXPECT_EQ(number_text(2e-5), "2.0e-05");
  EXPECT_EQ(number_text(0.1), "0.1");
  EXPECT_EQ(number_text(3), "3.0");
  EXPECT_EQ(number_text(-1.5e300), "-1.5e+300");
  Random random(1, {1});
  for (int i = 0; i < 10000; ++i) {
    const auto bits = random.next64();
    double value = 0;
    static_assert(sizeof(bits) == sizeof(value));
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    double back = 0;
    ASSERT_TRUE(read_number(ConfigNode::scalar(number_text(value)), back));
    ASSERT_EQ(back, value);
  }
}

TEST(ConfigNode, YamlIsReadBackAsWritten) {
  const Json value = Json::parse(R"({
    "plain": "model/folder-1", "number": 2e-05, "whole": 3.0, "integer": -7, "flag": true, "none": null,
    "words": ["true", "null", "1e-5", "", "no", "~", "None", "12", ".inf", "a: b", "- x", "#c", "'q'", "\"d\"", "é<|eos|>", "a\nb\t"],
    "empty": [], "nothing": {}, "nested": {"a": {"b": [1, 2]}, "c": "x"},
    "parts": [{"path": "a.jsonl", "columns": ["x", "y"], "more": {"k": 1}}, {}, {"path": "b"}, [1, [2, 3]], 5]
  })");
  EXPECT_EQ(json_of(to_yaml(value)), value) << to_yaml(value);
  EXPECT_TRUE(json_of(to_yaml({{"x", 3.0}}))["x"].is_number_float());
  EXPECT_EQ(to_yaml({{"a", Json::parse(R"([{"b": 1, "c": "x y"}])")}}),
            "a:\n- b: 1\n  c: \"x y\"\n");
}

}  // namespace
}  // namespace rlhf
