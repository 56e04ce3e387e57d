#include "rlhf/generate/engine.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <set>

#include "goldens.h"
#include "rlhf/core/log.h"
#include "rlhf/generate/interrupted.h"
#include "rlhf/generate/kv_cache.h"
#include "rlhf/generate/score.h"

namespace rlhf {
namespace {

const Decoder& model() {
  static const Decoder decoder = testing::make_decoder(testing::find_case("qwen2_windows"));
  return decoder;
}

/// Prompts of 1, 5, 16, 17 and 33 tokens.
std::vector<Prompt> prompts() {
  std::vector<Prompt> out;
  for (const int32_t length : {1, 5, 16, 17, 33}) {
    Prompt& prompt = out.emplace_back();
    prompt.key = out.size() * 11;
    for (int32_t t = 0; t < length; ++t) prompt.ids.push_back((t * 37 + length * 5) % 96);
  }
  return out;
}

SamplingOptions sampling() {
  SamplingOptions options;
  options.temperature = 0.9;
  options.max_new_tokens = 20;
  options.num_generations = 3;
  options.seed = 5;
  options.step = 2;
  return options;
}

using Completions = std::vector<std::vector<Completion>>;

/// Same ids; log-probabilities up to rounding of fp32 sums in another order.
void expect_same(const Completions& a, const Completions& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t p = 0; p < a.size(); ++p) {
    ASSERT_EQ(a[p].size(), b[p].size());
    for (size_t s = 0; s < a[p].size(); ++s) {
      EXPECT_EQ(a[p][s].ids, b[p][s].ids) << "prompt " << p << " sample " << s;
      EXPECT_EQ(a[p][s].finish_reason, b[p][s].finish_reason);
      ASSERT_EQ(a[p][s].logprobs.size(), b[p][s].logprobs.size());
      for (size_t t = 0; t < a[p][s].logprobs.size(); ++t) {
        EXPECT_NEAR(a[p][s].logprobs[t], b[p][s].logprobs[t], 1e-5);
      }
    }
  }
}

TEST(Engine, results_do_not_depend_on_batch_composition) {
  const auto all = prompts();
  const Completions together = Engine(model()).generate(all, sampling());
  expect_same(together, Engine(model(), {.max_rows = 1}).generate(all, sampling()));
  expect_same(together,
              Engine(model(), {.max_rows = 4, .prefill_tokens = 20}).generate(all, sampling()));
  for (size_t i = 0; i < all.size(); ++i) {
    expect_same({together[i]}, Engine(model()).generate(std::span(all).subspan(i, 1), sampling()));
  }
  const int threads = at::get_num_threads();
  at::set_num_threads(threads == 1 ? 2 : 1);
  expect_same(together, Engine(model()).generate(all, sampling()));
  at::set_num_threads(threads);
}

TEST(Engine, the_same_call_gives_the_same_bits) {
  const Completions once = Engine(model()).generate(prompts(), sampling());
  const Completions again = Engine(model()).generate(prompts(), sampling());
  for (size_t p = 0; p < once.size(); ++p) {
    for (size_t s = 0; s < once[p].size(); ++s) {
      EXPECT_EQ(once[p][s].ids, again[p][s].ids);
      EXPECT_EQ(once[p][s].logprobs, again[p][s].logprobs);
    }
  }
}

TEST(Engine, samples_of_a_prompt_differ_and_follow_seed_step_and_key) {
  const auto all = prompts();
  const Completions base = Engine(model()).generate(all, sampling());
  std::set<std::vector<int32_t>> different;
  for (const auto& samples : base) {
    for (const Completion& one : samples) different.insert(one.ids);
  }
  EXPECT_EQ(different.size(), 15u);
  SamplingOptions other = sampling();
  other.seed = 6;
  EXPECT_NE(Engine(model()).generate(all, other)[4][0].ids, base[4][0].ids);
  other = sampling();
  other.step = 3;
  EXPECT_NE(Engine(model()).generate(all, other)[4][0].ids, base[4][0].ids);
  auto keyed = all;
  keyed[4].key = 999;
  const Completions rekeyed = Engine(model()).generate(keyed, sampling());
  EXPECT_NE(rekeyed[4][0].ids, base[4][0].ids);
  EXPECT_EQ(rekeyed[3][0].ids, base[3][0].ids);
}

TEST(Engine, a_shared_prompt_equals_separate_ones) {
  // Greedy samples of one prompt: all must be what the prompt alone gives.
  SamplingOptions greedy = sampling();
  greedy.temperature = 0.0;
  const Completions shared = Engine(model()).generate(prompts(), greedy);
  greedy.num_generations = 1;
  const Completions single = Engine(model()).generate(prompts(), greedy);
  for (size_t p = 0; p < shared.size(); ++p) {
    for (const Completion& one : shared[p]) EXPECT_EQ(one.ids, single[p][0].ids);
  }
}

TEST(Engine, prompts_are_prefilled_once) {
  Engine engine(model(), {.max_rows = 2});  // samples of a prompt enter at different times
  engine.generate(prompts(), sampling());
  EXPECT_EQ(engine.stats().prefilled_tokens, 1 + 5 + 16 + 17 + 33);
  EXPECT_EQ(engine.stats().sampled_tokens, 5 * 3 * 20);
}

TEST(Engine, log_probabilities_equal_the_score) {
  for (const auto& options : {SamplingOptions{.temperature = 0.7, .max_new_tokens = 20},
                              SamplingOptions{.temperature = 1.3,
                              .top_k = 9,
                              .top_p = 0.8,
                              .repetition_penalty = 1.2,
                              .max_new_tokens = 20}}) {
    const auto all = prompts();
    const Completions completions = Engine(model()).generate(all, options);
    std::vector<std::vector<int32_t>> ids;
    std::vector<std::vector<uint8_t>> marks;
    std::vector<PackRow> rows;
    for (size_t p = 0; p < all.size(); ++p) {
      ids.push_back(all[p].ids);
      marks.emplace_back(all[p].ids.size(), 0);
      ids.back().insert(ids.back().end(), completions[p][0].ids.begin(),
                        completions[p][0].ids.end());
      marks.back().resize(ids.back().size(), 1);
    }
    for (size_t p = 0; p < all.size(); ++p) rows.push_back({.ids = ids[p], .supervised = marks[p]});
    for (const int64_t budget : {1, 60, 8192}) {  // one row a pass, some, all
      const auto scores =
          score_rows(model(), rows, {.temperature = options.temperature, .max_tokens = budget});
      for (size_t p = 0; p < all.size(); ++p) {
        ASSERT_EQ(scores[p].size(), completions[p][0].logprobs.size());
        for (size_t t = 0; t < scores[p].size(); ++t) {
          EXPECT_NEAR(scores[p][t], completions[p][0].logprobs[t],
                      1e-4);  // the promise of ALGORITHMS.md
        }
      }
    }
    EXPECT_EQ(completions[0][0].sampling_logprobs.size(), options.filters() ? 20u : 0u);
  }
}

TEST(Engine, stop_ids_end_a_completion_and_belong_to_it) {
  const auto all = prompts();
  const Completions free = Engine(model()).generate(all, sampling());
  SamplingOptions options = sampling();
  options.stop_ids = {free[2][1].ids[7]};
  const Completions stopped = Engine(model()).generate(all, options);
  for (size_t p = 0; p < all.size(); ++p) {
    for (size_t s = 0; s < 3; ++s) {
      std::vector<int32_t> expected = free[p][s].ids;
      const auto stop = std::find(expected.begin(), expected.end(), options.stop_ids[0]);
      const bool found = stop != expected.end();
      expected.erase(found ? stop + 1 : stop, expected.end());
      EXPECT_EQ(stopped[p][s].ids, expected);
      EXPECT_EQ(stopped[p][s].logprobs.size(), expected.size());
      EXPECT_EQ(stopped[p][s].finish_reason, found ? FinishReason::stop : FinishReason::length);
    }
  }
  options.ignore_eos = true;
  expect_same(free, Engine(model()).generate(all, options));
}

TEST(Engine, callbacks_stream_in_order_and_can_stop) {
  std::map<std::pair<int64_t, int64_t>, std::vector<int32_t>> streamed;
  std::vector<std::pair<int64_t, int64_t>> finished;
  GenerateCallbacks callbacks;
  callbacks.on_token = [&](const TokenEvent& event) {
    auto& ids = streamed[{event.prompt, event.sample}];
    ids.push_back(event.ids.back());
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), event.ids.begin(), event.ids.end()));
    return event.prompt == 1 && event.ids.size() == 4;
  };
  callbacks.on_finished = [&](int64_t prompt, int64_t sample, const Completion& one) {
    finished.emplace_back(prompt, sample);
    EXPECT_EQ(one.ids, (streamed[{prompt, sample}]));
  };
  const Completions completions = Engine(model()).generate(prompts(), sampling(), callbacks);
  EXPECT_EQ(completions[1][0].ids.size(), 4u);
  EXPECT_EQ(completions[1][0].finish_reason, FinishReason::stop);
  EXPECT_EQ(completions[0][0].finish_reason, FinishReason::length);
  ASSERT_EQ(finished.size(), 15u);
  EXPECT_EQ(finished.front(), (std::pair<int64_t, int64_t>{1, 0}));  // the shortest leaves first
}

