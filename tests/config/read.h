// Shared by the tests of configurations: a run that is right but for what a test changes.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "rlhf/config/command.h"
#include "rlhf/config/dpo_config.h"
#include "rlhf/config/grpo_config.h"
#include "rlhf/config/kto_config.h"
#include "rlhf/config/ppo_config.h"
#include "rlhf/config/prm_config.h"
#include "rlhf/config/reward_config.h"
#include "rlhf/config/rloo_config.h"
#include "rlhf/config/sft_config.h"
#include "rlhf/core/file.h"

namespace rlhf {

using Texts = std::vector<std::string>;

/// The arguments of a run with a model, data, what else the command cannot do without, and `args`.
template <class Config = SftConfig>
Texts with_model_and_data(const Texts& args) {
  Texts all = {"--model_name_or_path", "model", "--dataset_name", "data.jsonl"};
  if constexpr (std::is_same_v<Config, GrpoConfig> || std::is_same_v<Config, RlooConfig> ||
                std::is_same_v<Config, PpoConfig>)
    all.insert(all.end(), {"--reward_funcs", "accuracy"});
  all.insert(all.end(), args.begin(), args.end());
  return all;
}

inline Texts texts_of(const UserError& error) {
  Texts texts;
  for (const auto& problem : error.problems()) texts.push_back(problem.text());
  return texts;
}

inline Texts texts_of(const Problems& problems) {
  try {
    problems.throw_if_any();
  } catch (const UserError& error) {
    return texts_of(error);
  }
  return {};
}

/// The problems that the command reports; empty where it would run.
template <class Config = SftConfig>
Texts problems_of(const Texts& args) {
  try {
    read_config<Config>(with_model_and_data<Config>(args), nullptr);
  } catch (const UserError& error) {
    return texts_of(error);
  }
  return {};
}

/// The configuration of the same; notes are dropped where not asked for.
template <class Config = SftConfig>
Config config_of(const Texts& args, Texts* notes = nullptr) {
  return read_config<Config>(with_model_and_data<Config>(args), notes);
}

/// Arguments, and the problems that they must give, word for word.
struct Rule {
  Texts args;
  Texts problems;
};

template <class Config>
void expect_rules(const std::vector<Rule>& rules) {
  for (const auto& rule : rules) {
    EXPECT_EQ(problems_of<Config>(rule.args), rule.problems)
        << fmt::format("{}", fmt::join(rule.args, " "));
  }
}

/// A configuration file in a folder of its own.
class ConfigFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "rlhf_config_XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string write(const std::string& text) {
    write_file(root_ / "run.yaml", text);
    return (root_ / "run.yaml").string();
  }

  fs::path root_;
};

}  // namespace rlhf
