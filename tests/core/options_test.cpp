#include "rlhf/core/options.h"

#include <gtest/gtest.h>

namespace rlhf {

enum class Colour { red, green };
template <>
struct EnumNames<Colour> {
  static constexpr std::array<std::string_view, 2> names = {"red", "green"};
};

namespace {

struct Part {
  std::string path;
  std::optional<double> share;
};

struct Inner {
  int64_t depth = 1;
};

struct Config {
  double rate = 2e-5;
  int64_t steps = -1;
  bool pack = false;
  std::string name = "run";
  std::optional<int64_t> length = 1024;
  std::optional<bool> half;
  Colour colour = Colour::red;
  std::vector<std::string> reports = {"none"};
  std::vector<double> weights;
  std::optional<std::vector<std::string>> columns;
  Json tree;
  Inner inner;
  std::vector<Part> parts;
};

void declare_part(OptionSet& set, Part& part) {
  set.add("path", part.path, "File.");
  set.add("share", part.share, "Share.").above(0);
}

/// Reads a text and keeps what was said about it.
class OptionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_.add("rate", config_.rate, "Rate.").above(0);
    set_.add("steps", config_.steps, "Steps.").at_least(-1).old_name("max_iters");
    set_.add("pack", config_.pack, "Pack.");
    set_.add("name", config_.name, "Name.");
    set_.add("length", config_.length, "Length.").at_least(1);
    set_.add("half", config_.half, "Half.");
    set_.add("colour", config_.colour, "Colour.")
        .spelling("crimson", "red")
        .spelling("true", "green");
    set_.add("reports", config_.reports, "Reports.");
    set_.add("weights", config_.weights, "Weights.").between(0, 1);
    set_.add("columns", config_.columns, "Columns.");
    set_.add("tree", config_.tree, "Tree.");
    set_.add_record("inner", config_.inner, "Inner.", [](OptionSet& set, Inner& inner) {
      set.add("depth", inner.depth, "Depth.").at_least(0);
    });
    set_.add_records("parts", config_.parts, "Parts.", declare_part);
    set_.add_inert({InertKey::Status::accepted, "workers", 0, "there are none."});
    set_.add_inert({InertKey::Status::refused, "fp16", false, "use bf16."});
    set_.add_inert({InertKey::Status::refused, "fsdp", "", "remove it."});
    set_.add_inert({InertKey::Status::elsewhere, "use_peft", false, "remove it."});
  }

  void read(const std::string& text) {
    Problems problems;
    notes_.clear();
    problems_.clear();
    set_.apply(parse_config_text(text, "run.yaml"), "run.yaml", "", problems, &notes_);
    try {
      problems.throw_if_any();
    } catch (const UserError& error) {
      for (const auto& problem : error.problems()) problems_.push_back(problem.text());
    }
  }

  Config config_;
  OptionSet set_;
  std::vector<std::string> notes_;
  std::vector<std::string> problems_;
};

using Texts = std::vector<std::string>;

TEST_F(OptionsTest, ReadsEveryType) {
  read(R"(
rate: "1e-5"
steps: 10
pack: "true"
name: 12
length: null
half: no
colour: green
reports: [a, b]
weights: [0, 0.5, 1]
columns: [x]
tree: {a: [1, x]}
inner: {depth: 3}
parts:
- path: a.jsonl
  share: 0.25
- path: b.jsonl
)");
  EXPECT_EQ(problems_, Texts{});
  EXPECT_EQ(config_.rate, 1e-5);
  EXPECT_EQ(config_.steps, 10);
  EXPECT_TRUE(config_.pack);
  EXPECT_EQ(config_.name, "12");
  EXPECT_EQ(config_.length, std::nullopt);
  EXPECT_EQ(config_.half, false);
  EXPECT_EQ(config_.colour, Colour::green);
  EXPECT_EQ(config_.reports, (Texts{"a", "b"}));
  EXPECT_EQ(config_.weights, (std::vector<double>{0, 0.5, 1}));
  EXPECT_EQ(config_.columns, Texts{"x"});
  EXPECT_EQ(config_.tree, Json::parse(R"({"a": [1, "x"]})"));
  EXPECT_EQ(config_.inner.depth, 3);
  ASSERT_EQ(config_.parts.size(), 2U);
  EXPECT_EQ(config_.parts[0].share, 0.25);
  EXPECT_EQ(config_.parts[1].path, "b.jsonl");
}

TEST_F(OptionsTest, OneValueIsAListOfOne) {
  read("reports: wandb\nweights: 0.5\n");
  EXPECT_EQ(config_.reports, Texts{"wandb"});
  EXPECT_EQ(config_.weights, std::vector<double>{0.5});
}

TEST_F(OptionsTest, OtherSpellingsOfAValue) {
  read("colour: true\n");
  EXPECT_EQ(config_.colour, Colour::green);
  read("colour: crimson\n");
  EXPECT_EQ(config_.colour, Colour::red);
}

