#include "rlhf/core/options_args.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace rlhf {
namespace {

struct Config {
  double learning_rate = 2e-5;
  int64_t max_steps = -1;
  bool packing = false;
  std::optional<std::string> eos_token;
  std::vector<std::string> report_to = {"none"};
  Json kwargs;
};

using Texts = std::vector<std::string>;

class ArgumentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_.add("learning_rate", config_.learning_rate, "Rate.").above(0);
    set_.add("max_steps", config_.max_steps, "Steps.").at_least(-1);
    set_.add("packing", config_.packing, "Pack.");
    set_.add("eos_token", config_.eos_token, "Token.");
    set_.add("report_to", config_.report_to, "Reports.");
    set_.add("kwargs", config_.kwargs, "Tree.");
    set_.add_inert({InertKey::Status::accepted, "do_train", false, "it always does."});
  }

  ParsedArguments parse(const Texts& args, const ArgumentRules& rules = {}) {
    Problems problems;
    problems_.clear();
    auto parsed = parse_arguments(set_, args, rules, problems);
    try {
      problems.throw_if_any();
    } catch (const UserError& error) {
      for (const auto& problem : error.problems()) problems_.push_back(problem.text());
    }
    return parsed;
  }

  Config config_;
  OptionSet set_;
  Texts problems_;
};

TEST_F(ArgumentsTest, ValuesBehindASpaceOrAnEqualsSign) {
  parse({"--learning_rate", "1e-4", "--max_steps=-1", "--eos-token", "<|im_end|>"});
  EXPECT_EQ(problems_, Texts{});
  EXPECT_EQ(config_.learning_rate, 1e-4);
  EXPECT_EQ(config_.max_steps, -1);
  EXPECT_EQ(config_.eos_token, "<|im_end|>");
  parse({"--max_steps", "-1", "--eos_token", "null"});
  EXPECT_EQ(problems_, Texts{});
  EXPECT_EQ(config_.eos_token, std::nullopt);
}

TEST_F(ArgumentsTest, TextIsTakenAsItStands) {
  parse({"--eos_token", "a: [b"});
  EXPECT_EQ(config_.eos_token, "a: [b");
  parse({"--eos_token=--x=y"});
  EXPECT_EQ(config_.eos_token, "--x=y");
}

TEST_F(ArgumentsTest, Booleans) {
  parse({"--packing"});
  EXPECT_TRUE(config_.packing);
  parse({"--packing", "false"});
  EXPECT_FALSE(config_.packing);
  parse({"--packing=True"});
  EXPECT_TRUE(config_.packing);
  parse({"--no_packing"});
  EXPECT_FALSE(config_.packing);
  parse({"--packing", "--max_steps", "3"});
  EXPECT_TRUE(config_.packing);
  EXPECT_EQ(config_.max_steps, 3);
  EXPECT_EQ(problems_, Texts{});
}

TEST_F(ArgumentsTest, Lists) {
  const Texts both = {"tensorboard", "wandb"};
  for (const Texts& args :
       std::vector<Texts>{{"--report_to", "tensorboard", "wandb"},
                          {"--report_to", "tensorboard", "--report_to", "wandb"},
                          {"--report_to", "[tensorboard, wandb]"},
                          {"--report_to=tensorboard", "--report_to=wandb"}}) {
    config_.report_to = {};
    parse(args);
    EXPECT_EQ(config_.report_to, both);
  }
}

TEST_F(ArgumentsTest, NestedValuesAreYaml) {
  parse({"--kwargs", "{num_cycles: 2, names: [a]}"});
  EXPECT_EQ(config_.kwargs, Json::parse(R"({"num_cycles": 2, "names": ["a"]})"));
  parse({"--kwargs", "{a: "});
  ASSERT_EQ(problems_.size(), 1U);
  EXPECT_EQ(problems_[0].rfind("[--kwargs", 0), 0U) << problems_[0];
}

TEST_F(ArgumentsTest, AFlagGivenTwiceIsAnErrorUnlessAList) {
  parse({"--max_steps", "1", "--max-steps=1", "--packing", "--no_packing", "--kwargs", "{a: 1}",
         "--kwargs", "{b: 1}", "--do_train", "false", "--do_train", "false"});
  EXPECT_EQ(problems_, (Texts{"[--max_steps] this key is set twice. HINT: keep one of the two.",
                              "[--packing] this key is set twice. HINT: keep one of the two.",
                              "[--kwargs] this key is set twice. HINT: keep one of the two.",
                              "[--do_train] this key is set twice. HINT: keep one of the two."}));
}

TEST_F(ArgumentsTest, WordsAreUtf8) {
  parse({"--eos_token", "caf\xE9"});
  EXPECT_EQ(problems_, Texts{"[command line] text in UTF-8 was expected, got \"caf\uFFFD\". HINT: "
                             "rename the file or write the text in UTF-8."});
}

