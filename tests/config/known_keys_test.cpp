// Every key of TRL's and transformers' configuration classes is known to every command, with its
// default. The classes are recorded by tools/list_trl_keys.py (versions stand in the fixture).
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "rlhf/config/inert_keys.h"
#include "tests/config/read.h"

namespace rlhf {
namespace {

const Json& fixture() {
  static const Json keys = Json::parse(read_file(RLHF_FIXTURES "/config/trl_keys.json"));
  return keys;
}

/// A command and the classes whose keys it must offer: the first as TRL's script of that name, with
/// these defaults; the others beside it, since their losses are values of loss_type here.
struct Command {
  std::string name;
  std::string config;
  std::vector<std::string> beside;
  /// Defaults that differ from TRL's on purpose, and whether a key's value elsewhere is silent
  /// here.
  std::map<std::string, std::pair<Json, const char*>> differences;
  std::set<std::string> not_silent;
  std::shared_ptr<const OptionSet> set;
};

void PrintTo(const Command& command, std::ostream* out) { *out << command.name; }

template <class Config>
std::shared_ptr<const OptionSet> options_of() {
  const auto bound = std::make_shared<BoundOptions<Config>>();
  return {bound, &bound->set()};
}

std::vector<Command> commands() {
  const std::pair<Json, const char*> chosen = {
      nullptr, "null leaves the choice to the program, which computes a fixed reference once"};
  return {
      {"sft", "SFTConfig", {}, {}, {}, options_of<SftConfig>()},
      {"dpo",
       "DPOConfig",
       {"CPOConfig", "ORPOConfig"},
       {{"precompute_ref_log_probs", chosen}},
       {},
       options_of<DpoConfig>()},
      {"kto",
       "KTOConfig",
       {"BCOConfig"},
       {{"precompute_ref_log_probs", chosen}},
       {},
       options_of<KtoConfig>()},
      {"grpo",
       "GRPOConfig",
       {"GRPOScriptArguments"},
       {},
       {"remove_unused_columns"},  // rewards read every column: accepted, with a note
       options_of<GrpoConfig>()},
      {"rloo",
       "RLOOConfig",
       {"GRPOScriptArguments"},
       {},
       {"remove_unused_columns"},
       options_of<RlooConfig>()},
      {"ppo", "PPOConfig", {}, {}, {}, options_of<PpoConfig>()},
      // TRL's default of the task is that of language models, and wrong for these two.
      {"reward", "RewardConfig", {}, {}, {"lora_task_type"}, options_of<RewardConfig>()},
      {"prm", "PRMConfig", {}, {}, {"lora_task_type"}, options_of<PrmConfig>()},
  };
}

/// The keys that TRL's script for the command reads, the later classes over the earlier.
Json keys_of(const Command& command) {
  Json keys = Json::object();
  for (const std::string& name :
       {std::string("TrainingArguments"), command.config, std::string("ModelConfig"),
        std::string("ScriptArguments"), std::string("DatasetMixtureConfig")}) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) keys[key] = entry;
  }
  return keys;
}

/// Of every command: lists and nested keys where TRL has a text or nothing.
const std::map<std::string, std::pair<Json, const char*>>& common_differences() {
  static const std::map<std::string, std::pair<Json, const char*>> table = {
      {"dataset_name", {Json::array(), "several files are allowed, so none is an empty list"}},
      {"report_to", {Json::array({"none"}), "a list; one word is read as a list of one"}},
      {"model_init_kwargs", {Json::object(), "nested keys, none set"}},
      {"lr_scheduler_kwargs", {Json::object(), "nested keys, none set"}},
      {"dataset_kwargs", {Json::object(), "nested keys, none set"}},
  };
  return table;
}

class KnownKeysTest : public ::testing::TestWithParam<Command> {
 protected:
  const OptionSet& set() { return *GetParam().set; }
};

TEST_P(KnownKeysTest, EveryKeyOfEveryClassIsKnown) {
  size_t count = 0;
  for (const auto& [name, keys] : fixture()["classes"].items()) {
    if (name == "DatasetConfig") continue;
    for (const auto& [key, entry] : keys.items()) {
      ++count;
      EXPECT_TRUE(set().find(key) != nullptr || set().find_renamed(key) != nullptr ||
                  set().find_inert(key) != nullptr)
          << name << "." << key;
    }
  }
  EXPECT_GT(count, 400U) << "the fixture lost classes";
}

TEST_P(KnownKeysTest, KeysOfAMixturePartAreKnown) {
  const auto& shape = *set().find("datasets")->shape;
  for (const auto& [key, entry] : fixture()["classes"]["DatasetConfig"].items()) {
    const Option* option = shape.find(key);
    EXPECT_TRUE(option != nullptr || shape.find_inert(key) != nullptr) << key;
    if (option == nullptr || !entry.contains("default")) continue;
    EXPECT_EQ(option->default_value, entry["default"]) << key;
  }
}

