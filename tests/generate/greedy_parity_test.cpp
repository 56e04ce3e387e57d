// Greedy texts of tiny models of every kind of attention, against transformers.
#include <gtest/gtest.h>

#include "goldens.h"
#include "rlhf/generate/engine.h"
#include "rlhf/generate/score.h"

namespace rlhf {
namespace {

class GreedyParity : public ::testing::TestWithParam<std::string> {};

/// Ids agree up to the first place whose two best scores are closer than 1e-4: behind it the texts
/// may part.
size_t comparable(const Json& golden) {
  size_t n = 0;
  while (n < golden.at("gaps").size() && golden.at("gaps")[n].get<double>() >= 1e-4) {
    ++n;
  }
  return n;
}

TEST_P(GreedyParity, ids_and_log_probabilities_of_transformers) {
  const Decoder decoder = testing::make_decoder(testing::find_case(GetParam()));
  for (const double penalty : {1.0, 1.3}) {
    std::vector<const Json*> wanted;
    std::vector<Prompt> prompts;
    for (const Json& golden : testing::goldens().at("models").at(GetParam())) {
      if (golden.at("penalty").get<double>() == penalty) {
        wanted.push_back(&golden);
        prompts.push_back({golden.at("prompt").get<std::vector<int32_t>>(), 0});
      }
    }
    ASSERT_EQ(prompts.size(), 4u);
    Engine engine(decoder);
    const auto completions = engine.generate(
        prompts, {.temperature = 0.0, .repetition_penalty = penalty, .max_new_tokens = 24});
    size_t compared = 0;
    for (size_t i = 0; i < prompts.size(); ++i) {
      const size_t n = comparable(*wanted[i]);
      const auto ids = wanted[i]->at("ids").get<std::vector<int32_t>>();
      const Completion& got = completions[i][0];
      ASSERT_EQ(got.ids.size(), 24u);
      compared += n;
      for (size_t t = 0; t < n; ++t) {
        ASSERT_EQ(got.ids[t], ids[t]) << "prompt " << i << " token " << t;
        EXPECT_NEAR(got.logprobs[t], wanted[i]->at("logprobs")[t].get<float>(),
                    2e-4);  // fp32, other order of sums
      }
    }
    EXPECT_GE(compared, 80u);  // of 96: the goldens are worth something
  }
}

TEST_P(GreedyParity, scores_of_transformers_at_another_temperature) {
  const Decoder decoder = testing::make_decoder(testing::find_case(GetParam()));
  for (const Json& golden : testing::goldens().at("models").at(GetParam())) {
    std::vector<int32_t> ids = golden.at("prompt").get<std::vector<int32_t>>();
    std::vector<uint8_t> supervised(ids.size(), 0);
    for (const Json& id : golden.at("ids")) {
      ids.push_back(id.get<int32_t>());
      supervised.push_back(1);
    }
    const PackRow row{.ids = ids, .supervised = supervised};
    const auto scores = score_rows(decoder, std::span(&row, 1), {.temperature = 0.7});
    ASSERT_EQ(scores[0].size(), golden.at("logprobs_07").size());
    for (size_t t = 0; t < scores[0].size(); ++t) {
      EXPECT_NEAR(scores[0][t], golden.at("logprobs_07")[t].get<float>(), 2e-4);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GreedyParity,
                         ::testing::Values("llama", "llama_biases", "llama_llama3", "mistral",
                                           "qwen2_windows", "qwen3", "gemma", "gemma2",
                                           "gemma3_text", "phi3_partial_window", "gpt2", "gpt_neox",
                                           "olmo2", "granite"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace rlhf
