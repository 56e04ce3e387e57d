// The alignment-handbook's recipes run as they are, but for where models and data come from: every
// key is read, answered with a note, or refused with what to write instead.
#include <gtest/gtest.h>

#include <algorithm>

#include "rlhf/core/config_node.h"
#include "tests/config/read.h"

namespace rlhf {
namespace {

const Json& fixture() {
  static const Json recipes = Json::parse(read_file(RLHF_FIXTURES "/config/handbook_recipes.json"));
  return recipes;
}

std::vector<std::string> recipes() {
  std::vector<std::string> names;
  for (const auto& [name, recipe] : fixture().items()) {
    if (name != "about") names.push_back(name);
  }
  return names;
}

Texts texts_of(const Json& recipe, const char* key) {
  return recipe.contains(key) ? recipe[key].get<Texts>() : Texts{};
}

/// `a.b` of `[run.yaml:3 a.b] ...`, in order.
Texts keys_of(const Texts& messages) {
  Texts keys;
  for (const auto& message : messages) {
    const std::string place = message.substr(1, message.find(']') - 1);
    keys.push_back(place.substr(place.find(' ') == std::string::npos ? 0 : place.find(' ') + 1));
  }
  std::sort(keys.begin(), keys.end());
  return keys;
}

struct Outcome {
  Texts notes;
  Texts problems;
  Json values;
};

template <class Config>
Outcome read(const Texts& args) {
  Outcome outcome;
  try {
    const auto config = read_config<Config>(args, &outcome.notes);
    outcome.values = BoundOptions<Config>(config).set().values();
  } catch (const UserError& error) {
    outcome.problems = rlhf::texts_of(error);
  }
  return outcome;
}

Outcome read(const std::string& command, const Texts& args) {
  return command == "sft" ? read<SftConfig>(args) : read<DpoConfig>(args);
}

class HandbookTest : public ConfigFileTest, public ::testing::WithParamInterface<std::string> {
 protected:
  const Json& recipe() { return fixture()[GetParam()]; }

  Outcome run(const Texts& flags) {
    Texts args = {"--config", write(to_yaml(recipe()["keys"]))};
    for (const char* more : {"always", "flags"}) {
      if (std::string(more) == "flags" && flags.empty()) continue;
      for (const auto& word : texts_of(recipe(), more)) args.push_back(word);
    }
    return read(recipe()["command"], args);
  }
};

TEST_P(HandbookTest, EveryKeyIsReadNotedOrRefused) {
  const Outcome outcome = run(texts_of(recipe(), "flags"));
  EXPECT_EQ(outcome.problems, Texts{});
  EXPECT_EQ(keys_of(outcome.notes), texts_of(recipe(), "noted"))
      << fmt::format("{}", fmt::join(outcome.notes, "\n"));
  for (const auto& [key, expected] : recipe()["values"].items())
    EXPECT_EQ(outcome.values[key], expected) << key;
}

TEST_P(HandbookTest, WhatItCannotHaveIsRefusedWithAHint) {
  const Outcome outcome = run({});
  EXPECT_EQ(keys_of(outcome.problems), texts_of(recipe(), "refused"));
  for (const auto& problem : outcome.problems)
    EXPECT_NE(problem.find("HINT: "), std::string::npos) << problem;
}

/// Nothing of the fixture is read by chance: a recipe without a key has that key's default.
TEST_P(HandbookTest, KeysDecideTheValues) {
  const Json defaults = recipe()["command"] == "sft"
                            ? BoundOptions<SftConfig>(config_of<SftConfig>({})).set().values()
                            : BoundOptions<DpoConfig>(config_of<DpoConfig>({})).set().values();
  for (const char* key : {"learning_rate", "lr_scheduler_type", "per_device_train_batch_size"}) {
    if (!recipe()["values"].contains(key) || recipe()["values"][key] == defaults[key]) continue;
    EXPECT_TRUE(recipe()["keys"].contains(key)) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, HandbookTest, ::testing::ValuesIn(recipes()),
                         [](const auto& one) {
                           std::string name = one.param;
                           for (char& c : name) c = std::isalnum(c) != 0 ? c : '_';
                           return name;
                         });

class MixtureTest : public ConfigFileTest {};

TEST_F(MixtureTest, AConfigurationIsAFolderWhereThereIsOne) {
  fs::create_directories(root_ / "set" / "SFT");
  const auto config = config_of<SftConfig>(
      {"--dataset_mixture", fmt::format("{{datasets: [{{id: {0}, config: SFT}}, {{id: {0}, config: "
                                        "other}}]}}",
                                        (root_ / "set").string())});
  ASSERT_EQ(config.data.datasets.size(), 2U);
  EXPECT_EQ(config.data.datasets[0].data_dir, "SFT");
  EXPECT_EQ(config.data.datasets[1].data_dir, std::nullopt);
}

TEST_F(MixtureTest, SharesAndSeveralSplitsArePartsOfTheirOwn) {
  // Without a dataset_name of its own: with_model_and_data() sets one.
  const Texts model = {"--model_name_or_path", "m"};
  const auto read = [&](Texts args) {
    args.insert(args.begin(), model.begin(), model.end());
    return read_config<DpoConfig>(args, nullptr).data;
  };
  const auto some = read({"--dataset_mixer", "{a: 0.5, b: 1.0}"});
  ASSERT_EQ(some.datasets.size(), 2U);
  EXPECT_EQ(some.datasets[0].path, "a");
  EXPECT_EQ(some.datasets[0].split, "train");
  EXPECT_EQ(some.datasets[0].weight, 0.5);
  EXPECT_EQ(some.datasets[1].weight, std::nullopt);
  const auto two = read({"--dataset_mixer", "{a: 1.0}", "--dataset_splits", "train_a", "train_b"});
  ASSERT_EQ(two.datasets.size(), 2U);
  EXPECT_EQ(two.datasets[1].split, "train_b");
  const auto splits = read({"--dataset_name", "d", "--dataset_splits", "train_x", "test_x"});
  EXPECT_EQ(splits.dataset_train_split, "train_x");
  EXPECT_EQ(splits.dataset_test_split, "test_x");
}

TEST_F(MixtureTest, Contradictions) {
  expect_rules<DpoConfig>({
      {{"--dataset_mixer", "{a: 1.0}"},
       {"[--dataset_mixer] dataset_name or datasets names the data already. HINT: keep one of the "
        "two."}},
      {{"--dataset_mixer", "{a: 1.5}"},
       {"[--dataset_mixer] expected paths with a share above 0, at most 1, got {\"a\":1.5}. HINT: "
        "for example {data/preferences: 1.0}."}},
      {{"--dataset_splits", "validation"},
       {"[--dataset_splits] expected names with train or test in them, one with train at least, "
        "got "
        "validation. HINT: set dataset_train_split and dataset_test_split."}},
      {{"--dataset_splits", "train_a", "train_b"},
       {"[--dataset_splits] there is no dataset_mixer to take several splits of. HINT: list the "
        "parts under datasets: path and split."}},
      {{"--datasets", "[{path: a}]", "--dataset_mixture", "{datasets: [{id: b}]}"},
       {"[--dataset_mixture] datasets names the parts already. HINT: keep one of the two."}},
      {{"--datasets", "[{path: a, weight: 0.5, fraction: 1}]"},
       {"[--datasets[0].weight] fraction says how many rows the part gives. HINT: keep one of the "
        "two."}},
      {{"--chat_template", "{{ x }}", "--chat_template_path", "a.jinja"},
       {"[--chat_template] chat_template_path names a template too. HINT: keep one of the two."}},
  });
}

}  // namespace
}  // namespace rlhf
