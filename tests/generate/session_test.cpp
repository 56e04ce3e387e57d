// A session against the engine, which knows nothing of earlier calls.
#include "rlhf/generate/session.h"

#include <gtest/gtest.h>

#include "goldens.h"

namespace rlhf {
namespace {

Prompt prompt_of(int32_t length, int32_t start = 0) {
  Prompt prompt{.ids = {}, .key = 7};
  for (int32_t t = 0; t < length; ++t) prompt.ids.push_back((start + t * 37) % 96);
  return prompt;
}

SamplingOptions sampling(int64_t tokens) {
  return {.temperature = 0.9, .max_new_tokens = tokens, .seed = 5, .step = 2};
}

/// Same ids; log-probabilities up to rounding of fp32 sums in another order.
void expect_same(const Completion& a, const Completion& b) {
  EXPECT_EQ(a.ids, b.ids);
  EXPECT_EQ(a.finish_reason, b.finish_reason);
  ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
  for (size_t t = 0; t < a.logprobs.size(); ++t) EXPECT_NEAR(a.logprobs[t], b.logprobs[t], 1e-5);
  ASSERT_EQ(a.sampling_logprobs.size(), b.sampling_logprobs.size());
}

class SessionTest : public ::testing::TestWithParam<std::string> {
 protected:
  Completion alone(const Prompt& prompt, const SamplingOptions& options) {
    return Engine(decoder_).generate(std::span(&prompt, 1), options)[0][0];
  }

