// What is drawn against what should be: Pearson's χ² over many draws, for every filter, from the
// sampler and from the engine.
//
// The twelve tokens have the shares kShares (in hundredths) at T = 1, so that each filter's set and
// each expected probability follows by hand from
//
//   p_i ∝ share_i^(1/T)  over the kept tokens
//
// Seeds are fixed: a test passes always or never. A right sampler would fail one of a million of
// them.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "goldens.h"
#include "rlhf/core/random.h"
#include "rlhf/generate/engine.h"
#include "rlhf/generate/sampler.h"

namespace rlhf {
namespace {

constexpr std::array<double, 12> kShares = {4, 22, 1, 9, 14, 2, 18, 3, 12, 6, 5, 4};
using Counts = std::map<int32_t, int64_t>;
using Shares = std::map<int32_t, double>;

std::vector<float> logits() {
  std::vector<float> out;
  for (const double share : kShares) out.push_back(static_cast<float>(std::log(share)));
  return out;
}

/// The 1 − 1e-6 quantile of χ² (inverse of the regularised incomplete gamma function).
double quantile(size_t degrees) {
  constexpr std::array<double, 12> table = {0,      23.928, 27.631, 30.665, 33.377, 35.888,
                                            38.258, 40.522, 42.701, 44.811, 46.863, 48.866};
  return table.at(degrees);
}

struct FilterCase {
  std::string name;
  double temperature = 1.0;
  int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
  std::vector<int32_t> kept;

