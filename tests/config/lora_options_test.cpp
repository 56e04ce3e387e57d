#include "rlhf/config/lora_options.h"

#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

const std::vector<Texts> kNewAdapter = {{"--lora_r", "8"},
                                        {"--lora_alpha", "16"},
                                        {"--lora_dropout", "0.1"},
                                        {"--lora_target_modules", "all-linear"},
                                        {"--lora_layers_to_transform", "0", "1"},
                                        {"--lora_modules_to_save", "embed_tokens"},
                                        {"--use_rslora", "true"},
                                        {"--use_dora", "true"}};

Texts joined(Texts first, const Texts& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

TEST(LoraOptions, KeysNeedUsePeft) {
  std::vector<Rule> rules;
  for (const auto& key : kNewAdapter) {
    rules.push_back({key,
                     {fmt::format("[{}] it describes a LoRA adapter, and use_peft is false. HINT: "
                                  "set use_peft: true, or remove the key to train all weights.",
                                  key[0])}});
    rules.push_back({joined(key, {"--use_peft"}), {}});
  }
  expect_rules<SftConfig>(rules);
  expect_rules<DpoConfig>(rules);
  expect_rules<KtoConfig>(rules);
  expect_rules<RewardConfig>(rules);
  expect_rules<PrmConfig>(rules);
}

TEST(LoraOptions, AStartAdapterSaysTheRestItself) {
  std::vector<Rule> rules;
  for (const auto& key : kNewAdapter) {
    rules.push_back({joined(key, {"--adapter_name_or_path", "adapter"}),
                     {fmt::format("[{}] training goes on with the adapter in adapter, which says "
                                  "this itself. HINT: remove the key; for a new adapter fold this one "
                                  "into its base first (rlhf merge), and start from the merged "
                                  "folder.",
                                  key[0])}});
  }
  expect_rules<SftConfig>(rules);
  const auto config = config_of({"--adapter_name_or_path", "adapter"});
  EXPECT_TRUE(config.lora.use_peft);
  EXPECT_EQ(config.lora.adapter_name_or_path, "adapter");

  LoraOptions unnamed;
  unnamed.use_peft = true;
  unnamed.adapter_name_or_path = "";
  Problems problems;
  validate(unnamed, problems);
  EXPECT_EQ(
      texts_of(problems),
      Texts{"[adapter_name_or_path] expected a PEFT adapter folder, got nothing. HINT: name a "
            "folder with adapter_config.json, or remove the key."});
}

TEST_F(ConfigFileTest, AModelFolderThatIsAnAdapterIsTheOneToGoOnWith) {
  write_file(root_ / "adapter_config.json", "{}");
  const Texts args = {"--model_name_or_path", root_.string(), "--dataset_name", "data.jsonl"};
  EXPECT_EQ(read_sft_config(args, nullptr).lora.adapter_name_or_path, root_.string());
  EXPECT_TRUE(read_dpo_config(args, nullptr).lora.use_peft);
  EXPECT_EQ(read_dpo_config(joined(args, {"--adapter_name_or_path", "a"}), nullptr)
                .lora.adapter_name_or_path,
            "a");
  EXPECT_THROW(read_dpo_config(joined(args, {"--lora_r", "4"}), nullptr), UserError);
  EXPECT_THROW(read_dpo_config(joined(args, {"--sync_ref_model"}), nullptr), UserError);
}

TEST(LoraOptions, Modules) {
  const auto list = [](const char* key, const char* text) {
    return Texts{"--use_peft", std::string("--") + key, text};
  };
  const std::string names_only =
      " among them. HINT: all-linear or a regular expression stands alone; a list holds names.";
  expect_rules<SftConfig>({
      {list("lora_target_modules", "[q_proj, self_attn.v_proj]"), {}},
      {list("lora_target_modules", "q_proj"), {}},
      {list("lora_target_modules", "all-linear"), {}},
      {list("lora_target_modules", ".*\\.(q|v)_proj"), {}},
      {list("lora_target_modules", "null"), {}},
      {list("lora_target_modules", "[]"),
       {"[--lora_target_modules] expected names of modules, got an empty list. HINT: remove the "
        "key "
        "for its default."}},
      {list("lora_target_modules", "['']"),
       {"[--lora_target_modules] expected names of modules, got \"\"" + names_only}},
      {list("lora_target_modules", "[q_proj, all-linear]"),
       {"[--lora_target_modules] expected names of modules, got \"all-linear\"" + names_only}},
      {list("lora_target_modules", "[q_proj, '.*v_proj']"),
       {"[--lora_target_modules] expected names of modules, got \".*v_proj\"" + names_only}},
      {list("lora_modules_to_save", "[lm_head, embed_tokens]"), {}},
      {list("lora_modules_to_save", "[]"),
       {"[--lora_modules_to_save] expected names of modules, got an empty list. HINT: remove the "
        "key for its default."}},
      {list("lora_modules_to_save", ".*head"),
       {"[--lora_modules_to_save] expected names of modules, got \".*head\" among them. HINT: a "
        "name is made of letters, digits, underscores and dots."}},
  });
}

TEST(LoraOptions, Layers) {
  expect_rules<SftConfig>({
      {{"--use_peft", "--lora_layers_to_transform", "[]"},
       {"[--lora_layers_to_transform] expected numbers of layers, got an empty list. HINT: remove "
        "the key for all layers."}},
      {{"--use_peft", "--lora_target_modules", ".*q_proj", "--lora_layers_to_transform", "0"},
       {"[--lora_layers_to_transform] lora_target_modules is a regular expression, which names the "
        "layers itself. HINT: name modules in a list, or put the layers into the expression."}},
      {{"--use_peft", "--lora_target_modules", "all-linear", "--lora_layers_to_transform", "0"},
       {}},
  });
}

TEST(LoraOptions, OneTextIsANameAllLinearOrAPattern) {
  const auto pattern = [](const Texts& words) {
    return target_pattern(config_of(joined({"--use_peft", "--lora_target_modules"}, words)).lora);
  };
  EXPECT_EQ(pattern({"q_proj"}), "");
  EXPECT_EQ(pattern({"self_attn.q_proj"}), "");
  EXPECT_EQ(pattern({"all-linear"}), "");
  EXPECT_EQ(pattern({"q_proj", "v_proj"}), "");
  EXPECT_EQ(pattern({".*q_proj"}), ".*q_proj");
  EXPECT_EQ(target_pattern(LoraOptions{}), "");
}

TEST(LoraOptions, Ranges) {
  for (const Texts& args : std::vector<Texts>{{"--lora_r", "0"},
                                              {"--lora_alpha", "0"},
                                              {"--lora_dropout", "1"},
                                              {"--lora_dropout", "-0.1"},
                                              {"--lora_layers_to_transform", "-1"}}) {
    EXPECT_EQ(problems_of(joined({"--use_peft"}, args)).size(), 1U) << args[0];
  }
}

TEST(LoraOptions, InertKeys) {
  expect_rules<SftConfig>({
      {{"--use_peft", "--lora_target_parameters", "[experts.w]"},
       {"[--lora_target_parameters] a list is not supported. HINT: name linear layers in "
        "lora_target_modules; single parameters, as those of experts, get no adapter."}},
      {{"--use_peft", "--load_in_4bit"},
       {"[--load_in_4bit] true is not supported. HINT: remove it, or pass false on the command "
        "line: "
        "weights are held in dtype and not quantised; with dtype: bfloat16 an adapter's base takes "
        "2 "
        "bytes a weight."}},
  });
  const auto notes_of = [](auto config, const char* task) {
    Texts notes;
    config_of<decltype(config)>({"--use_peft", "--lora_task_type", task}, &notes);
    return notes.size();
  };
  EXPECT_EQ(notes_of(SftConfig{}, "CAUSAL_LM"), 0U);
  EXPECT_EQ(notes_of(SftConfig{}, "SEQ_CLS"), 1U);
  EXPECT_EQ(notes_of(DpoConfig{}, "CAUSAL_LM"), 0U);
  EXPECT_EQ(notes_of(KtoConfig{}, "CAUSAL_LM"), 0U);
  EXPECT_EQ(notes_of(RewardConfig{}, "SEQ_CLS"), 0U);
  EXPECT_EQ(notes_of(RewardConfig{}, "CAUSAL_LM"), 1U);
  EXPECT_EQ(notes_of(PrmConfig{}, "TOKEN_CLS"), 0U);
}

template <class Config>
void expect_dropout_notes() {
  const auto notes_of = [](const Texts& args) {
    Texts notes;
    config_of<Config>(args, &notes);
    return notes;
  };
  EXPECT_EQ(notes_of({}), Texts{});
  EXPECT_EQ(notes_of({"--use_peft"}), Texts{});
  EXPECT_EQ(notes_of({"--use_peft", "--lora_dropout", "0.1", "--no_disable_dropout"}), Texts{});
  EXPECT_EQ(notes_of({"--use_peft", "--lora_dropout", "0.1"}),
            Texts{"[lora_dropout] has no effect: disable_dropout switches it off, as in TRL; set "
                  "disable_dropout: false to train with it."});
  EXPECT_EQ(
      notes_of({"--no_disable_dropout"}),
      Texts{"[disable_dropout] has no effect: without use_peft there is no dropout to keep."});
}

template <class Config>
void expect_no_notes() {
  Texts notes;
  config_of<Config>({}, &notes);
  EXPECT_EQ(notes, Texts{});
}

// disable_dropout is false there by default.
TEST(LoraOptions, MethodsThatSampleSayNothingOfDropoutByThemselves) {
  expect_no_notes<GrpoConfig>();
  expect_no_notes<RlooConfig>();
  expect_no_notes<PpoConfig>();
}

TEST(LoraOptions, DropoutThatIsSwitchedOffIsSaid) {
  expect_dropout_notes<DpoConfig>();
  expect_dropout_notes<KtoConfig>();
  expect_dropout_notes<RewardConfig>();
  expect_dropout_notes<PrmConfig>();
  LoraOptions options;
  options.lora_dropout = 0.25;
  EXPECT_EQ(adapter_dropout(options, /*disable_dropout=*/true), 0.0);
  EXPECT_EQ(adapter_dropout(options, /*disable_dropout=*/false), 0.25);
}

}  // namespace
}  // namespace rlhf