TEST_F(OptionsTest, ReportsEveryProblemWithItsPlace) {
  read(R"(rat: 1
rate: 0
steps: -2
pack: 1
length: abc
colour: gren
weights: [0.5, 2]
inner: {dept: 3}
parts: [{path: a, share: 0}, {pth: b}]
)");
  EXPECT_EQ(
      problems_,
      (Texts{
          "[run.yaml:1 rat] unknown key. HINT: did you mean rate?",
          "[run.yaml:2 rate] expected number above 0, got 0. HINT: the default is 2.0e-05.",
          "[run.yaml:3 steps] expected integer at least -1, got -2. HINT: the default is -1.",
          "[run.yaml:4 pack] expected true or false, got 1. HINT: the default is false.",
          "[run.yaml:5 length] expected integer at least 1 or null, got \"abc\". HINT: the default "
          "is 1024.",
          "[run.yaml:6 colour] expected one of \"red\", \"green\", got \"gren\". HINT: did you "
          "mean "
          "green?",
          "[run.yaml:7 weights] expected list of number in [0, 1], got 2 as element 2. HINT: the "
          "default is [].",
          "[run.yaml:8 inner.dept] unknown key. HINT: did you mean depth?",
          "[run.yaml:9 parts[0].share] expected number above 0 or null, got 0. HINT: the default "
          "is null.",
          "[run.yaml:9 parts[1].pth] unknown key. HINT: did you mean path?"}));
  EXPECT_EQ(config_.rate, 2e-5) << "a bad value leaves the member alone";
}

TEST_F(OptionsTest, WrongShapes) {
  read("rate: [1]\nname: {a: 1}\ninner: 3\nparts: {path: a}\nsteps: null\n");
  EXPECT_EQ(
      problems_,
      (Texts{"[run.yaml:1 rate] expected number above 0, got a list. HINT: the default is 2.0e-05.",
             "[run.yaml:2 name] expected text, got nested keys. HINT: the default is run.",
             "[run.yaml:3 inner] expected nested keys, got 3. HINT: its keys are depth.",
             "[run.yaml:4 parts] expected list of nested keys, got nested keys. HINT: its keys are "
             "path, share.",
             "[run.yaml:5 steps] expected integer at least -1, got null. HINT: the default is "
             "-1."}));
}

TEST_F(OptionsTest, HintsNameTheKeysOfARecordAndTheAdviceOfADeclaration) {
  int64_t size = 1;
  set_.add("size", size, "Size.").at_least(1).advice("use at least one.");
  read("inner: {zzzzzz: 1}\nparts: [7]\nsize: 0\ncolour: 17\n");
  EXPECT_EQ(problems_,
            (Texts{"[run.yaml:1 inner.zzzzzz] unknown key. HINT: its keys are depth.",
                   "[run.yaml:2 parts[0]] expected nested keys, got 7. HINT: its keys are path, "
                   "share.",
                   "[run.yaml:3 size] expected integer at least 1, got 0. HINT: use at least one.",
                   "[run.yaml:4 colour] expected one of \"red\", \"green\", got 17. HINT: the "
                   "default is red."}));
}

TEST_F(OptionsTest, AKeySetTwiceIsAnError) {
  read("steps: 1\nmax_iters: 2\nrate: 1\nrate: 1\n");
  EXPECT_EQ(problems_,
            (Texts{"[run.yaml:2 max_iters] this key is set twice. HINT: keep one of the two.",
                   "[run.yaml:4 rate] this key is set twice. HINT: keep one of the two."}));
}

TEST_F(OptionsTest, OldNamesAreReadWithANote) {
  read("max_iters: 7\n");
  EXPECT_EQ(config_.steps, 7);
  EXPECT_EQ(notes_, Texts{"[run.yaml:1 max_iters] read as steps, its name today."});
}

TEST_F(OptionsTest, InertKeysAreSilentAtTheirDefault) {
  read("workers: 0\nfp16: False\nfsdp: ''\nuse_peft: null\n");
  EXPECT_EQ(problems_, Texts{});
  EXPECT_EQ(notes_, Texts{});
  read("fp16: no\nfsdp: \nworkers: \"0\"\n");
  EXPECT_EQ(problems_, Texts{});
  EXPECT_EQ(notes_, Texts{});
}

TEST_F(OptionsTest, InertKeysSpeakUpOtherwise) {
  read("workers: 4\nfp16: true\nfsdp: full_shard\nuse_peft: true\n");
  EXPECT_EQ(notes_, Texts{"[run.yaml:1 workers] has no effect: there are none."});
  EXPECT_EQ(problems_,
            (Texts{"[run.yaml:2 fp16] true is not supported. HINT: use bf16.",
                   "[run.yaml:3 fsdp] \"full_shard\" is not supported. HINT: remove it.",
                   "[run.yaml:4 use_peft] not an option of this command. HINT: remove it."}));
}

TEST_F(OptionsTest, DefaultsAreTheMembersValuesAtDeclaration) {
  config_.rate = 5;
  EXPECT_EQ(set_.find("rate")->default_value, 2e-5);
  EXPECT_EQ(set_.find("rate")->get(), 5.0);
  EXPECT_EQ(set_.find("length")->default_value, 1024);
  EXPECT_EQ(set_.find("colour")->default_value, "red");
  EXPECT_EQ(set_.find("max_iters"), nullptr);
  EXPECT_EQ(set_.find_renamed("max_iters")->name, "steps");
}

TEST_F(OptionsTest, DeclaringTwiceIsABrokenPromise) {
  EXPECT_THROW(set_.add("rate", config_.rate, "Again."), Error);
  EXPECT_THROW(set_.add("fp16", config_.pack, "Inert already."), Error);
}

TEST(ValueRange, Texts) {
  EXPECT_EQ((ValueRange{.min = 0, .max = 1, .max_open = true}).text(), "in [0, 1)");
  EXPECT_EQ((ValueRange{.min = 0, .min_open = true}).text(), "above 0");
  EXPECT_EQ((ValueRange{.max = 2.5}).text(), "at most 2.5");
  EXPECT_FALSE((ValueRange{.min = 0, .max = 1, .max_open = true}).holds(1));
  EXPECT_FALSE(ValueRange{}.holds(std::numeric_limits<double>::quiet_NaN()));
}

}  // namespace
}  // namespace rlhf
