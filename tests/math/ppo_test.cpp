// The mathematics of PPO with a critic: worked by hand, and against tools/make_ppo_goldens.py.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <string>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "rlhf/math/adaptive_kl.h"
#include "rlhf/math/gae.h"
#include "rlhf/math/token_rewards.h"
#include "rlhf/math/whiten.h"

namespace rlhf {
namespace {

constexpr double kTolerance = 1e-14;        // a handful of roundings of numbers near 1
constexpr double kGoldenTolerance = 1e-12;  // sums of twenty numbers near 1, over deviations near 1
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void expect_near(const TokenValues& got, const TokenValues& wanted, double tolerance = kTolerance,
                 const std::string& what = "") {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), wanted[i].size()) << what << " " << i;
    for (size_t t = 0; t < got[i].size(); ++t) {
      EXPECT_NEAR(got[i][t], wanted[i][t], tolerance * std::max(1.0, std::abs(wanted[i][t])))
          << what << " " << i << " " << t;
    }
  }
}

// gae.h's case, and a completion of one token beside it: δ = 2 − 3.
TEST(Gae, ByHand) {
  const auto made = gae({{0.0, 1.0}, {2.0}}, {{0.25, 0.5}, {3.0}}, OptionalRewards{1.0, 2.0},
                        /*gamma=*/1.0, /*lam=*/0.5);
  expect_near(made.advantages, {{0.5, 0.5}, {-1.0}});
  expect_near(made.returns, {{0.75, 1.0}, {2.0}});
}

// λ = 1: what is still to come, discounted by ½, less V. λ = 0: one step. γ = 0: r − V.
TEST(Gae, EndsOfLambdaAndGamma) {
  const TokenValues rewards = {{1.0, 0.0, 4.0}};
  const TokenValues values = {{0.5, -1.0, 2.0}};
  const OptionalRewards scores = {4.0};
  expect_near(gae(rewards, values, scores, 0.5, 1.0).returns, {{2.0, 2.0, 4.0}});
  expect_near(gae(rewards, values, scores, 0.5, 0.0).returns, {{0.5, 1.0, 4.0}});
  expect_near(gae(rewards, values, scores, 0.0, 0.95).advantages, {{0.5, 1.0, 2.0}});
}

TEST(Gae, NothingIsLearnedWithoutAScore) {
  const auto made = gae({{5.0, 5.0}, {1.0}, {}}, {{0.25, 0.5}, {0.5}, {}},
                        OptionalRewards{std::nullopt, 1.0, 1.0});
  expect_near(made.advantages, {{0.0, 0.0}, {0.5}, {}});
  expect_near(made.returns, {{0.25, 0.5}, {1.0}, {}});
}

TEST(Gae, ShapesAndRanges) {
  const OptionalRewards one = {1.0};
  EXPECT_THROW(gae({{1.0}}, {{1.0}}, one, /*gamma=*/1.1), Error);
  EXPECT_THROW(gae({{1.0}}, {{1.0}}, one, /*gamma=*/kNaN), Error);
  EXPECT_THROW(gae({{1.0}}, {{1.0}}, one, /*gamma=*/1.0, /*lam=*/-0.1), Error);
  EXPECT_THROW(gae({{1.0}}, {{1.0, 2.0}}, one), Error);
  EXPECT_THROW(gae({{1.0}, {1.0}}, {{1.0}}, one), Error);
  EXPECT_THROW(gae({{1.0}}, {{1.0}}, OptionalRewards{1.0, 1.0}), Error);
}

// 1, 2, 3 of rated completions: mean 2, variance 1. The 9 is not rated.
TEST(Whitened, ByHand) {
  const TokenValues values = {{1.0, 2.0}, {9.0}, {3.0}};
  const OptionalRewards rewards = {0.0, std::nullopt, 0.0};
  const double one = 1 / std::sqrt(1 + 1e-8);
  expect_near(whitened(values, rewards), {{-one, 0.0}, {0.0}, {one}});
  expect_near(whitened(values, rewards, WhitenedMean::kept), {{2 - one, 2.0}, {0.0}, {2 + one}});
  EXPECT_THROW(whitened(values, OptionalRewards{1.0}), Error);
}

TEST(Whitened, NoSpreadLeavesNothingOrTheMean) {
  const TokenValues tenths = {std::vector<double>(7, 0.1)};  // their sum is not seven times 0.1
  const OptionalRewards rated = {1.0};
  EXPECT_EQ(whitened(tenths, rated), TokenValues{std::vector<double>(7, 0.0)});
  EXPECT_EQ(whitened(tenths, rated, WhitenedMean::kept), tenths);
  EXPECT_EQ(whitened({{5.0}}, rated), TokenValues{{0.0}});
  EXPECT_EQ(whitened({{5.0}}, rated, WhitenedMean::kept), TokenValues{{5.0}});
  EXPECT_EQ(whitened({{5.0}}, OptionalRewards{std::nullopt}, WhitenedMean::kept),
            TokenValues{{0.0}});
}

