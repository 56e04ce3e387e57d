#include "rlhf/generate/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "goldens.h"
#include "rlhf/core/random.h"
#include "rlhf/generate/row_kernels.h"

namespace rlhf {
namespace {

/// Logits of the distribution 0.4, 0.3, 0.2, 0.1.
std::vector<float> four() {
  return {std::log(0.4f), std::log(0.3f), std::log(0.2f), std::log(0.1f)};
}

std::vector<int32_t> kept(std::vector<float> logits, const SamplingOptions& options,
                          std::vector<int32_t> seen = {}) {
  return Sampler().kept(logits, seen, options);
}

ChosenToken choose(std::vector<float> logits, const SamplingOptions& options, double uniform,
                   std::vector<int32_t> seen = {}) {
  return Sampler().choose(logits, seen, options, uniform);
}

using Ids = std::vector<int32_t>;

TEST(Sampler, keeps_by_hand) {
  EXPECT_EQ(kept(four(), {}), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept(four(), {.top_k = 2}), (Ids{0, 1}));
  EXPECT_EQ(kept({1, 1, 1, 0}, {.top_k = 2}), (Ids{0, 1, 2}));  // ties with the second stay
  EXPECT_EQ(kept(four(), {.top_p = 0.35}), (Ids{0}));           // 0.4 >= 0.35
  EXPECT_EQ(kept(four(), {.top_p = 0.45}), (Ids{0, 1}));        // 0.4 < 0.45 <= 0.7
  EXPECT_EQ(kept(four(), {.top_p = 0.95}), (Ids{0, 1, 2, 3}));  // 0.9 < 0.95
  EXPECT_EQ(kept(four(), {.min_p = 0.6}), (Ids{0, 1}));         // 0.3 >= 0.24 > 0.2
  // top-p acts on what top-k kept: 0.4 / 0.9 = 0.44 is enough for 0.42, 0.4 alone is not.
  EXPECT_EQ(kept(four(), {.top_p = 0.42}), (Ids{0, 1}));
  EXPECT_EQ(kept(four(), {.top_k = 3, .top_p = 0.42}), (Ids{0}));
  // Temperature before top-p: at T = 0.5 the shares are 16, 9, 4, 1 of 30; 0.533 >= 0.5.
  EXPECT_EQ(kept(four(), {.temperature = 0.5, .top_p = 0.5}), (Ids{0}));
}

TEST(Sampler, keeps_what_the_processors_of_transformers_keep) {
  const Json& filters = testing::goldens().at("filters");
  std::vector<float> logits;
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : std::string("filters"))
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  for (uint64_t i = 0; i < filters.at("vocab").get<uint64_t>(); ++i) {
    logits.push_back(testing::weight_value(hash, i, 0.0, 6.0));
  }
  const Ids seen = filters.at("seen").get<Ids>();
  for (const Json& one : filters.at("cases")) {
    const Json& given = one.at("options");
    SamplingOptions options;
    options.temperature = given.value("temperature", 1.0);
    options.top_k = given.value("top_k", int64_t{0});
    options.top_p = given.value("top_p", 1.0);
    options.min_p = given.value("min_p", 0.0);
    options.repetition_penalty = given.value("repetition_penalty", 1.0);
    const Ids expected = one.at("kept").get<Ids>();
    EXPECT_EQ(kept(logits, options, seen), expected) << given;
    // The uniform number 0 picks the first kept id; its share of the kept set is the one
    // transformers samples from.
    const ChosenToken first = choose(logits, options, 0.0, seen);
    EXPECT_EQ(first.id, expected.front()) << given;
    EXPECT_NEAR(first.sampling_logprob, one.at("logprobs").at(0).get<double>(), 2e-6)
        << given;  // fp32 exp and log
  }
}

TEST(Sampler, picks_by_the_distribution_function) {
  // Bounds at 0.4, 0.7, 0.9.
  EXPECT_EQ(choose(four(), {}, 0.0).id, 0);
  EXPECT_EQ(choose(four(), {}, 0.39).id, 0);
  EXPECT_EQ(choose(four(), {}, 0.41).id, 1);
  EXPECT_EQ(choose(four(), {}, 0.71).id, 2);
  EXPECT_EQ(choose(four(), {}, 0.91).id, 3);
  EXPECT_EQ(choose(four(), {}, 0.999999999).id, 3);
  // Kept 0 and 1 only: the bound is 0.4 / 0.7 = 0.571.
  EXPECT_EQ(choose(four(), {.top_k = 2}, 0.57).id, 0);
  EXPECT_EQ(choose(four(), {.top_k = 2}, 0.58).id, 1);
}

TEST(Sampler, log_probabilities_by_hand) {
  const ChosenToken plain = choose(four(), {}, 0.5);
  EXPECT_NEAR(plain.logprob, std::log(0.3), 1e-6);
  EXPECT_EQ(plain.sampling_logprob, plain.logprob);
  const ChosenToken cut = choose(four(), {.top_k = 2}, 0.6);
  EXPECT_NEAR(cut.logprob, std::log(0.3), 1e-6);
  EXPECT_NEAR(cut.sampling_logprob, std::log(0.3 / 0.7), 1e-6);
  const ChosenToken cold = choose(four(), {.temperature = 0.5}, 0.6);  // 16, 9, 4, 1 of 30
  EXPECT_EQ(cold.id, 1);
  EXPECT_NEAR(cold.logprob, std::log(9.0 / 30.0), 1e-6);
  // The penalty halves the logit of token 1 in sampling only: e^{0}, e^{0.5} against e^{0}, e^{1}.
  const ChosenToken repeated = choose({0.0f, 1.0f}, {.repetition_penalty = 2.0}, 0.9, {1});
  EXPECT_EQ(repeated.id, 1);
  EXPECT_NEAR(repeated.logprob, 1.0 - std::log(1.0 + std::exp(1.0)), 1e-6);
  EXPECT_NEAR(repeated.sampling_logprob, 0.5 - std::log(1.0 + std::exp(0.5)), 1e-6);
}

TEST(Sampler, greedy_takes_the_lowest_of_equal_ids) {
  const SamplingOptions greedy{.temperature = 0.0};
  EXPECT_EQ(choose({1, 3, 3, 2}, greedy, 0.99).id, 1);
  EXPECT_NEAR(choose(four(), greedy, 0.99).logprob, std::log(0.4), 1e-6);  // at temperature 1
  EXPECT_EQ(choose(four(), greedy, 0.99).sampling_logprob, 0.0f);
  // Positive logits are divided, negative ones multiplied: 2, -1, 1.5 with 0 and 1 seen become 1,
  // -2, 1.5.
  const SamplingOptions penalized{.temperature = 0.0, .repetition_penalty = 2.0};
  EXPECT_EQ(choose({2, -1, 1.5f}, penalized, 0.0, {0, 1}).id, 2);
  EXPECT_EQ(choose({-1, -1.5f}, penalized, 0.0, {0}).id, 1);
}

TEST(Sampler, frequencies_follow_the_distribution) {
  std::vector<float> logits;
  std::vector<double> shares;
  double sum = 0.0;
  for (int i = 0; i < 20; ++i) {
    logits.push_back(0.15f * static_cast<float>(i * 7 % 20));
    shares.push_back(std::exp(static_cast<double>(logits.back()) / 0.8));
    sum += shares.back();
  }
  Random random(1, {kRandomSampling, 0, 0, 0});
  constexpr int kDraws = 200000;
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < kDraws; ++i) {
    ++counts[static_cast<size_t>(choose(logits, {.temperature = 0.8}, random.uniform()).id)];
  }
  double chi = 0.0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const double expected = kDraws * shares[i] / sum;
    chi += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  EXPECT_LT(chi, 43.82);  // the 99.9% quantile for 19 degrees of freedom; the seed is fixed
  EXPECT_GT(chi, 5.4);    // the 0.1% quantile: draws that fit too well are not independent
}

