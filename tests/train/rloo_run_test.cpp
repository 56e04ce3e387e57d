// Runs of `rlhf rloo`: every baseline reaches the advantages, learns, and goes on after a stop.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "policy_case.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::sampling;
using testing::with;

/// A line of completions.jsonl.
struct Judged {
  double reward = 0.0;
  double advantage = 0.0;  ///< of the first token
  double tokens = 0.0;
};

/// The completions of a run's first rollout, as it left them.
std::vector<Judged> judged_by(const Arguments& arguments, const fs::path& run) {
  testing::train_rloo_with(arguments);
  std::vector<Judged> found;
  std::ifstream lines(run / "completions.jsonl");
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text);
    if (line.at("generation") != 0) continue;
    found.push_back({line.at("reward").get<double>(), line.at("advantage").get<double>(),
                     static_cast<double>(line.at("completion_ids").size())});
  }
  return found;
}

std::vector<Judged> replayed(const std::string& name, const Arguments& more) {
  const fs::path run = testing::scratch("rloo_" + name) / "run";
  return judged_by(testing::replay_arguments(run, with({"--max_steps", "1", "--beta", "0"}, more)),
                   run);
}

constexpr size_t kGroup = 4;
constexpr double kFloat = 1e-5;  // advantages are kept in fp32

// A = R − Σ |o| R / Σ |o| over the group (arXiv 2505.23585).
TEST(RlooRun, OpoComparesWithTheMeanByLength) {
  const auto all = replayed("opo", {"--advantage_estimator", "opo"});
  ASSERT_EQ(all.size(), 8U);
  for (size_t begin = 0; begin < all.size(); begin += kGroup) {
    double sum = 0.0;
    double tokens = 0.0;
    for (size_t i = begin; i < begin + kGroup; ++i) {
      sum += all[i].tokens * all[i].reward;
      tokens += all[i].tokens;
    }
    for (size_t i = begin; i < begin + kGroup; ++i)
      EXPECT_NEAR(all[i].advantage, all[i].reward - sum / tokens, kFloat);
  }
}

/// To mean 0 and sample variance 1 over all tokens, each completion having its value `tokens` times.
double whitened(double value, const std::vector<Judged>& all, const std::vector<double>& values) {
  double count = 0.0;
  double mean = 0.0;
  for (size_t i = 0; i < all.size(); ++i) {
    count += all[i].tokens;
    mean += all[i].tokens * values[i];
  }
  mean /= count;
  double variance = 0.0;
  for (size_t i = 0; i < all.size(); ++i)
    variance += all[i].tokens * (values[i] - mean) * (values[i] - mean) / (count - 1.0);
  return (value - mean) / std::sqrt(variance + 1e-8);
}

// Without KL and discount every token's return is R (arXiv 2501.03262).
TEST(RlooRun, ReinforcePlusPlusWhitensReturnsOverTokens) {
  const auto all = replayed("rpp", {"--advantage_estimator", "reinforce_plus_plus"});
  std::vector<double> returns;
  for (const auto& one : all) returns.push_back(one.reward);
  for (const auto& one : all)
    EXPECT_NEAR(one.advantage, whitened(one.reward, all, returns), kFloat);
}

TEST(RlooRun, ReinforcePlusPlusBaselineCentresBeforeItWhitens) {
  const auto all = replayed("rpp_baseline", {"--advantage_estimator", "reinforce_baseline"});
  std::vector<double> centred;
  for (size_t i = 0; i < all.size(); ++i) {
    double mean = 0.0;
    for (size_t j = i / kGroup * kGroup; j < (i / kGroup + 1) * kGroup; ++j)
      mean += all[j].reward / static_cast<double>(kGroup);
    centred.push_back(all[i].reward - mean);
  }
  for (size_t i = 0; i < all.size(); ++i)
    EXPECT_NEAR(all[i].advantage, whitened(centred[i], all, centred), kFloat);
}

// With a discount the first token's return is γ^(n − 1) R: all of one length tell nothing new, so
// the ends of the scale are looked at. With γ = 0 it is 0 but where the completion is one token.
TEST(RlooRun, GammaDiscountsWhatComesLater) {
  const auto all =
      replayed("gamma", {"--advantage_estimator", "reinforce_plus_plus", "--gamma", "0"});
  double several = std::nan("");
  for (const auto& one : all) {
    if (one.tokens == 1.0) continue;
    if (std::isnan(several)) several = one.advantage;
    EXPECT_NEAR(one.advantage, several, kFloat);
  }
}

TEST(RlooRun, RewardsAreClippedBeforeTheyAreCompared) {
  const auto all = replayed("clipped", {"--reward_clip_range", "0.5", "1.5"});
  for (size_t i = 0; i < all.size(); ++i) {
    double others = 0.0;
    for (size_t j = i / kGroup * kGroup; j < (i / kGroup + 1) * kGroup; ++j)
      others += j == i ? 0.0 : std::clamp(all[j].reward, 0.5, 1.5);
    EXPECT_NEAR(all[i].advantage,
                std::clamp(all[i].reward, 0.5, 1.5) - others / static_cast<double>(kGroup - 1),
                kFloat);
  }
}

