// What a wrong adapter or a wrong request for one gets: everything wrong at once, by name.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "rlhf/models/adapter.h"
#include "tests/models/adapter_cases.h"

namespace rlhf {
namespace {

using testing::AdapterFolders;
using testing::find_case;
using testing::make_decoder;

/// All problems of the UserError that `run` throws, one a line; empty where it throws none.
template <class Run>
std::string problems_of(Run run) {
  std::string text;
  try {
    run();
  } catch (const UserError& error) {
    for (const auto& problem : error.problems()) text += problem.text() + "\n";
  }
  return text;
}

void expect_parts(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

constexpr const char* kQ0 = "base_model.model.model.layers.0.self_attn.q_proj.";

TEST(AdapterErrors, MissingUnexpectedAndMisshapenTensorsByFullKey) {
  AdapterFolders folders("llama_lora");
  auto& weights = folders.weights();
  weights.erase(std::string(kQ0) + "lora_A.weight");
  weights[std::string(kQ0) + "lora_B.weight"] = at::full({32, 3}, 0.1);
  weights["base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight"] =
      at::full({2, 32}, 0.1);
  weights["base_model.model.model.embed_tokens.weight"] = at::full({96, 32}, 0.1);
  folders.write();
  const auto text = problems_of([&] { load_adapted_model(folders.adapter()); });
  expect_parts(text, {"layers.0.self_attn.q_proj.lora_A.weight] a tensor (2, 32) was expected",
                      "q_proj.lora_B.weight] the shape (32, 2) was expected, got (32, 3)",
                      "o_proj.lora_A.weight] no such tensor was expected",
                      "embed_tokens.weight] no such tensor was expected", "modules_to_save",
                      "it names '../base'"});
}

TEST(AdapterErrors, KeysWithoutTheirPrefixAreUnexpected) {
  AdapterFolders folders("llama_lora");
  std::map<std::string, at::Tensor> bare;
  for (const auto& [key, tensor] : folders.weights()) bare[key.substr(key.find("layers"))] = tensor;
  folders.weights() = bare;
  folders.write();
  expect_parts(problems_of([&] { load_adapted_model(folders.adapter()); }),
               {"there is none", "layers.0.self_attn.q_proj.lora_A.weight] no such tensor"});
}

TEST(AdapterErrors, AnotherBaseIsRefusedNamingBoth) {
  const AdapterFolders folders("llama_lora");
  testing::write_base("gpt2", folders.path() / "gpt2");
  expect_parts(
      problems_of([&] { load_adapted_model(folders.adapter(), {}, folders.path() / "gpt2"); }),
      {"/gpt2 (gpt2)", "../base"});
  // The same shapes and other weights.
  testing::write_base("llama", folders.path() / "sibling");
  auto tensors = testing::make_weights(find_case("llama"));
  tensors["lm_head.weight"].mul_(2);
  std::vector<TensorToStore> stored;
  for (const auto& [name, tensor] : tensors) stored.push_back({name, tensor, at::kFloat});
  write_safetensors(folders.path() / "sibling/model.safetensors", stored);
  expect_parts(
      problems_of([&] { load_adapted_model(folders.adapter(), {}, folders.path() / "sibling"); }),
      {"/sibling was expected, it was made for", "../base", "whose weights are others"});
  // A copy of the base is the base.
  testing::write_base("llama", folders.path() / "copy");
  EXPECT_EQ(
      problems_of([&] { load_adapted_model(folders.adapter(), {}, folders.path() / "copy"); }), "");
}

TEST(AdapterErrors, BaseThatIsNotThere) {
  AdapterFolders folders("llama_lora");
  folders.config()["base_model_name_or_path"] = "nowhere/llama";
  folders.write();
  expect_parts(problems_of([&] { load_adapted_model(folders.adapter()); }),
               {"base_model_name_or_path", "nowhere/llama", "--base_model"});
}

TEST(AdapterErrors, AnAdapterThatChangesNothing) {
  for (const char* name : {"llama_lora", "llama_dora", "llama_saved"}) {
    const AdapterFolders folders(name);
    auto model = load_model(folders.base());
    auto config = load_lora_config(folders.adapter());
    const auto target = folders.path() / "fresh";
    fs::create_directory(target);
    save_adapter(make_adapter(model.decoder, config, 1), model.decoder.config(), target);
    expect_parts(problems_of([&] { load_adapter(target, model); }), {"every lora_B is zero"});
    AdapterLoadOptions options;
    options.allow_unchanged = true;
    EXPECT_NO_THROW(load_adapter(target, model, options));
  }
}

TEST(AdapterErrors, NumbersThatAreNone) {
  AdapterFolders folders("llama_lora");
  auto& tensor = folders.weights()[std::string(kQ0) + "lora_A.weight"];
  tensor.view(-1)[3] = std::nanf("");
  folders.write();
  expect_parts(problems_of([&] { load_adapted_model(folders.adapter()); }),
               {"q_proj.lora_A.weight] finite numbers were expected"});
}

TEST(AdapterErrors, ConfigurationAllAtOnce) {
  AdapterFolders folders("llama_lora");
  auto& config = folders.config();
  config["peft_type"] = "IA3";
  config["r"] = 0;
  config["lora_alpha"] = -1;
  config["lora_dropout"] = 1.0;
  config["bias"] = "all";
  config["rank_pattern"] = {{"q_proj", 4}};
  config["init_lora_weights"] = "pissa";
  config["task_type"] = "SEQ_2_SEQ_LM";
  config["use_dora"] = 1;
  config["something_new"] = "on";
  config["something_off"] = nullptr;
  folders.write();
  const auto text = problems_of([&] { load_lora_config(folders.adapter()); });
  expect_parts(text, {"peft_type] LORA was expected, got 'IA3'", ": r] a rank from 1",
                      ": lora_alpha]", ": lora_dropout]", ": bias] none was expected",
                      ": rank_pattern]", ": init_lora_weights]", ": task_type]",
                      ": use_dora] true or false", ": something_new]"});
  EXPECT_EQ(text.find("something_off"), std::string::npos);
}

TEST(AdapterErrors, TaskOfAnotherKind) {
  AdapterFolders folders("llama_lora");
  folders.config()["task_type"] = "SEQ_CLS";
  folders.write();
  const auto model = load_model(folders.base());
  expect_parts(problems_of([&] { load_adapter(folders.adapter(), model); }), {"task_type"});
}

std::string problems_of_new(const char* base, LoraConfig config) {
  const auto decoder = make_decoder(find_case(base));
  return problems_of([&] { make_adapter(decoder, config, 1); });
}

TEST(AdapterErrors, TargetsThatDoNotExist) {
  LoraConfig config;
  config.target_modules = {"q_proj", "query", "lm_head"};
  config.modules_to_save = {"final_norm"};
  config.layers_to_transform = {0, 2};
  expect_parts(problems_of_new("llama", config),
               {"'query' is none", "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",
                "'lm_head' is none", "put it into modules_to_save", "'final_norm' matches none",
                "layers 0 to 1 were expected, got 2"});
  config = {};
  config.target_pattern = "q_proj";  // a pattern matches a whole name
  expect_parts(problems_of_new("llama", config), {"at least one matrix was expected to match"});
  config.target_pattern = "(";
  expect_parts(problems_of_new("llama", config), {"a regular expression was expected"});
  expect_parts(problems_of_new("phi3", {}), {"there is no default for phi3", "qkv_proj"});
  config = {};
  config.r = -1;
  config.dropout = 2;
  expect_parts(problems_of_new("llama", config), {"r] a rank", "lora_dropout]"});
}

TEST(AdapterErrors, BothAdaptedAndTrainedAsAWhole) {
  LoraConfig config;
  config.target_modules = {"q_proj"};
  config.modules_to_save = {"proj"};  // ends q_proj's name, and is no whole part of it
  expect_parts(problems_of_new("llama", config), {"it is to be both"});
}

}  // namespace
}  // namespace rlhf