TEST(Sampler, refuses_nan_and_names_bad_options) {
  EXPECT_THROW(choose({0.0f, std::numeric_limits<float>::quiet_NaN()}, {}, 0.5), Error);
  Problems problems;
  SamplingOptions{.temperature = -1,
                  .top_k = -1,
                  .top_p = 0,
                  .min_p = 2,
                  .repetition_penalty = 0,
                  .max_new_tokens = 0}
      .check("generate", problems);
  EXPECT_EQ(problems.count(), 6u);
}

TEST(RowKernels, agree_with_plain_loops) {
  for (const int64_t n : {1, 7, 16, 33, 1024, 5001}) {
    std::vector<float> z;
    for (int64_t i = 0; i < n; ++i)
      z.push_back(static_cast<float>(std::sin(static_cast<double>(i * i))) * 8.0f);
    float top = z[0];
    for (const float x : z) top = std::max(top, x);
    EXPECT_EQ(simd::row_max(z.data(), n), top);
    std::vector<float> weights(z.size());
    const double sum = simd::row_weights(z.data(), n, top, weights.data());
    double expected = 0.0;
    for (size_t i = 0; i < z.size(); ++i) {
      const double weight = std::exp(static_cast<double>(z[i]) - top);
      EXPECT_NEAR(weights[i], weight, 1e-6 * weight);  // a few units in the last place of float
      expected += weight;
    }
    EXPECT_NEAR(sum, expected, 1e-6 * expected);
    z[static_cast<size_t>(n / 2)] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(simd::row_max(z.data(), n)));
  }
}

}  // namespace
}  // namespace rlhf