TEST_F(ArgumentsTest, ReportsEveryProblem) {
  parse({"stray", "--learning_rat", "1", "--max_steps", "--packing", "maybe", "--learning_rate",
         "-1", "--no_eos"});
  EXPECT_EQ(
      problems_,
      (Texts{"[command line] \"stray\" belongs to no flag. HINT: write --key "
             "value; a value with spaces needs quotes.",
             "[--max_steps] expected a value, got nothing. HINT: write --max_steps VALUE.",
             "[--learning_rat] unknown key. HINT: did you mean --learning_rate?",
             "[--packing] expected true or false, got \"maybe\". HINT: the default is false.",
             "[--learning_rate] expected number above 0, got -1. HINT: the default is 2.0e-05.",
             "[--no_eos] unknown key. HINT: see --help for the keys there are."}));
}

TEST_F(ArgumentsTest, HelpReadsNothing) {
  EXPECT_TRUE(parse({"--unknown", "-h"}).help);
  EXPECT_TRUE(parse({"--help"}).help);
  EXPECT_EQ(problems_, Texts{});
}

TEST_F(ArgumentsTest, PositionalWordsWhereAllowed) {
  const auto parsed = parse({"run1", "--max_steps", "3", "run2"}, {.positional = "RUN"});
  EXPECT_EQ(parsed.positional, (Texts{"run1", "run2"}));
  EXPECT_EQ(problems_, Texts{});
}

TEST_F(ArgumentsTest, NotesOnFlagsWithoutEffect) {
  EXPECT_EQ(parse({"--do_train"}).notes, Texts{"[--do_train] has no effect: it always does."});
}

/// Two configuration files in a folder of their own.
class ConfigFileTest : public ArgumentsTest {
 protected:
  void SetUp() override {
    ArgumentsTest::SetUp();
    std::string name = (fs::temp_directory_path() / "rlhf_args_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string write(const std::string& name, const std::string& text) {
    write_file(root_ / name, text);
    return (root_ / name).string();
  }

  fs::path root_;
};

TEST_F(ConfigFileTest, FlagsWinOverFilesOverDefaults) {
  const auto file = write("run.yaml", "learning_rate: 1e-3\nmax_steps: 5\nreport_to: [a]\n");
  parse({"--max_steps", "9", "--config", file, "--report_to", "b"});
  EXPECT_EQ(problems_, Texts{});
  EXPECT_EQ(config_.learning_rate, 1e-3);
  EXPECT_EQ(config_.max_steps, 9);
  EXPECT_EQ(config_.report_to, Texts{"b"});
  EXPECT_FALSE(config_.packing);
}

TEST_F(ConfigFileTest, JsonFilesTooAndEmptyOnes) {
  parse({"--config", write("run.json", "{\"learning_rate\": 1e-3, \"packing\": true}")});
  EXPECT_EQ(config_.learning_rate, 1e-3);
  EXPECT_TRUE(config_.packing);
  parse({"--config", write("empty.yaml", "# nothing\n")});
  EXPECT_EQ(problems_, Texts{});
}

TEST_F(ConfigFileTest, MissingAndMisshapenFiles) {
  parse({"--config", (root_ / "absent.yaml").string(), "--config", write("list.yaml", "- 1\n"),
         "--config"});
  ASSERT_EQ(problems_.size(), 3U);
  EXPECT_EQ(problems_[0],
            "[--config] expected a YAML or JSON file, got nothing. HINT: write --config FILE.");
  EXPECT_NE(problems_[1].find("absent.yaml"), std::string::npos);
  EXPECT_NE(problems_[2].find("lines were expected, got a list"), std::string::npos);
}

TEST_F(ConfigFileTest, FilesThatAreNotUtf8AreNotEmptyOnes) {
  // "max_steps: 5" in UTF-16 with its mark, which yaml-cpp would guess at, and one byte of Latin-1.
  std::string wide = "\xFF\xFE";
  for (const char c : std::string("max_steps: 5\n")) wide += {c, '\0'};
  const auto utf16 = write("wide.yaml", wide);
  const auto latin1 = write("latin1.yaml", "max_steps: 5\neos_token: caf\xE9\n");
  parse({"--config", utf16, "--config", latin1});
  const auto text = [](const std::string& place, const std::string& byte) {
    return fmt::format(
        "[{}] text in UTF-8 was expected, got byte {}. HINT: save it as UTF-8, for example with "
        "`iconv -t UTF-8`.",
        place, byte);
  };
  EXPECT_EQ(problems_,
            (Texts{text(utf16 + ":1", "0xff at byte 1"), text(latin1 + ":2", "0xe9 at byte 28")}));
}

TEST_F(ConfigFileTest, ChecksBetweenKeysNameTheirPlace) {
  const auto file = write("run.yaml", "packing: true\nmax_steps: 5\n");
  const auto parsed = parse({"--config", file, "--learning_rate", "1"});
  Problems found;
  found.add("max_steps", "too few.");
  found.add("learning_rate.x[1]", "too big.");
  found.add("eos_token", "unset.");
  Problems located;
  parsed.add_located(found, located);
  try {
    located.throw_if_any();
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.problems()[0].where, file + ":2 max_steps");
    EXPECT_EQ(error.problems()[1].where, "--learning_rate.x[1]");
    EXPECT_EQ(error.problems()[2].where, "eos_token");
  }
}

}  // namespace
}  // namespace rlhf
