// Advantages against tools/make_advantage_goldens.py.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <string>

#include "rlhf/core/json.h"
#include "rlhf/math/token_advantages.h"

namespace rlhf {
namespace {

constexpr double kTolerance = 1e-12;  // sums of twenty numbers near 1, over deviations near 0.1

template <class T>
T at(const Json& json, const char* key) {
  return json[key].get<T>();
}

std::optional<double> optional_of(const Json& json) {
  return json.is_null() ? std::nullopt : std::optional(json.get<double>());
}

OptionalRewards optionals_of(const Json& json) {
  OptionalRewards made;
  for (const auto& value : json) made.push_back(optional_of(value));
  return made;
}

std::vector<OptionalRewards> rewards_of(const Json& c) {
  std::vector<OptionalRewards> rows;
  for (const auto& row : c["rewards"]) rows.push_back(optionals_of(row));
  return rows;
}

RewardScale scale_of(const std::string& name) {
  return name == "group"   ? RewardScale::group
         : name == "batch" ? RewardScale::batch
                           : RewardScale::none;
}

/// R' of a case that clips or penalises.
OptionalRewards penalised_of(const Json& c, const OptionalRewards& sums) {
  std::optional<std::pair<double, double>> range;
  if (!c["clip"].is_null()) range = {c["clip"][0], c["clip"][1]};
  return penalised_rewards(sums, range, at<std::vector<double>>(c, "kl"), c["beta"]);
}

TokenValues tokens_of(const std::vector<double>& values) {
  TokenValues rows;
  for (const double value : values) rows.push_back({value});
  return rows;
}

/// What a case names, token by token; one value a completion where its advantages are that.
TokenValues computed(const Json& c) {
  const std::string name = c["name"];
  const GroupSizes groups(at<std::vector<int64_t>>(c, "sizes"));
  const auto weights = at<std::vector<double>>(c, "weights");
  const auto rewards = rewards_of(c);
  const auto sums = weigh_rewards(rewards, weights);
  const auto tokens =
      c.contains("tokens") ? at<std::vector<int64_t>>(c, "tokens") : std::vector<int64_t>();
  if (name == "gdpo") return tokens_of(gdpo_advantages(rewards, weights, groups).values);
  if (name == "rloo")
    return tokens_of(rloo_advantages(penalised_of(c, sums), groups, at<bool>(c, "normalise")));
  if (name == "opo") return tokens_of(opo_advantages(sums, tokens, groups));
  if (name == "remax") return tokens_of(remax_advantages(sums, optionals_of(c["greedy"]), groups));
  if (name == "pass_at_k")
    return tokens_of(pass_at_k_advantages(sums, groups, scale_of(c["scale"])));
  if (name == "reinforce_pp")
    return reinforce_pp_advantages(sums, tokens, at<TokenValues>(c, "token_kl"), c["beta"],
                                   c["gamma"]);
  if (name == "reinforce_pp_baseline")
    return reinforce_pp_baseline_advantages(sums, tokens, groups);
  if (name == "process") {
    std::vector<std::vector<StepReward>> steps;
    for (const auto& row : c["steps"]) {
      steps.emplace_back();
      for (const auto& step : row)
        steps.back().push_back({.last_token = step[0], .reward = optional_of(step[1])});
    }
    return process_advantages(steps, tokens, groups, RewardScale::group);
  }
  return tokens_of(group_advantages(sums, groups, scale_of(name)).values);
}

const Json& goldens() {
  static const Json json = Json::parse(std::ifstream(RLHF_FIXTURES "/math/advantages.json"));
  return json["cases"];
}

TEST(AdvantageGoldens, Values) {
  std::set<std::string> seen;
  for (const auto& c : goldens()) {
    const auto got = computed(c);
    const auto wanted = c["wanted"][0].is_array() ? at<TokenValues>(c, "wanted")
                                                  : tokens_of(at<std::vector<double>>(c, "wanted"));
    ASSERT_EQ(got.size(), wanted.size()) << c["name"];
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_EQ(got[i].size(), wanted[i].size()) << c["name"] << " " << i;
      for (size_t t = 0; t < got[i].size(); ++t)
        EXPECT_NEAR(got[i][t], wanted[i][t], kTolerance) << c["name"] << " " << i << " " << t;
    }
    seen.insert(c["name"]);
  }
  EXPECT_EQ(seen.size(), 11U);
}

// TRL's frac_reward_zero_std.
TEST(AdvantageGoldens, SharesWithoutSpread) {
  int64_t seen = 0;
  for (const auto& c : goldens()) {
    if (!c.contains("share_without_spread")) continue;
    auto sums = weigh_rewards(rewards_of(c), at<std::vector<double>>(c, "weights"));
    if (c["name"] == "rloo") sums = penalised_of(c, sums);
    const auto flags =
        without_spread(sums, GroupSizes(at<std::vector<int64_t>>(c, "sizes")),
                       c["name"] == "batch" ? RewardScale::batch : RewardScale::group);
    const auto flat = std::count(flags.begin(), flags.end(), true);
    EXPECT_NEAR(static_cast<double>(flat) / static_cast<double>(flags.size()),
                c["share_without_spread"].get<double>(), kTolerance);
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace rlhf