TEST_P(KnownKeysTest, EveryKeyOfTheCommandIsHonouredAcceptedOrRefused) {
  Json keys = keys_of(GetParam());
  for (const auto& name : GetParam().beside) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) keys[key] = entry;
  }
  for (const auto& [key, entry] : keys.items()) {
    const InertKey* inert = set().find_inert(key);
    if (inert == nullptr) continue;
    EXPECT_NE(inert->status, InertKey::Status::elsewhere) << key;
  }
}

TEST_P(KnownKeysTest, DefaultsAreThoseOfTrl) {
  const Json keys = keys_of(GetParam());
  for (const auto& [key, entry] : keys.items()) {
    const Option* option = set().find(key);
    if (option == nullptr) continue;
    const auto common = common_differences().find(key);
    const auto own = GetParam().differences.find(key);
    const bool differs =
        common != common_differences().end() || own != GetParam().differences.end();
    if (!differs) {
      EXPECT_EQ(option->default_value, entry["default"]) << key;
      continue;
    }
    const Json& ours =
        own != GetParam().differences.end() ? own->second.first : common->second.first;
    EXPECT_EQ(option->default_value, ours) << key;
    EXPECT_NE(option->default_value, entry["default"]) << key << " differs no longer";
  }
}

TEST_P(KnownKeysTest, LossesBesideKeepTheirDefaults) {
  // Of the classes whose losses are values of loss_type here, but for the learning rate of BCO.
  for (const auto& name : GetParam().beside) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) {
      const Option* option = set().find(key);
      if (option == nullptr || key == "loss_type" || keys_of(GetParam()).contains(key)) continue;
      EXPECT_EQ(option->default_value, entry["default"]) << name << "." << key;
    }
  }
}

TEST_P(KnownKeysTest, TrlsDefaultOfAnInertKeyIsSilent) {
  Json keys = keys_of(GetParam());
  for (const auto& name : GetParam().beside) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) {
      if (!keys.contains(key)) keys[key] = entry;
    }
  }
  for (const auto& [key, entry] : keys.items()) {
    const InertKey* inert = set().find_inert(key);
    if (inert == nullptr) continue;
    const Json& trl = entry["default"];
    EXPECT_EQ(trl.is_null() || trl == inert->harmless, !GetParam().not_silent.contains(key))
        << key << ": " << inert->harmless << ", TRL " << trl;
  }
}

TEST_P(KnownKeysTest, EveryInertKeySaysWhy) {
  std::set<std::string> names;
  for (const auto& key : set().inert()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name << " stands twice";
    EXPECT_EQ(set().find(key.name), nullptr) << key.name;
    EXPECT_TRUE(key.text.ends_with('.')) << key.name;
  }
}

TEST_P(KnownKeysTest, OldNamesCollideWithNothing) {
  std::set<std::string> names;
  for (const auto& option : set().options()) {
    EXPECT_FALSE(option->meaning.empty()) << option->name;
    EXPECT_FALSE(option->group.empty()) << option->name;
    for (const auto& old : option->old_names) {
      EXPECT_TRUE(names.insert(old).second) << old;
      EXPECT_EQ(set().find(old), nullptr) << old;
      EXPECT_EQ(set().find_inert(old), nullptr) << old;
    }
  }
}

TEST_P(KnownKeysTest, KeysOfOtherMethodsNameTheCommandsThatHaveThem) {
  const std::map<std::string, std::string> owners = {
      {"SFTConfig", "sft"}, {"RewardConfig", "reward"}, {"DPOConfig", "dpo"},
      {"KTOConfig", "kto"}, {"GRPOConfig", "grpo"},     {"RLOOConfig", "rloo"},
      {"PPOConfig", "ppo"}, {"PRMConfig", "prm"},       {"BCOConfig", "kto"},
      {"CPOConfig", "dpo"}, {"ORPOConfig", "dpo"},      {"GRPOScriptArguments", "grpo"}};
  for (const auto& [name, owner] : owners) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) {
      const InertKey* inert = set().find_inert(key);
      if (inert == nullptr || inert->status != InertKey::Status::elsewhere) continue;
      const std::string listed = inert->text.substr(inert->text.find("belongs to "));
      EXPECT_TRUE((listed + ",").find(" " + owner + ",") != std::string::npos ||
                  listed.find(" " + owner + ".") != std::string::npos)
          << name << "." << key << ": " << listed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Commands, KnownKeysTest, ::testing::ValuesIn(commands()),
                         [](const auto& one) { return one.param.name; });

TEST(MethodKeys, NameTheCommandsThatReadThem) {
  // A key of the table is declared, accepted or refused by exactly the commands it names.
  for (const auto& command : commands()) {
    for (const auto& [key, names] : method_keys()) {
      const std::string listed = fmt::format(" {},", names);
      const bool named = listed.find(" " + command.name + ",") != std::string::npos;
      const InertKey* inert = command.set->find_inert(key);
      const bool elsewhere = inert != nullptr && inert->status == InertKey::Status::elsewhere;
      EXPECT_EQ(named, !elsewhere) << command.name << "." << key;
    }
  }
}

}  // namespace
}  // namespace rlhf