// token_rewards.h's case: (5 − 1)/2 = 2 is clipped to 1.5 and loses 1; (0 − 1)/2 ends by a stop.
TEST(TokenRewards, ScoresNormalisedClippedPenalised) {
  const OptionalRewards scores = {5.0, std::nullopt, 0.0};
  const ScoreShaping shaping{.moments = ScoreMoments{.mean = 1.0, .deviation = 2.0},
                             .range = symmetric_range(1.5),
                             .missing_eos_penalty = 1.0};
  EXPECT_EQ(shaped_scores(scores, {false, false, true}, shaping),
            (OptionalRewards{0.5, std::nullopt, -0.5}));
  EXPECT_EQ(shaped_scores(scores, {}, {}), scores);
  EXPECT_EQ(shaped_scores(scores, {}, {.range = std::pair(1.0, 2.0)}),
            (OptionalRewards{2.0, std::nullopt, 1.0}));
}

TEST(TokenRewards, ScoresOutOfRange) {
  const OptionalRewards one = {1.0};
  EXPECT_THROW(shaped_scores(one, {true}, {.moments = ScoreMoments{0.0, 0.0}}), Error);
  EXPECT_THROW(shaped_scores(one, {true}, {.moments = ScoreMoments{kNaN, 1.0}}), Error);
  EXPECT_THROW(shaped_scores(one, {true}, {.range = std::pair(1.0, -1.0)}), Error);
  EXPECT_THROW(shaped_scores(one, {true}, {.missing_eos_penalty = -1.0}), Error);
  EXPECT_THROW(shaped_scores(one, {}, {.missing_eos_penalty = 1.0}), Error);
  EXPECT_THROW(shaped_scores(OptionalRewards{kNaN}, {true}, {}), Error);
  EXPECT_THROW(symmetric_range(-1.0), Error);
}

// k1 = log 2, so that exp(−k1) = ½; and its opposite.
TEST(TokenRewards, KlByHand) {
  const double log2 = std::log(2.0);
  const TokenValues old = {{-1.0}, {-1.0 - log2}};
  const TokenValues ref = {{-1.0 - log2}, {-1.0}};
  expect_near(token_kl(KlEstimator::k1, old, ref), {{log2}, {-log2}});
  expect_near(token_kl(KlEstimator::k2, old, ref), {{log2 * log2 / 2}, {log2 * log2 / 2}});
  expect_near(token_kl(KlEstimator::k3, old, ref), {{log2 - 0.5}, {1 - log2}});
  EXPECT_THROW(token_kl(KlEstimator::k1, old, {{-1.0}}), Error);
  EXPECT_THROW(token_kl(KlEstimator::k1, old, {{-1.0}, {-1.0, -2.0}}), Error);
}

// One way to estimate, on numbers and on tensors, beyond the bound too.
TEST(TokenRewards, KlIsThatOfTensors) {
  for (const double ratio : {-3.0, -1e-3, 0.0, 0.7, 19.0, 20.0, 25.0, 1e4}) {
    const double old = -0.5 - std::max(ratio, 0.0);
    const double ref = old + ratio;
    for (const auto kind : {KlEstimator::k1, KlEstimator::k2, KlEstimator::k3}) {
      const double wanted =
          kl_estimate(kind, at::tensor(old, at::kDouble), at::tensor(ref, at::kDouble))
              .item<double>();
      // Both round exp and a difference of numbers of its size.
      EXPECT_NEAR(kl_estimate(kind, old, ref), wanted, 1e-14 * std::max(1.0, std::abs(wanted)))
          << ratio;
    }
  }
}

TEST(TokenRewards, ScoreAtTheLastToken) {
  const OptionalRewards scores = {0.5, std::nullopt, 2.0, 3.0};
  const std::vector<int64_t> tokens = {2, 1, 1, 0};
  expect_near(token_rewards(scores, tokens, {{1.0, 2.0}, {7.0}, {-1.0}, {}}, /*beta=*/0.1),
              {{-0.1, 0.3}, {0.0}, {2.1}, {}});
  EXPECT_EQ(token_rewards(scores, tokens, {}, /*beta=*/0.0),
            (TokenValues{{0.0, 0.5}, {0.0}, {2.0}, {}}));
}

TEST(TokenRewards, ShapesAndRanges) {
  const OptionalRewards one = {1.0};
  const std::vector<int64_t> tokens = {2};
  EXPECT_THROW(token_rewards(one, tokens, {{1.0, 1.0}}, -0.1), Error);
  EXPECT_THROW(token_rewards(one, tokens, {{1.0}}, 0.1), Error);
  EXPECT_THROW(token_rewards(one, tokens, {}, 0.1), Error);
  EXPECT_THROW(token_rewards(one, std::vector<int64_t>{-1}, {}, 0.0), Error);
  EXPECT_THROW(token_rewards(one, std::vector<int64_t>{1, 1}, {}, 0.0), Error);
}

