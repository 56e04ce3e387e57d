// Every option of every command is bound to a member of its own, and what is written reads back.
#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

template <class Config>
class MembersTest : public ConfigFileTest {};

using Configs = ::testing::Types<SftConfig, DpoConfig, KtoConfig, GrpoConfig, RlooConfig, PpoConfig,
                                 RewardConfig, PrmConfig>;
TYPED_TEST_SUITE(MembersTest, Configs);

/// A value that an option takes and that is not its default.
ConfigNode other_value(const Option& option) {
  ConfigNode value = ConfigNode::scalar("5");
  if (option.type.kind == ValueKind::boolean) {
    value.text = option.default_value == true ? "false" : "true";
  } else if (!option.choices.empty()) {
    const bool is_last = option.default_value == option.choices.back() ||
                         option.default_value == Json::array({option.choices.back()});
    value.text = is_last ? option.choices.front() : option.choices.back();
  } else if (option.range.max <= 1) {
    value.text = option.default_value == 0.25 ? "0.125" : "0.25";
  }
  return value;
}

TYPED_TEST(MembersTest, EveryHonouredKeyReachesAMember) {
  BoundOptions<TypeParam> base;
  const Json before = base.set().values();
  for (const auto& option : base.set().options()) {
    if (option->type.kind == ValueKind::record) continue;
    BoundOptions<TypeParam> changed;
    Problems problems;
    changed.set().apply_one(option->name, other_value(*option), "", option->name, problems,
                            /*notes=*/nullptr);
    EXPECT_NO_THROW(problems.throw_if_any());
    const Json after = changed.set().values();
    for (const auto& [key, now] : after.items()) {
      EXPECT_EQ(now != before[key], key == option->name) << option->name << " changes " << key;
    }
  }
}

TYPED_TEST(MembersTest, ResolvedYamlReadsBackToTheSame) {
  for (const Texts& args :
       {Texts{}, Texts{"--use_peft", "--lora_target_modules", "q_proj", "v_proj", "--lora_alpha",
                       "8", "--learning_rate", "3.3e-6", "--dtype", "null"}}) {
    const auto config = config_of<TypeParam>(args);
    const std::string yaml = resolved_yaml(config);
    const auto again =
        read_config<TypeParam>(Texts{"--config", this->write(yaml)}, /*notes=*/nullptr);
    EXPECT_EQ(resolved_yaml(again), yaml);
    EXPECT_EQ(again.lora.use_peft, !args.empty());
    EXPECT_EQ(again.model.dtype, Dtype::float32);
  }
}

TYPED_TEST(MembersTest, TableMarksChanges) {
  const std::string table = resolved_table(config_of<TypeParam>({"--learning_rate", "1e-3"}));
  EXPECT_NE(table.find("* learning_rate"), std::string::npos);
  EXPECT_NE(table.find("\n  weight_decay"), std::string::npos);
}

}  // namespace
}  // namespace rlhf
