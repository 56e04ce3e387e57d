// Reward models and process reward models against transformers 5 (tools/make_reward_models.py):
// scores alone and packed, gradients; what becomes of a language model's folder; what is refused.
#include "rlhf/models/classifier.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "rlhf/core/log.h"
#include "tests/models/cases.h"
#include "tests/models/folders.h"
#include "tests/models/temporary_folder.h"

namespace rlhf {
namespace {

using testing::expect_part;
using testing::find_case;
using testing::ids_of;
using testing::make_decoder;
using testing::make_folder;
using testing::pack;
using testing::refusal;
using testing::TemporaryFolder;

/// The scores of rows that share a batch, flat: of each row's last token, or of every token.
std::vector<at::Tensor> scores(const Decoder& decoder,
                               const std::vector<std::vector<int64_t>>& rows) {
  const auto packed = pack(rows);
  PackedAttention attention(packed.segments);
  const auto all = decoder.score(decoder.forward(packed.ids, packed.positions, attention));
  std::vector<at::Tensor> out;
  for (const auto& segment : packed.segments) {
    const auto own = all.slice(0, segment.begin, segment.begin + segment.length);
    const bool last = decoder.config().task == ModelTask::sequence_classification;
    out.push_back((last ? own[-1] : own).flatten());
  }
  return out;
}

std::vector<at::Tensor> scores_alone(const Decoder& decoder, const Json& one) {
  std::vector<at::Tensor> out;
  for (const auto& row : ids_of(one)) out.push_back(scores(decoder, {row}).front());
  return out;
}

double largest_error(const std::vector<at::Tensor>& got, const Json& one) {
  double largest = 0.0;
  EXPECT_EQ(got.size(), one["scores"].size());
  for (size_t row = 0; row < got.size(); ++row) {
    const auto expected = one["scores"][row].get<std::vector<double>>();
    EXPECT_EQ(got[row].numel(), std::ssize(expected));
    for (size_t i = 0; i < expected.size(); ++i) {
      const double error = std::abs(got[row][static_cast<int64_t>(i)].item<double>() - expected[i]);
      largest = std::isnan(error) ? INFINITY : std::max(largest, error);
    }
  }
  return largest;
}

class Classifier : public ::testing::TestWithParam<std::string> {
 protected:
  const Json& one() const { return find_case(GetParam()); }
};

// fp32 against fp32 by other kernels in another order; the promise to users is 1e-4.
TEST_P(Classifier, ScoresAsTransformersAlone) {
  EXPECT_LT(largest_error(scores_alone(make_decoder(one()), one()), one()), 1e-5);
}

// One of the rows holds the padding id and EOS; the longest stands in the middle.
TEST_P(Classifier, ScoresAsTransformersPacked) {
  EXPECT_LT(largest_error(scores(make_decoder(one()), ids_of(one())), one()), 1e-5);
}

// Norms of fp32 gradients by two backwards; a wrong or missing term is far above 1e-4 of a norm.
TEST_P(Classifier, GradientsHaveTransformersNorms) {
  auto decoder = make_decoder(one());
  decoder.set_requires_grad(true);
  at::Tensor sum;
  for (const auto& row : scores_alone(decoder, one())) {
    sum = sum.defined() ? sum + row.sum() : row.sum();
  }
  sum.backward();
  for (const auto& [name, tensor] : decoder.tensors()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    const double expected = one()["gradient_norms"][name].get<double>();
    EXPECT_NEAR(tensor.grad().norm().item<double>(), expected, 1e-4 * expected + 1e-6) << name;
  }
}

TEST_P(Classifier, SavesTheBytesItLoaded) {
  const TemporaryFolder temporary;
  const auto source = temporary.path() / "source";
  const auto target = temporary.path() / "target";
  fs::create_directories(source);
  fs::create_directories(target);
  make_folder(one(), source);
  save_model(load_model(source), target);
  EXPECT_EQ(read_file(target / "model.safetensors"), read_file(source / "model.safetensors"));
  EXPECT_EQ(Json::parse(read_file(target / "config.json")), one()["config"]);
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& one : testing::reward_cases()) out.push_back(one["name"].get<std::string>());
  return out;
}

INSTANTIATE_TEST_SUITE_P(Models, Classifier, ::testing::ValuesIn(names()),
                         [](const auto& chosen) { return chosen.param; });

TEST(ScoreHead, IsTakenInFloat32WhateverTheModel) {
  const auto decoder = make_decoder(find_case("gpt2_steps"), at::kBFloat16);
  const auto hidden =
      make_decoder(find_case("gpt2_steps")).tensors().front().tensor.to(at::kBFloat16);
  const auto got = decoder.score(hidden);
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  const auto tensors = testing::make_weights(find_case("gpt2_steps"), at::kBFloat16);
  const auto expected =
      at::linear(hidden.to(at::kFloat), tensors.at("classifier.weight").to(at::kFloat),
                 tensors.at("classifier.bias").to(at::kFloat));
  EXPECT_TRUE(got.equal(expected));
}

TEST(ScoreHead, IsAskedForByName) {
  const auto reward = make_decoder(find_case("llama_reward"));
  const auto language = make_decoder(find_case("llama"));
  EXPECT_THROW(reward.head(), UserError);
  EXPECT_THROW(language.score(language.tensors().front().tensor), UserError);
}

class ClassifierFolder : public ::testing::Test {
 protected:
  fs::path sub(const std::string& name) {
    const auto path = temporary_.path() / name;
    fs::create_directories(path);
    return path;
  }