/// The reward of each prompt's most likely completion: at a temperature near 0 nothing else is drawn.
std::map<std::string, double> greedy_rewards(const fs::path& folder) {
  testing::train_rloo_with(
      sampling(folder, "greedy",
               {"--temperature", "1e-4", "--beta", "0", "--max_steps", "1",
                "--per_device_train_batch_size", "48", "--num_generations", "4"}));
  std::map<std::string, double> rewards;
  std::ifstream lines(folder / "greedy" / "completions.jsonl");
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text);
    rewards[line.at("prompt")] = line.at("reward");
  }
  return rewards;
}

// A = R − R of the greedy completion.
TEST(RlooRun, RemaxComparesWithTheGreedyCompletion) {
  const fs::path folder = testing::scratch("rloo_remax");
  const auto greedy = greedy_rewards(folder);
  EXPECT_EQ(greedy.size(), 12U);
  testing::train_rloo_with(sampling(folder, "run",
                                    {"--advantage_estimator", "remax", "--beta", "0", "--max_steps",
                                     "1", "--per_device_train_batch_size", "48"}));
  std::ifstream lines(folder / "run" / "completions.jsonl");
  int different = 0;
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text);
    const double baseline = greedy.at(line.at("prompt"));
    different += baseline != 0.0 ? 1 : 0;
    EXPECT_NEAR(line.at("advantage").get<double>(), line.at("reward").get<double>() - baseline,
                kFloat);
  }
  EXPECT_GT(different, 0);
}

TEST(RlooRun, DynamicSamplingNeedsGroups) {
  EXPECT_THROW(testing::train_rloo_with(
                   sampling(testing::scratch("rloo_dynamic"), "run",
                            {"--advantage_estimator", "remax", "--dynamic_sampling", "true"})),
               UserError);
}

class RlooLearns : public ::testing::TestWithParam<std::string> {};

TEST_P(RlooLearns, WhatItIsPaidFor) {
  const fs::path folder = testing::scratch("rloo_learns_" + GetParam());
  testing::train_rloo_with(
      sampling(folder, "run",
               {"--advantage_estimator", GetParam(), "--max_steps", "100", "--learning_rate",
                "5e-3", "--lr_scheduler_type", "constant", "--per_device_train_batch_size", "32"}));
  const auto lines = testing::metrics_of(folder / "run");
  // Ten digits among some sixty characters to begin with.
  EXPECT_LT(lines.front().at("reward").get<double>(), 0.4);
  EXPECT_GT(lines.back().at("reward").get<double>(), 0.7);
  EXPECT_TRUE(lines.back().contains("kl"));
}

// N steps == k steps + resume + N−k steps, bit for bit, in the middle of a rollout's use.
TEST_P(RlooLearns, AndContinuesBitForBit) {
  const fs::path folder = testing::scratch("rloo_resume_" + GetParam());
  const auto run = [&](const std::string& name, const Arguments& more, const TrainHooks& hooks) {
    return testing::train_rloo_with(
        sampling(folder, name,
                 with({"--advantage_estimator", GetParam(), "--num_iterations", "2",
                       "--save_strategy", "steps", "--save_steps", "1"},
                      more)),
        hooks);
  };
  run("straight", {}, {});
  int64_t steps = 0;
  const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                        .should_stop = [&] { return steps == 3; }};
  EXPECT_EQ(run("halves", {}, stop).end, TrainEnd::interrupted);
  EXPECT_EQ(run("halves", {"--resume_from_checkpoint", "true"}, {}).end, TrainEnd::done);
  testing::expect_same_bits(folder / "straight", folder / "halves");
  EXPECT_EQ(read_file(folder / "straight" / "completions.jsonl"),
            read_file(folder / "halves" / "completions.jsonl"));
}

INSTANTIATE_TEST_SUITE_P(All, RlooLearns,
                         ::testing::Values("rloo", "reinforce_plus_plus",
                                           "reinforce_plus_plus_baseline", "remax", "opo"),
                         [](const auto& param) { return param.param; });

TEST(RlooRun, WrongOptionsAreRefusedTogether) {
  const fs::path folder = testing::scratch("rloo_refused");
  try {
    testing::train_rloo_with(sampling(
        folder, "run",
        {"--advantage_estimator", "opo", "--num_generations", "1", "--normalize_advantages", "true",
         "--gamma", "0.9", "--reward_clip_range", "2", "1"}));
    FAIL() << "it ran";
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part : {"num_generations", "normalize_advantages", "gamma", "smaller one"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_FALSE(fs::exists(folder / "run"));
}

// One completion of a prompt will do where nothing compares it with others.
TEST(RlooRun, EstimatorsWithoutGroupsTakeOneCompletion) {
  const fs::path folder = testing::scratch("rloo_single");
  for (const char* name : {"remax", "reinforce_plus_plus"}) {
    const auto result = testing::train_rloo_with(
        sampling(folder, name,
                 {"--advantage_estimator", name, "--num_generations", "1", "--max_steps", "2"}));
    EXPECT_EQ(result.end, TrainEnd::done);
  }
}

}  // namespace
}  // namespace rlhf
