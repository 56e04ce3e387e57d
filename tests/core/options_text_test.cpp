#include "rlhf/core/options_text.h"

#include <gtest/gtest.h>

namespace rlhf {

enum class Mode { first, second };
template <>
struct EnumNames<Mode> {
  static constexpr std::array<std::string_view, 2> names = {"first", "second"};
};

namespace {

struct Inner {
  std::optional<double> power;
};

struct Config {
  double rate = 2e-5;
  std::optional<int64_t> length = 1024;
  Mode mode = Mode::first;
  std::vector<std::string> names = {"a", "b"};
  Inner inner;
  std::string text = "x | y";
};

void declare(OptionSet& set, Config& config) {
  set.group("Optimiser");
  set.add("rate", config.rate, "Peak rate.").above(0).written("η").old_name("lr");
  set.group("Data");
  set.add("length", config.length, "Longest row.").at_least(1);
  set.add("mode", config.mode, "Mode.").spelling("1st", "first");
  set.add("names", config.names, "Names.");
  set.add_record("inner", config.inner, "Inner.", [](OptionSet& inner, Inner& member) {
    inner.add("power", member.power, "Power.").between(0, 1);
  });
  set.add("text", config.text, "Text with | in it.");
  set.add_inert({InertKey::Status::accepted, "workers", 0, "there are none."});
  set.add_inert({InertKey::Status::refused, "fp16", false, "use bf16."});
  set.add_inert({InertKey::Status::elsewhere, "peft", nullptr, "wait."});
}

class OptionsTextTest : public ::testing::Test {
 protected:
  void SetUp() override { declare(set_, config_); }
  Config config_;
  OptionSet set_;
};

TEST_F(OptionsTextTest, Help) {
  EXPECT_EQ(help_text(set_, "usage\n"), R"(usage

Optimiser
  --rate X                        Peak rate. Symbol: η. (above 0; default 2.0e-05)

Data
  --length N                      Longest row. (at least 1; default 1024)
  --mode TEXT                     Mode. (first|second; default first)
  --names TEXT ...                Names. (default [a, b])
  --inner YAML                    Inner. (default unset)
  --text TEXT                     Text with | in it. (default "x | y")
)");
}

TEST_F(OptionsTextTest, HelpStaysWithin100Columns) {
  std::string long_meaning;
  for (int i = 0; i < 60; ++i) long_meaning += "word ";
  bool flag = false;
  OptionSet set;
  set.add("a_flag_whose_name_is_longer_than_its_column", flag, long_meaning);
  const std::string help = help_text(set, "");
  size_t begin = 0;
  while (begin < help.size()) {
    const size_t end = help.find('\n', begin);
    EXPECT_LE(end - begin, 100U);
    begin = end + 1;
  }
  EXPECT_NE(help.find("(default false)"), std::string::npos);
}

TEST_F(OptionsTextTest, Markdown) {
  EXPECT_EQ(options_markdown(set_, "##"), R"(## Optimiser

| key | value | default | meaning |
|---|---|---|---|
| `rate` | number above 0 | `2.0e-05` | Peak rate. Symbol: η. Old name: `lr`. |

## Data

| key | value | default | meaning |
|---|---|---|---|
| `length` | integer at least 1 or null | `1024` | Longest row. |
| `mode` | `first`, `second` | `first` | Mode. |
| `names` | list of text | `[a, b]` | Names. |
| `inner` | nested keys | unset | Inner. |
| `inner.power` | number in [0, 1] or null | `null` | Power. |
| `text` | text | `"x \| y"` | Text with \| in it. |

## Accepted, without effect

| key | why it has none |
|---|---|
| `workers` | there are none. |

## Refused

| key | instead |
|---|---|
| `fp16` | use bf16. |

## Of other commands

| key | instead |
|---|---|
| `peft` | wait. |
)");
}

TEST_F(OptionsTextTest, Schema) {
  const Json schema = options_schema(set_, "a command");
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["additionalProperties"], false);
  const Json& keys = schema["properties"];
  EXPECT_EQ(keys["rate"],
            Json::parse(R"({"type": "number", "exclusiveMinimum": 0.0, "description": "Peak rate.",
                                          "default": 2e-5})"));
  EXPECT_EQ(keys["lr"]["deprecated"], true);
  EXPECT_EQ(keys["length"]["anyOf"],
            Json::parse(R"([{"type": "integer", "minimum": 1}, {"type": "null"}])"));
  EXPECT_EQ(keys["mode"]["anyOf"],
            Json::parse(R"([{"type": "string", "enum": ["first", "second"]}, {"enum": ["1st"]}])"));
  EXPECT_EQ(keys["names"]["anyOf"],
            Json::parse(R"([{"type": "array", "items": {"type": "string"}}, {"type": "string"}])"));
  EXPECT_EQ(keys["inner"]["properties"]["power"]["anyOf"][0]["maximum"], 1.0);
  EXPECT_EQ(keys["fp16"]["enum"], Json::parse("[null, false]"));
  EXPECT_EQ(keys["workers"], Json::parse(R"({"description": "No effect: there are none."})"));
}

TEST_F(OptionsTextTest, TableMarksWhatWasChanged) {
  config_.rate = 1e-4;
  config_.inner.power = 0.5;
  EXPECT_EQ(options_table(set_), R"(Optimiser
* rate    0.0001        (default 2.0e-05)
Data
  length  1024
  mode    first
  names   [a, b]
* inner   {power: 0.5}  (default unset)
  text    "x | y"
)");
}

TEST_F(OptionsTextTest, YamlReadsBackToTheSame) {
  config_.rate = 0.1 + 0.2;
  config_.length = std::nullopt;
  config_.names = {"no", "1"};
  config_.mode = Mode::second;
  config_.inner.power = 1;
  const std::string yaml = options_yaml(set_);
  Config other;
  OptionSet set;
  declare(set, other);
  Problems problems;
  set.apply(parse_config_text(yaml, "run.yaml"), "run.yaml", "", problems, /*notes=*/nullptr);
  EXPECT_NO_THROW(problems.throw_if_any());
  EXPECT_EQ(set.values(), set_.values());
  EXPECT_EQ(options_yaml(set), yaml);
}

}  // namespace
}  // namespace rlhf
