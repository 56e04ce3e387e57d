#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/core/log.h"
#include "rlhf/models/arch.h"
#include "tests/models/cases.h"

namespace rlhf {
namespace {

using testing::find_case;

/// Problems of a case's config.json with some keys replaced, as one text.
std::string problems_of(const std::string& name, const Json& changes) {
  Json config = find_case(name)["config"];
  config.update(changes);
  Problems problems;
  read_config(config, "config.json", problems);
  try {
    problems.throw_if_any();
  } catch (const UserError& error) {
    return error.what();
  }
  return "none";
}

DecoderConfig read(const std::string& name, const Json& changes = Json::object()) {
  Json config = find_case(name)["config"];
  config.update(changes);
  Problems problems;
  auto read = read_config(config, "config.json", problems);
  problems.throw_if_any();
  return read;
}

void expect_problem(const std::string& name, const Json& changes, const std::string& part) {
  const auto text = problems_of(name, changes);
  EXPECT_NE(text.find(part), std::string::npos) << "expected " << part << "\ngot " << text;
}

TEST(Config, AcceptsEveryCase) {
  for (const auto& one : testing::cases())
    EXPECT_EQ(problems_of(one["name"].get<std::string>(), Json::object()), "none");
}

TEST(Config, NamesTheSupportedFamilies) {
  expect_problem(
      "llama", {{"model_type", "mamba"}},
      "[config.json: model_type] a supported architecture was expected, got 'mamba'. HINT: "
      "supported are llama, "
      "mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, phi3, gpt2, gpt_neox, olmo2, granite.");
}

TEST(Config, ListsAllProblemsAtOnce) {
  const auto text = problems_of("llama", {{"hidden_size", "32"},
                                          {"num_hidden_layers", -1},
                                          {"vocab_size", nullptr},
                                          {"tie_word_embeddings", 1},
                                          {"rms_norm_eps", "small"},
                                          {"hidden_act", "relu6"}});
  for (const char* part :
       {"[config.json: hidden_size] an integer from 1 to 1048576 was expected, got \"32\".",
        "[config.json: num_hidden_layers] an integer from 1 to 4096 was expected, got -1.",
        "[config.json: vocab_size] an integer was expected, the key is missing.",
        "[config.json: tie_word_embeddings] true or false was expected, got 1.",
        "[config.json: rms_norm_eps] a number from 0 to 1 was expected, got \"small\".",
        "[config.json: hidden_act] a supported activation was expected, got 'relu6'."}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(Config, RefusesSizesThatDoNotFit) {
  expect_problem("llama", {{"num_key_value_heads", 3}},
                 "a divisor of num_attention_heads = 4 was expected, got 3");
  expect_problem("gpt2", {{"n_head", 5}}, "a divisor of n_embd = 32 was expected, got 5");
  expect_problem("llama", {{"head_dim", 7}}, "an even number of rotated channels");
  expect_problem("llama", {{"hidden_size", 1e9}}, "an integer from 1 to");
  expect_problem("llama", {{"pad_token_id", 96}}, "pad_token_id");
  EXPECT_EQ(read("llama", {{"pad_token_id", -1}}).pad_id, 95)
      << "counted from the end, as torch.nn.Embedding does";
}

TEST(Config, DrawsNoProblemFromAnother) {
  for (const char* key :
       {"hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"}) {
    const auto text = problems_of("llama", {{key, "many"}});
    EXPECT_EQ(text, fmt::format("[config.json: {}] an integer from 1 to 1048576 was expected, got "
                                "\"many\".",
                                key));
  }
  EXPECT_EQ(problems_of("llama", {{"vocab_size", -5}, {"pad_token_id", 3}}),
            "[config.json: vocab_size] an integer from 1 to 67108864 was expected, got -5.");
}

TEST(Config, RefusesByNameWhatWouldChangeTheResult) {
  expect_problem("llama", {{"quantization_config", {{"bits", 4}}}},
                 "a quantised model is not supported");
  expect_problem("gemma", {{"use_bidirectional_attention", true}},
                 "attention to later tokens is not supported");
  expect_problem("gpt2", {{"add_cross_attention", true}}, "cross-attention is not supported");
  expect_problem("gemma3_text", {{"attn_logit_softcapping", 50.0}}, "a soft-cap on attention");
  expect_problem("llama", {{"partial_rotary_factor", 0.5}}, "rotating a part of each head");
  expect_problem("qwen3", {{"layer_types", {"full_attention", "chunked_attention"}}},
                 "got 'chunked_attention'");
  expect_problem("qwen3", {{"layer_types", {"full_attention", "sliding_attention"}}},
                 "sliding_window was expected");
  expect_problem("qwen3", {{"layer_types", {"full_attention"}}}, "a list of 2 texts was expected");
}

TEST(Config, RefusesUnknownAndBrokenRotaryForms) {
  const auto rope = [](const Json& parameters) { return Json{{"rope_parameters", parameters}}; };
  expect_problem("llama", rope({{"rope_type", "ntk_alpha"}}),
                 "supported are default, linear, dynamic, llama3, yarn and longrope");
  expect_problem("phi3", rope({{"rope_type", "linear"}, {"factor", 2.0}}),
                 "supported are default and longrope");
  expect_problem("llama", rope({{"rope_type", "linear"}}),
                 "[config.json: rope_parameters: factor] a number was expected, the key");
  expect_problem("llama", rope({{"rope_type", "linear"}, {"factor", 0}}),
                 "a number from 1e-06 to 1000000 was expected, got 0");
  expect_problem("llama",
                 rope({{"rope_type", "llama3"},
                       {"factor", 8},
                       {"low_freq_factor", 4},
                       {"high_freq_factor", 1}}),
                 "more than low_freq_factor = 4 was expected, got 1");
  expect_problem(
      "llama",
      rope({{"rope_type", "longrope"}, {"short_factor", {1, 2}}, {"long_factor", {1, 2, 3, -4}}}),
      "a list of 4 positive numbers was expected, got [1,2]");
  expect_problem("llama", rope({{"rope_type", "default"}, {"mrope_section", {1, 1, 2}}}),
                 "multimodal rotary embedding");
  expect_problem("llama", rope({{"full_attention", {{"rope_type", "default"}}}}),
                 "a rope of its own for each kind of layer");
  expect_problem("llama", rope("linear"), "an object was expected");
  expect_problem("gemma3_text", rope({{"rope_type", "default"}}),
                 "full_attention and sliding_attention was expected");
}

TEST(Config, WarnsAboutDropoutThatIsNotApplied) {
  std::vector<std::string> messages;
  const auto before = set_log_sink([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::warning) messages.emplace_back(text);
  });
  read("gpt2", {{"attn_pdrop", 0.0}});
  set_log_sink(before);
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_NE(messages[0].find("resid_pdrop] dropout 0.1 is not applied"), std::string::npos)
      << messages[0];
  EXPECT_NE(messages[1].find("embd_pdrop] dropout 0.1 is not applied"), std::string::npos)
      << messages[1];
}

TEST(Config, ReadsWindowsLayerByLayer) {
  const auto windows = [](const DecoderConfig& config) {
    std::vector<int64_t> out;
    for (const auto& layer : config.layer) out.push_back(layer.window);
    return out;
  };
  EXPECT_EQ(windows(read("mistral")), (std::vector<int64_t>{8, 8}));
  EXPECT_EQ(windows(read("mistral_no_window")), (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(windows(read("qwen2_windows")), (std::vector<int64_t>{0, 8, 8}));
  EXPECT_EQ(windows(read("qwen2", {{"sliding_window", 8}, {"max_window_layers", 0}})),
            (std::vector<int64_t>{0, 0}))
      << "use_sliding_window is false";
  EXPECT_EQ(windows(read("gemma2")), (std::vector<int64_t>{8, 0, 8}));
  EXPECT_EQ(windows(read("gemma2", {{"layer_types", nullptr}})), (std::vector<int64_t>{8, 0, 8}));
  EXPECT_EQ(windows(read("qwen2_windows", {{"layer_types", nullptr}})),
            (std::vector<int64_t>{0, 8, 8}));
  EXPECT_EQ(windows(read("gemma3_text_version4")), (std::vector<int64_t>{8, 8, 0}));
}

TEST(Config, KnowsWhereLengthMatters) {
  EXPECT_EQ(read("llama").shared_prefix_limit(), INT64_MAX);
  EXPECT_EQ(read("llama_dynamic").shared_prefix_limit(), 16);
  EXPECT_EQ(read("llama_longrope").shared_prefix_limit(), 16);
}

}  // namespace
}  // namespace rlhf