// adaptive_kl.h's cases.
TEST(AdaptiveKl, ByHand) {
  const AdaptiveKl control{.target = 6.0, .horizon = 1000.0};
  const auto after = [&](double kl) {
    KlControl weight{.coefficient = 0.1};
    weight.follow(control, kl, 100);
    return weight.coefficient;
  };
  EXPECT_NEAR(after(6.6), 0.101, kTolerance);
  EXPECT_NEAR(after(6.0), 0.1, kTolerance);
  EXPECT_NEAR(after(60.0), 0.102, kTolerance);
  EXPECT_NEAR(after(0.0), 0.098, kTolerance);
  EXPECT_NEAR(after(-3.0), 0.098, kTolerance);  // k1 may be below 0
}

TEST(AdaptiveKl, FixedWithoutATarget) {
  KlControl weight{.coefficient = 0.1};
  weight.follow({}, kNaN, 1'000'000);
  EXPECT_EQ(weight.coefficient, 0.1);
}

TEST(AdaptiveKl, RangesAndState) {
  KlControl weight{.coefficient = 1.0 / 3};
  EXPECT_THROW(weight.follow({.target = 0.0}, 1.0, 1), Error);
  EXPECT_THROW(weight.follow({.target = 1.0, .horizon = 0.0}, 1.0, 1), Error);
  EXPECT_THROW(weight.follow({.target = 1.0, .horizon = 20.0}, 1.0, 100), Error);
  EXPECT_THROW(weight.follow({.target = 1.0}, kNaN, 1), Error);
  EXPECT_THROW(weight.follow({.target = 1.0}, 1.0, -1), Error);
  EXPECT_EQ(KlControl::from_json(Json::parse(weight.to_json().dump())).coefficient, 1.0 / 3);
  EXPECT_THROW(KlControl::from_json(Json::object()), Error);
  EXPECT_THROW(KlControl::from_json(Json{{"coefficient", "much"}}), Error);
}

OptionalRewards optionals_of(const Json& json) {
  OptionalRewards made;
  for (const auto& value : json)
    made.push_back(value.is_null() ? std::nullopt : std::optional(value.get<double>()));
  return made;
}

ScoreShaping shaping_of(const Json& c) {
  ScoreShaping shaping;
  if (!c["moments"].is_null()) shaping.moments = {c["moments"][0], c["moments"][1]};
  if (!c["range"].is_null()) shaping.range = {c["range"][0], c["range"][1]};
  if (!c["missing_eos_penalty"].is_null())
    shaping.missing_eos_penalty = c["missing_eos_penalty"].get<double>();
  return shaping;
}

KlEstimator estimator_of(const std::string& name) {
  return name == "k1" ? KlEstimator::k1 : name == "k2" ? KlEstimator::k2 : KlEstimator::k3;
}

TokenValues rows_of(const Json& json) { return json.get<TokenValues>(); }

/// As the trainer chains them: shaped scores, rewards, advantages and returns, whitened.
void expect_rollout(const Json& c, const std::string& name) {
  const Json& wanted = c["wanted"];
  const auto near = [&](const TokenValues& got, const char* key) {
    expect_near(got, rows_of(wanted[key]), kGoldenTolerance, name + " " + key);
  };
  const auto scores = shaped_scores(optionals_of(c["scores"]),
                                    c["stopped"].get<std::vector<bool>>(), shaping_of(c));
  const auto shaped = optionals_of(wanted["shaped"]);
  ASSERT_EQ(scores.size(), shaped.size());
  std::vector<int64_t> tokens;
  for (size_t i = 0; i < scores.size(); ++i) {
    ASSERT_EQ(scores[i].has_value(), shaped[i].has_value()) << name;
    EXPECT_NEAR(scores[i].value_or(0.0), shaped[i].value_or(0.0), kGoldenTolerance) << name;
    tokens.push_back(static_cast<int64_t>(c["values"][i].size()));
  }
  const auto kl = token_kl(estimator_of(c["kl_estimator"]), rows_of(c["old"]), rows_of(c["ref"]));
  near(kl, "kl");
  auto rewards = token_rewards(scores, tokens, kl, c["kl_coef"]);
  near(rewards, "rewards");
  if (c["whiten_rewards"].get<bool>()) rewards = whitened(rewards, scores, WhitenedMean::kept);
  near(rewards, "used_rewards");
  const auto made = gae(rewards, rows_of(c["values"]), scores, c["gamma"], c["lam"]);
  near(made.advantages, "advantages");
  near(made.returns, "returns");
  near(whitened(made.advantages, scores), "whitened");
}

TEST(PpoGoldens, Rollouts) {
  const Json json = Json::parse(std::ifstream(RLHF_FIXTURES "/math/ppo.json"));
  ASSERT_GE(json["rollouts"].size(), 20U);
  for (size_t i = 0; i < json["rollouts"].size(); ++i)
    expect_rollout(json["rollouts"][i], "rollout " + std::to_string(i));
}

}  // namespace
}  // namespace rlhf