  SamplingOptions options() const {
    SamplingOptions options;
    options.temperature = temperature;
    options.top_k = top_k;
    options.top_p = top_p;
    options.min_p = min_p;
    return options;
  }
};

std::vector<int32_t> all_tokens() { return {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; }

std::vector<FilterCase> filter_cases() {
  return {
      {.name = "plain", .kept = all_tokens()},
      {.name = "cold", .temperature = 0.7, .kept = all_tokens()},
      {.name = "hot", .temperature = 1.6, .kept = all_tokens()},
      // 22, 18, 14, 12, 9.
      {.name = "top_k", .top_k = 5, .kept = {1, 3, 4, 6, 8}},
      // 22 + 18 + 14 = 54 < 60 <= 66.
      {.name = "top_p", .top_p = 0.6, .kept = {1, 4, 6, 8}},
      // At least a quarter of 22: 5.5.
      {.name = "min_p", .min_p = 0.25, .kept = {1, 3, 4, 6, 8, 9}},
      // Square roots, of sum 31.97: 4.69 + 4.24 + 3.74 + 3.46 + 3 + 2.45 = 21.59 < 22.38 <= 23.82.
      {.name = "hot_top_p", .temperature = 2.0, .top_p = 0.7, .kept = {1, 3, 4, 6, 8, 9, 10}},
      // Of the squares 484, 324, 196, 144, of sum 1148, top-p keeps three: 808 < 918.4 <= 1004. Of
      // all squares (1336) it would keep the fourth too.
      {.name = "top_k_top_p", .temperature = 0.5, .top_k = 4, .top_p = 0.8, .kept = {1, 4, 6}},
      // And min-p those of at least 242.
      {.name = "together",
       .temperature = 0.5,
       .top_k = 4,
       .top_p = 0.8,
       .min_p = 0.5,
       .kept = {1, 6}},
  };
}

Shares expected_shares(const std::vector<int32_t>& kept, double temperature) {
  Shares shares;
  double sum = 0.0;
  for (const int32_t id : kept)
    sum += shares[id] = std::pow(kShares[static_cast<size_t>(id)], 1.0 / temperature);
  for (auto& [id, share] : shares) share /= sum;
  return shares;
}

/// Σ (n − N p)² / (N p); infinite where a token was drawn that cannot be.
double chi_square(const Counts& counts, const Shares& shares) {
  int64_t total = 0;
  for (const auto& [id, count] : counts) {
    if (!shares.contains(id)) return std::numeric_limits<double>::infinity();
    total += count;
  }
  double chi = 0.0;
  for (const auto& [id, share] : shares) {
    const double mean = share * static_cast<double>(total);
    const auto found = counts.find(id);
    const double count = found == counts.end() ? 0.0 : static_cast<double>(found->second);
    chi += (count - mean) * (count - mean) / mean;
  }
  return chi;
}

/// First draws of 40,000 streams: 5,000 prompts of 8 samples.
Counts draws(const std::vector<float>& given, const SamplingOptions& options) {
  Counts counts;
  Sampler sampler;
  for (uint64_t i = 0; i < 40000; ++i) {
    Random random(/*seed=*/7, {kRandomSampling, /*step=*/3, i / 8, i % 8});
    auto row = given;
    ++counts[sampler.choose(row, {}, options, random.uniform()).id];
  }
  return counts;
}

class Distribution : public ::testing::TestWithParam<FilterCase> {};

TEST_P(Distribution, SamplerDrawsIt) {
  const auto shares = expected_shares(GetParam().kept, GetParam().temperature);
  EXPECT_LT(chi_square(draws(logits(), GetParam().options()), shares), quantile(shares.size() - 1));
}

/// A decoder whose logits are the same at every position: its last norm has the weight 0 and a unit
/// vector as bias, so that the head's first column is what comes out.
Decoder constant_decoder() {
  Decoder decoder = testing::make_decoder(testing::find_case("gpt2"));
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : decoder.tensors()) {
    at::Tensor written = tensor;
    if (name.ends_with("ln_f.weight")) written.zero_();
    if (name.ends_with("ln_f.bias")) {
      written.zero_();
      written[0] = 1.0;
    }
    if (name.ends_with("wte.weight")) {
      written.select(1, 0).fill_(-200.0);  // no token but the twelve: e^-200
      for (size_t i = 0; i < kShares.size(); ++i)
        written[static_cast<int64_t>(i)][0] = std::log(kShares[i]);
    }
  }
  return decoder;
}

/// 25,600 tokens: 8 prompts of 64 samples of 50 tokens.
std::vector<std::vector<Completion>> generated(SamplingOptions options) {
  static const Decoder decoder = constant_decoder();
  std::vector<Prompt> prompts;
  for (uint64_t p = 0; p < 8; ++p) prompts.push_back({.ids = {static_cast<int32_t>(p)}, .key = p});
  options.max_new_tokens = 50;
  options.num_generations = 64;
  options.seed = 7;
  options.step = 3;
  return Engine(decoder).generate(prompts, options);
}

TEST_P(Distribution, EngineDrawsIt) {
  Counts counts;
  for (const auto& samples : generated(GetParam().options())) {
    for (const Completion& one : samples) {
      for (const int32_t id : one.ids) ++counts[id];
    }
  }
  const auto shares = expected_shares(GetParam().kept, GetParam().temperature);
  EXPECT_LT(chi_square(counts, shares), quantile(shares.size() - 1));
}

INSTANTIATE_TEST_SUITE_P(All, Distribution, ::testing::ValuesIn(filter_cases()),
                         [](const auto& param) { return param.param.name; });

// Neighbours owe each other nothing: a token and the next one, a sample and the next one, a prompt
// and the next one. Of two tokens of "together" all four pairs are counted.
TEST(EngineDraws, AreIndependentOfTheirNeighbours) {
  const FilterCase two = filter_cases().back();
  const auto shares = expected_shares(two.kept, two.temperature);
  Shares pair_shares;
  for (const auto& [a, p] : shares) {
    for (const auto& [b, q] : shares) pair_shares[a * 12 + b] = p * q;
  }
  const auto all = generated(two.options());
  Counts tokens;
  Counts samples;
  Counts prompts;
  for (size_t p = 0; p < all.size(); ++p) {
    for (size_t s = 0; s < all[p].size(); ++s) {
      const auto& ids = all[p][s].ids;
      for (size_t t = 0; t + 1 < ids.size(); t += 2) ++tokens[ids[t] * 12 + ids[t + 1]];
      for (size_t t = 0; t < ids.size(); ++t) {
        if (s % 2 == 0) ++samples[ids[t] * 12 + all[p][s + 1].ids[t]];
        if (p % 2 == 0) ++prompts[ids[t] * 12 + all[p + 1][s].ids[t]];
      }
    }
  }
  EXPECT_LT(chi_square(tokens, pair_shares), quantile(3));
  EXPECT_LT(chi_square(samples, pair_shares), quantile(3));
  EXPECT_LT(chi_square(prompts, pair_shares), quantile(3));
}

// The tests above would see a small bias: the odds of one token up by 16%, a temperature off by 5%,
// one token too many or too few in a set.
TEST(SamplerDraws, ABiasIsFound) {
  const auto plain = expected_shares(all_tokens(), 1.0);
  auto biased = logits();
  biased[1] += 0.15F;
  EXPECT_GT(chi_square(draws(biased, {}), plain), quantile(11));
  EXPECT_GT(chi_square(draws(logits(), {.temperature = 1.05}), plain), quantile(11));
  const auto five = expected_shares({1, 3, 4, 6, 8}, 1.0);
  EXPECT_LT(chi_square(draws(logits(), {.top_k = 5}), five), quantile(4));
  for (const int64_t k : {4, 6})
    EXPECT_GT(chi_square(draws(logits(), {.top_k = k}), five), quantile(4)) << k;
}

}  // namespace
}  // namespace rlhf