  Decoder decoder_ = testing::make_decoder(testing::find_case(GetParam()));
};

// Turns as a conversation makes them: each prompt is the last one, most of its answer, and more.
TEST_P(SessionTest, each_turn_is_what_the_engine_gives_of_the_whole_prompt) {
  Session session(decoder_, /*capacity=*/64);
  for (const double temperature : {0.0, 0.9}) {
    SamplingOptions options = sampling(6);
    options.temperature = temperature;
    options.repetition_penalty = 1.3;
    Prompt prompt = prompt_of(5, temperature > 0.0 ? 3 : 50);
    for (const int32_t more : {3, 1, 14, 9}) {
      const Completion answer = session.generate(prompt, options);
      expect_same(answer, alone(prompt, options));
      prompt.ids.insert(prompt.ids.end(), answer.ids.begin(), answer.ids.begin() + 4);
      const std::vector<int32_t> turn = prompt_of(more, more).ids;
      prompt.ids.insert(prompt.ids.end(), turn.begin(), turn.end());
      ++prompt.key;
    }
  }
}

// Windows, soft-caps, learned positions, partial rotation, angles that depend on a row's length.
INSTANTIATE_TEST_SUITE_P(Models, SessionTest,
                         ::testing::Values("llama", "llama_dynamic", "llama_longrope",
                                           "qwen2_windows", "qwen3", "gemma2", "gemma3_text",
                                           "gpt2", "gpt_neox", "phi3_partial_window"),
                         [](const auto& one) { return one.param; });

// More tokens than one pass takes, then a request that begins as they do.
class LongSession : public SessionTest {};
TEST_P(LongSession, is_what_the_engine_gives) {
  Session session(decoder_, /*capacity=*/720);
  Prompt prompt = prompt_of(700);
  expect_same(session.generate(prompt, sampling(6)), alone(prompt, sampling(6)));
  prompt.ids.resize(20);
  expect_same(session.generate(prompt, sampling(6)), alone(prompt, sampling(6)));
}
INSTANTIATE_TEST_SUITE_P(Models, LongSession,
                         ::testing::Values("llama", "llama_dynamic", "llama_longrope"),
                         [](const auto& one) { return one.param; });

class SessionOfOneModel : public ::testing::Test {
 protected:
  Decoder decoder_ = testing::make_decoder(testing::find_case("qwen2_windows"));
  Session session_{decoder_, /*capacity=*/2000};
};

TEST_F(SessionOfOneModel, computes_only_what_is_new) {
  Prompt prompt = prompt_of(20);
  const Completion answer = session_.generate(prompt, sampling(8));
  EXPECT_EQ(session_.stats().reused_tokens, 0);
  EXPECT_EQ(session_.stats().prefilled_tokens, 20);
  prompt.ids.insert(prompt.ids.end(), answer.ids.begin(), answer.ids.end());
  prompt.ids.push_back(1);
  session_.generate(prompt, sampling(2));
  EXPECT_EQ(session_.stats().reused_tokens, 27);  // the answer's last token was never an input
  EXPECT_EQ(session_.stats().prefilled_tokens, 2);
  session_.generate(prompt, sampling(2));
  EXPECT_EQ(session_.stats().reused_tokens, 28);  // one is computed anew: its row says what follows
  prompt.ids.resize(18);
  prompt.ids[9] = (prompt.ids[9] + 1) % 96;
  session_.generate(prompt, sampling(2));
  EXPECT_EQ(session_.stats().reused_tokens, 9);
}

TEST_F(SessionOfOneModel, long_prompts_go_in_several_passes) {
  const Prompt first = prompt_of(1200);
  Prompt second = first;
  second.ids.resize(700);
  second.ids.insert(second.ids.end(), first.ids.begin(), first.ids.begin() + 600);
  Engine engine(decoder_);
  for (const Prompt& prompt : {first, second}) {
    expect_same(session_.generate(prompt, sampling(20)),
                engine.generate(std::span(&prompt, 1), sampling(20))[0][0]);
  }
  EXPECT_EQ(session_.stats().reused_tokens, 700);
}

TEST_F(SessionOfOneModel, other_types_take_the_plain_way) {
  const Decoder half = Decoder::random(decoder_.config(), 3, at::kBFloat16, at::kCPU);
  Session session(half, 100);
  Prompt prompt = prompt_of(20);
  SamplingOptions options = sampling(8);
  const Completion answer = session.generate(prompt, options);
  prompt.ids.insert(prompt.ids.end(), answer.ids.begin(), answer.ids.end());
  const Completion next = session.generate(prompt, options);
  EXPECT_EQ(session.stats().reused_tokens, 27);
  EXPECT_EQ(next.ids.size(), 8u);
}

TEST_F(SessionOfOneModel, tokens_are_reported_as_they_are_chosen) {
  std::vector<int32_t> seen;
  GenerateCallbacks callbacks;
  callbacks.on_token = [&](const TokenEvent& event) {
    seen.push_back(event.ids.back());
    EXPECT_EQ(event.ids.size(), seen.size());
    return seen.size() == 5;
  };
  const Completion answer = session_.generate(prompt_of(10), sampling(20), callbacks);
  EXPECT_EQ(seen, answer.ids);
  EXPECT_EQ(answer.ids.size(), 5u);
  EXPECT_EQ(answer.finish_reason, FinishReason::stop);
}

TEST_F(SessionOfOneModel, an_interruption_leaves_it_usable) {
  const Prompt prompt = prompt_of(1200);
  Engine engine(decoder_);
  const Completion expected = engine.generate(std::span(&prompt, 1), sampling(20))[0][0];
  // Asked before each of three passes over the prompt and of nineteen over chosen tokens.
  for (const int allowed : {0, 1, 2, 3, 10, 21}) {
    Session session(decoder_, /*capacity=*/2000);
    int asked = 0;
    GenerateCallbacks callbacks;
    callbacks.should_stop = [&] { return ++asked > allowed; };
    EXPECT_THROW(session.generate(prompt, sampling(20), callbacks), Interrupted);
    expect_same(session.generate(prompt, sampling(20)), expected);
  }
  GenerateCallbacks callbacks;
  callbacks.on_token = [](const TokenEvent& event) -> bool {
    if (event.ids.size() == 3) throw std::runtime_error("stop");
    return false;
  };
  EXPECT_THROW(session_.generate(prompt, sampling(20), callbacks), std::runtime_error);
  expect_same(session_.generate(prompt, sampling(20)), expected);
}

TEST_F(SessionOfOneModel, says_what_is_wrong_with_a_request) {
  const auto message = [&](const Prompt& prompt, int64_t tokens) {
    try {
      session_.generate(prompt, sampling(tokens));
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_NE(message(prompt_of(1990), 11).find("1990 prompt tokens and 11 new ones"),
            std::string::npos);
  EXPECT_EQ(message(prompt_of(1990), 10), "");
  EXPECT_NE(message({}, 10).find("at least one token"), std::string::npos);
  EXPECT_NE(message({.ids = {96}}, 10).find("below the vocabulary's 96"), std::string::npos);
}

}  // namespace
}  // namespace rlhf