TEST(Engine, memory_is_bounded_and_given_back) {
  const auto all = prompts();
  const int64_t block = KvCache::block_bytes(model().config(), at::kFloat);
  // The longest prompt takes 3 blocks, an answer of 20 tokens 2.
  Engine engine(model(), {.cache_bytes = 5 * block});
  const Completions tight = engine.generate(all, sampling());
  EXPECT_LE(engine.stats().peak_blocks, 5);
  EXPECT_EQ(engine.stats().blocks_in_use, 0);
  EXPECT_LE(engine.stats().cache_bytes, 5 * block);
  expect_same(tight, Engine(model()).generate(all, sampling()));
}

TEST(Engine, finished_rows_free_their_blocks_at_once) {
  // Nine blocks: 2 rows of (1 prompt, 2 answer) fit with room to spare, so rows enter as others
  // leave.
  const int64_t block = KvCache::block_bytes(model().config(), at::kFloat);
  std::vector<Prompt> many;
  for (uint64_t i = 0; i < 12; ++i) many.push_back({{static_cast<int32_t>(i), 3, 4}, i});
  SamplingOptions options = sampling();
  options.num_generations = 1;
  Engine engine(model(), {.cache_bytes = 9 * block});
  GenerateCallbacks callbacks;
  callbacks.on_token = [](const TokenEvent& event) {
    return event.prompt % 3 != 0 && event.ids.size() == 2;
  };
  engine.generate(many, options, callbacks);
  EXPECT_EQ(engine.stats().peak_rows, 3);
  EXPECT_EQ(engine.stats().blocks_in_use, 0);
  // 4 rows of 20 tokens and 8 of 2. Were finished rows to wait for the longest of their three, 4
  // rounds of 19 steps would pass.
  EXPECT_LT(engine.stats().decode_steps, 60);
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(Engine, a_budget_too_small_is_named_in_bytes) {
  const int64_t block = KvCache::block_bytes(model().config(), at::kFloat);
  const auto all = prompts();
  const std::string message =
      message_of([&] { Engine(model(), {.cache_bytes = 4 * block}).generate(all, sampling()); });
  EXPECT_NE(message.find(fmt::format("need {} bytes", 5 * block)), std::string::npos) << message;
  EXPECT_NE(message.find(fmt::format("{} bytes short", block)), std::string::npos) << message;
  EXPECT_NE(message.find("prompt 4"), std::string::npos) << message;
}

TEST(Engine, every_bad_prompt_is_named) {
  const std::vector<Prompt> bad = {{{}, 0}, {{1, 96}, 0}, {{5}, 0}, {{-1}, 0}};
  const std::string message = message_of([&] { Engine(model()).generate(bad, sampling()); });
  for (const char* where : {"prompt 0", "prompt 1", "prompt 3"}) {
    EXPECT_NE(message.find(where), std::string::npos) << message;
  }
  EXPECT_EQ(message.find("prompt 2"), std::string::npos) << message;
}

TEST(Engine, learned_positions_bound_a_row) {
  const Decoder gpt2 = testing::make_decoder(testing::find_case("gpt2"));  // 64 positions
  const std::vector<Prompt> one = {{std::vector<int32_t>(40, 1), 0}};
  EXPECT_NE(message_of([&] { Engine(gpt2).generate(one, {.max_new_tokens = 25}); }), "");
  EXPECT_EQ(Engine(gpt2).generate(one, {.max_new_tokens = 24})[0][0].ids.size(), 24u);
}

TEST(Engine, a_failing_callback_leaves_no_damage) {
  GenerateCallbacks callbacks;
  callbacks.on_token = [](const TokenEvent& event) -> bool {
    if (event.ids.size() == 3) throw std::runtime_error("stop");
    return false;
  };
  Engine engine(model());
  EXPECT_THROW(engine.generate(prompts(), sampling(), callbacks), std::runtime_error);
  expect_same(engine.generate(prompts(), sampling()),
              Engine(model()).generate(prompts(), sampling()));
}

TEST(Engine, stops_before_the_next_pass_when_asked) {
  int asked = 0;
  int64_t tokens = 0;
  GenerateCallbacks callbacks;
  callbacks.should_stop = [&] { return ++asked == 5; };
  callbacks.on_token = [&](const TokenEvent&) {
    ++tokens;
    return false;
  };
  Engine engine(model());
  EXPECT_THROW(engine.generate(prompts(), sampling(), callbacks), Interrupted);
  EXPECT_EQ(tokens, 4 * 15);  // four passes over all fifteen rows
  expect_same(engine.generate(prompts(), sampling()),
              Engine(model()).generate(prompts(), sampling()));
}

TEST(Engine, warns_once_of_rows_beyond_the_models_context) {
  int warnings = 0;
  const LogSink before = set_log_sink(
      [&](LogLevel level, std::string_view) { warnings += level == LogLevel::warning; });
  const std::vector<Prompt> one = {{std::vector<int32_t>(120, 1), 0}};  // 128 positions
  Engine engine(model());
  engine.generate(one, {.max_new_tokens = 8});
  EXPECT_EQ(warnings, 0);
  for (int call = 0; call < 3; ++call) engine.generate(one, {.max_new_tokens = 9});
  set_log_sink(before);
  EXPECT_EQ(warnings, 1);
}

TEST(Engine, one_new_token_needs_no_answer_block) {
  SamplingOptions options = sampling();
  options.max_new_tokens = 1;
  Engine engine(model());
  for (const auto& samples : engine.generate(prompts(), options)) {
    for (const Completion& one : samples) EXPECT_EQ(one.ids.size(), 1u);
  }
  EXPECT_EQ(engine.stats().decode_steps, 0);
  EXPECT_TRUE(engine.generate({}, options).empty());
}

}  // namespace
}  // namespace rlhf