  /// A folder of `name` whose config.json `change` has altered.
  fs::path changed(const std::string& name, const std::function<void(Json&)>& change) {
    auto one = find_case(name);
    change(one["config"]);
    make_folder(one, sub("changed"));
    return sub("changed");
  }

  TemporaryFolder temporary_;
};

const LoadOptions kReward = {.dtype = {}, .task = ModelTask::sequence_classification};
const LoadOptions kSteps = {.dtype = {}, .task = ModelTask::token_classification, .labels = 2};

TEST_F(ClassifierFolder, ALanguageModelLosesItsHeadAndGetsAScore) {
  for (const std::string name : {"llama", "llama_tied", "gpt2", "gpt_neox", "qwen3", "gemma2"}) {
    make_folder(find_case(name), sub(name));
    std::string said;
    const auto before = set_log_sink([&](LogLevel, std::string_view text) { said += text; });
    const auto model = load_model(sub(name), kReward);
    set_log_sink(before);
    expect_part(said, "score is new, 1 label, normal(0, 0.02)");
    const auto& tensors = model.decoder.tensors();
    const auto language = load_model(sub(name));
    const auto& others = language.decoder.tensors();
    ASSERT_EQ(tensors.size(), others.size() + (language.decoder.config().tied ? 1 : 0)) << name;
    for (size_t i = 0; i + 1 < tensors.size(); ++i) {
      EXPECT_EQ(tensors[i].name, others[i].name);
      EXPECT_TRUE(tensors[i].tensor.equal(others[i].tensor)) << tensors[i].name;
    }
    EXPECT_EQ(tensors.back().name, "score.weight");
    EXPECT_EQ(tensors.back().tensor.sizes(), (std::vector<int64_t>{1, 32}));
  }
}

TEST_F(ClassifierFolder, WritesTheConfigurationOfTransformers) {
  // What transformers wrote for the same families (its num_labels is implied by id2label).
  for (const auto& [language, classifier] :
       {std::pair{"llama", "llama_reward"}, std::pair{"gpt2", "gpt2_reward"},
        std::pair{"gemma3_text", "gemma3_text_reward"}, std::pair{"gpt2", "gpt2_steps"}}) {
    make_folder(find_case(language), sub(language));
    const auto& expected = find_case(classifier);
    auto options = expected["kind"] == "token" ? kSteps : kReward;
    options.pad_id = 3;
    save_model(load_model(sub(language), options), sub("target"));
    const auto written = Json::parse(read_file(sub("target") / "config.json"));
    EXPECT_EQ(written["architectures"], expected["config"]["architectures"]);
    EXPECT_EQ(written["num_labels"], expected["labels"]);
    EXPECT_EQ(written["pad_token_id"], 3);
    if (expected["labels"] == 1) {
      EXPECT_EQ(written["id2label"], expected["config"]["id2label"]);
      EXPECT_EQ(written["label2id"], expected["config"]["label2id"]);
    }
    // And reads its own.
    const auto again = load_model(sub("target"), options);
    EXPECT_EQ(again.config, written);
    EXPECT_EQ(again.decoder.config().labels, expected["labels"].get<int64_t>());
  }
}

TEST_F(ClassifierFolder, TheNewHeadIsNormalAndItsOwnStream) {
  auto options = kSteps;
  options.labels = 64;
  options.seed = 5;
  make_folder(find_case("llama"), sub("source"), at::kBFloat16);
  const auto weight = [&](const LoadOptions& how) {
    return load_model(sub("source"), how).decoder.tensors().end()[-2].tensor;
  };
  // 2,048 normal numbers of deviation 0.02: their spread is within 8% of it (5 standard errors).
  const auto first = weight(options);
  EXPECT_EQ(first.scalar_type(), at::kBFloat16);
  EXPECT_NEAR(first.to(at::kFloat).std().item<double>(), 0.02, 0.0016);
  EXPECT_NEAR(first.to(at::kFloat).mean().item<double>(), 0.0, 0.0023);
  EXPECT_TRUE(first.equal(weight(options)));
  const auto model = load_model(sub("source"), options);
  EXPECT_EQ(model.decoder.tensors().back().name, "score.bias");
  EXPECT_TRUE(model.decoder.tensors().back().tensor.eq(0).all().item<bool>());
  // From scratch it is the same head: nothing else draws from its stream.
  options.from_scratch = true;
  options.dtype = at::kBFloat16;
  EXPECT_TRUE(first.equal(weight(options)));
  options.seed = 6;
  EXPECT_FALSE(first.equal(weight(options)));
}

TEST_F(ClassifierFolder, ShardsAreReadAndWritten) {
  make_folder(find_case("llama"), sub("source"));
  save_model(load_model(sub("source")), sub("shards"), {.dtype = {}, .max_shard_bytes = 12'500});
  const auto model = load_model(sub("shards"), kReward);
  save_model(model, sub("target"), {.dtype = {}, .max_shard_bytes = 12'500});
  const auto index = Json::parse(read_file(sub("target") / "model.safetensors.index.json"));
  EXPECT_TRUE(index["weight_map"].contains("score.weight"));
  EXPECT_FALSE(index["weight_map"].contains("lm_head.weight"));
  const auto again = load_model(sub("target"));
  EXPECT_TRUE(again.decoder.tensors().back().tensor.equal(model.decoder.tensors().back().tensor));
}

TEST_F(ClassifierFolder, GptNeoxLosesItsHeadUnderBothNames) {
  auto one = find_case("gpt_neox");
  one["tensors"]["lm_head.weight"] = one["tensors"]["embed_out.weight"];
  one["tensors"].erase("embed_out.weight");
  make_folder(one, sub("source"));
  const auto model = load_model(sub("source"), kSteps);
  EXPECT_EQ(model.decoder.tensors().back().name, "classifier.bias");
}

TEST_F(ClassifierFolder, RefusesAFolderOfAnotherKind) {
  make_folder(find_case("llama_reward"), sub("reward"));
  make_folder(find_case("llama_steps"), sub("steps"));
  make_folder(find_case("granite"), sub("granite"));
  make_folder(find_case("olmo2"), sub("olmo2"));
  auto two = kReward;
  two.labels = 2;
  expect_part(refusal(sub("reward"), two), "num_labels] 2 was expected, got 1.");
  expect_part(refusal(sub("reward"), kSteps),
              "architectures] a process reward model (token classification) was expected, got "
              "LlamaForSequenceClassification");
  expect_part(refusal(sub("steps"), {.dtype = {}, .task = ModelTask::language_model}),
              "a language model was expected, got LlamaForTokenClassification");
  expect_part(refusal(sub("granite"), kReward),
              "got granite. HINT: transformers has such a class "
              "for llama, mistral, qwen2, qwen3, gemma, gemma2, "
              "gemma3_text, phi3, gpt2, gpt_neox, olmo2.");
  expect_part(refusal(sub("olmo2"), kSteps),
              "for llama, mistral, qwen2, qwen3, gemma, gemma2, "
              "phi3, gpt2, gpt_neox.");
}

TEST_F(ClassifierFolder, RefusesAHeadThatIsMissingOrOfAnotherShape) {
  auto one = find_case("llama_reward");
  one["tensors"].erase("score.weight");
  make_folder(one, sub("headless"));
  for (const LoadOptions& options : {LoadOptions{}, kReward}) {
    const auto text = refusal(sub("headless"), options);
    expect_part(text, "[score.weight] a tensor of shape (1, 32) was expected, it is missing.");
    expect_part(text, "has no head for it");
  }
  // transformers takes two labels where config.json names none.
  const auto unnamed = changed("llama_reward", [](Json& config) {
    config.erase("id2label");
    config.erase("label2id");
  });
  expect_part(refusal(unnamed),
              "[score.weight] shape (2, 32) was expected from config.json, got (1, 32).");
  // A language model's folder with a classifier's name.
  const auto named = changed(
      "llama", [](Json& config) { config["architectures"] = {"LlamaForSequenceClassification"}; });
  expect_part(refusal(named), "[lm_head.weight] no such tensor was expected");
}

TEST_F(ClassifierFolder, RefusesConfigurationsThatDisagree) {
  expect_part(refusal(changed("llama_reward", [](Json& config) { config["num_labels"] = 3; })),
              "num_labels] 1 was expected, as id2label has so many entries, got 3.");
  expect_part(refusal(changed("llama_reward",
                              [](Json& config) {
                                config["architectures"] = {"Qwen2ForSequenceClassification"};
                              })),
              "LlamaForSequenceClassification was expected for model_type llama, got "
              "'Qwen2ForSequenceClassification'.");
  expect_part(refusal(changed("granite",
                              [](Json& config) {
                                config["architectures"] = {"GraniteForTokenClassification"};
                              })),
              "a class that granite models have was expected");
  expect_part(refusal(changed("llama_reward", [](Json& config) { config["architectures"] = 7; })),
              "architectures] a list of texts was expected, got 7.");
  expect_part(refusal(changed("llama_reward", [](Json& config) { config["id2label"] = {"a"}; })),
              "id2label] an object was expected");
}

TEST_F(ClassifierFolder, KeepsTheStatisticsOfItsRewards) {
  make_folder(find_case("llama_reward"), sub("source"));
  auto model = load_model(sub("source"));
  EXPECT_FALSE(reward_statistics(model.config, "config.json"));
  set_reward_statistics(model.config, {.mean = -1.25, .std = 0.5});
  save_model(model, sub("target"));
  const auto again = load_model(sub("target"));
  const auto found = reward_statistics(again.config, "config.json");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->mean, -1.25);
  EXPECT_EQ(found->std, 0.5);
  Json broken = again.config;
  broken["reward_std"] = 0.0;
  EXPECT_THROW(reward_statistics(broken, "config.json"), UserError);
  broken.erase("reward_std");
  EXPECT_THROW(reward_statistics(broken, "config.json"), UserError);
}

// Not a test of its own: writes what tools/check_saved_models.py loads in transformers. With the
// scores of transformers for models read and saved, with our own for heads made here.
TEST_F(ClassifierFolder, LeavesSavedModelsForTransformers) {
  const char* out = std::getenv("RLHF_SAVED_MODELS");
  if (out == nullptr) GTEST_SKIP() << "RLHF_SAVED_MODELS names no folder";
  const auto leave = [&](const Model& model, const Json& one) {
    const auto base = fs::path(out) / one["name"].get<std::string>();
    fs::create_directories(base / "whole");
    fs::create_directories(base / "shards");
    save_model(model, base / "whole");
    save_model(model, base / "shards", {.dtype = {}, .max_shard_bytes = 20'000});
    write_file(base / "case.json", one.dump());
  };
  for (const auto& one : testing::reward_cases()) {
    make_folder(one, sub(one["name"].get<std::string>()));
    leave(load_model(sub(one["name"].get<std::string>())), one);
  }
  for (const auto& language : testing::cases()) {
    const auto name = language["name"].get<std::string>();
    make_folder(language, sub(name));
    for (auto options : {kReward, kSteps}) {
      const auto& row = *load_decoder_config(sub(name)).row;
      if (*row.class_for(*options.task) == '\0') continue;
      options.pad_id = 4;
      const auto model = load_model(sub(name), options);
      const bool steps = options.task == ModelTask::token_classification;
      Json one = {{"name", name + (steps ? "_to_steps" : "_to_reward")},
                  {"kind", steps ? "token" : "sequence"},
                  {"ids", language["ids"]},
                  {"scores", Json::array()}};
      for (const auto& row_scores : scores_alone(model.decoder, one)) {
        const auto values = row_scores.contiguous();
        one["scores"].push_back(std::vector<float>(
            values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel()));
      }
      leave(model, one);
    }
  }
}

}  // namespace
}  // namespace rlhf
