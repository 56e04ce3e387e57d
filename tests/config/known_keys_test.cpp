// Every key of TRL's and transformers' configuration classes is known, with its default. The
// classes are recorded by tools/list_trl_keys.py (versions stand in the fixture).
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "rlhf/config/sft_config.h"
#include "rlhf/core/file.h"

namespace rlhf {
namespace {

const Json& fixture() {
  static const Json keys = Json::parse(read_file(RLHF_FIXTURES "/config/trl_keys.json"));
  return keys;
}

/// The classes whose keys `trl sft` reads, the later ones over the earlier.
const std::vector<std::string> kSftClasses = {"TrainingArguments", "SFTConfig", "ModelConfig",
                                              "ScriptArguments", "DatasetMixtureConfig"};

Json sft_keys() {
  Json keys = Json::object();
  for (const auto& name : kSftClasses) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) keys[key] = entry;
  }
  return keys;
}

/// Defaults that differ from TRL's on purpose.
struct Difference {
  Json trl;
  Json ours;
  const char* reason;
};
const std::map<std::string, Difference>& differences() {
  static const std::map<std::string, Difference> table = {
      {"dataset_name",
       {nullptr, Json::array(), "several files are allowed, so none is an empty list"}},
      {"report_to",
       {"none", Json::array({"none"}), "a list here; one word is read as a list of one"}},
      {"model_init_kwargs", {nullptr, Json::object(), "nested keys, none set"}},
      {"lr_scheduler_kwargs", {nullptr, Json::object(), "nested keys, none set"}},
      {"dataset_kwargs", {nullptr, Json::object(), "nested keys, none set"}},
  };
  return table;
}

class KnownKeysTest : public ::testing::Test {
 protected:
  void SetUp() override { declare(set_, config_); }
  SftConfig config_;
  OptionSet set_;
};

TEST_F(KnownKeysTest, EveryKeyOfEveryClassIsKnown) {
  size_t count = 0;
  for (const auto& [name, keys] : fixture()["classes"].items()) {
    if (name == "DatasetConfig") continue;
    for (const auto& [key, entry] : keys.items()) {
      ++count;
      EXPECT_TRUE(set_.find(key) != nullptr || set_.find_inert(key) != nullptr)
          << name << "." << key;
    }
  }
  EXPECT_GT(count, 400U) << "the fixture lost classes";
}

TEST_F(KnownKeysTest, KeysOfAMixturePartAreKnown) {
  const auto& shape = *set_.find("datasets")->shape;
  for (const auto& [key, entry] : fixture()["classes"]["DatasetConfig"].items()) {
    const Option* option = shape.find(key);
    EXPECT_TRUE(option != nullptr || shape.find_inert(key) != nullptr) << key;
    if (option == nullptr || !entry.contains("default")) continue;
    EXPECT_EQ(option->default_value, entry["default"]) << key;
  }
}

TEST_F(KnownKeysTest, EveryKeyOfSftIsHonouredAcceptedOrRefused) {
  const Json keys = sft_keys();
  for (const auto& [key, entry] : keys.items()) {
    const InertKey* inert = set_.find_inert(key);
    if (inert == nullptr) continue;
    EXPECT_TRUE(inert->status != InertKey::Status::later || key == "use_peft") << key;
  }
}

TEST_F(KnownKeysTest, DefaultsAreThoseOfTrl) {
  const Json keys = sft_keys();
  for (const auto& [key, entry] : keys.items()) {
    const Json& trl = entry["default"];
    if (const auto difference = differences().find(key); difference != differences().end()) {
      EXPECT_EQ(trl, difference->second.trl) << key;
      EXPECT_EQ(set_.find(key)->default_value, difference->second.ours) << key;
    } else if (const Option* option = set_.find(key)) {
      EXPECT_EQ(option->default_value, trl) << key;
    }
  }
}

TEST_F(KnownKeysTest, TrlsDefaultOfAnInertKeyIsSilent) {
  const Json keys = sft_keys();
  for (const auto& [key, entry] : keys.items()) {
    const InertKey* inert = set_.find_inert(key);
    if (inert == nullptr) continue;
    const Json& trl = entry["default"];
    EXPECT_TRUE(trl.is_null() || trl == inert->harmless)
        << key << ": " << inert->harmless << " is not " << trl;
  }
}

TEST_F(KnownKeysTest, EveryInertKeySaysWhy) {
  std::set<std::string> names;
  for (const auto& key : set_.inert()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name << " stands twice";
    EXPECT_EQ(set_.find(key.name), nullptr) << key.name;
    EXPECT_TRUE(key.text.ends_with('.')) << key.name;
  }
}

TEST_F(KnownKeysTest, OldNamesCollideWithNothing) {
  std::set<std::string> names;
  for (const auto& option : set_.options()) {
    EXPECT_FALSE(option->meaning.empty()) << option->name;
    EXPECT_FALSE(option->group.empty()) << option->name;
    for (const auto& old : option->old_names) {
      EXPECT_TRUE(names.insert(old).second) << old;
      EXPECT_EQ(set_.find(old), nullptr) << old;
      EXPECT_EQ(set_.find_inert(old), nullptr) << old;
    }
  }
}

TEST_F(KnownKeysTest, KeysOfOtherMethodsNameTheMethodsThatHaveThem) {
  const std::map<std::string, std::string> methods = {
      {"RewardConfig", "reward"}, {"DPOConfig", "dpo"},           {"KTOConfig", "kto"},
      {"GRPOConfig", "grpo"},     {"RLOOConfig", "rloo"},         {"PPOConfig", "ppo"},
      {"PRMConfig", "prm"},       {"BCOConfig", "bco"},           {"CPOConfig", "cpo"},
      {"ORPOConfig", "orpo"},     {"GRPOScriptArguments", "grpo"}};
  const Json ours = sft_keys();
  for (const auto& [name, method] : methods) {
    for (const auto& [key, entry] : fixture()["classes"][name].items()) {
      if (ours.contains(key)) continue;
      const InertKey* inert = set_.find_inert(key);
      ASSERT_NE(inert, nullptr) << key;
      EXPECT_EQ(inert->status, InertKey::Status::later) << key;
      const std::string listed = inert->text.substr(inert->text.find("belongs to "));
      EXPECT_NE((listed + ",").find(" " + method), std::string::npos)
          << name << "." << key << ": " << listed;
    }
  }
}

}  // namespace
}  // namespace rlhf
