// The importance ratio through whole runs of `rlhf grpo`: exactly 1 where the weights that learn
// are those that drew, the old log-probabilities those of the weights that drew and of no others,
// and completions that depend on nothing but their names.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "policy_case.h"
#include "rlhf/generate/score.h"
#include "rlhf/train/rollout_source.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::with;

/// A run on twelve sums in the tiny model's characters; digits are what it is paid for. Steps are
/// large, so that a ratio taken with other weights shows.
Arguments sampling(const fs::path& folder, const std::string& run, const Arguments& more) {
  std::ofstream out(folder / "prompts.jsonl");
  for (int i = 0; i < 12; ++i)
    out << Json{{"prompt", fmt::format("{}+{}=", i, 2 * i)}}.dump() << '\n';
  out.close();
  return testing::merged(
      testing::grpo_arguments(
          folder / run, {"--dataset_name", (folder / "prompts.jsonl").string(), "--reward_funcs",
                         "digit_share", "--max_steps", "6", "--learning_rate", "1e-2"}),
      more);
}

std::vector<double> logged(const fs::path& run, const std::string& metric) {
  std::vector<double> values;
  for (const Json& line : testing::metrics_of(run)) values.push_back(line.at(metric).get<double>());
  return values;
}

/// A loss with bounds so narrow that `metric` differs from `at_one` as soon as one ratio is not 1
/// to the last bit.
struct NarrowLoss {
  std::string name;
  Arguments arguments;
  std::string metric = "clip_ratio/region_mean";
  double at_one = 0.0;
};

class FirstPass : public ::testing::TestWithParam<NarrowLoss> {};

// Steps 1, 3 and 5 train on what they have just drawn, 2, 4 and 6 on the same once more. Several
// micro-batches, and two slices a step.
TEST_P(FirstPass, HasTheRatioOneAndTheSecondHasNot) {
  const auto& loss = GetParam();
  const fs::path folder = testing::scratch("policy_ratio_" + loss.name);
  testing::train_grpo_with(sampling(
      folder, "run",
      with(loss.arguments, {"--num_iterations", "2", "--gradient_accumulation_steps", "2",
                            "--temperature", "0.7", "--max_tokens_per_microbatch", "40"})));
  const auto values = logged(folder / "run", loss.metric);
  ASSERT_EQ(values.size(), 6U);
  for (size_t step = 0; step < values.size(); step += 2) {
    EXPECT_EQ(values[step], loss.at_one) << "step " << step;
    EXPECT_NE(values[step + 1], loss.at_one) << "step " << step + 1;
  }
}

NarrowLoss ppo(const std::string& loss, const std::string& level = "token") {
  return {
      .name = loss + "_" + level,
      .arguments = {"--loss_type", loss, "--importance_sampling_level", level, "--epsilon", "0"}};
}

INSTANTIATE_TEST_SUITE_P(
    All, FirstPass,
    ::testing::Values(ppo("grpo"), ppo("bnpo"), ppo("dapo"), ppo("dr_grpo"),
                      ppo("luspo", "sequence"), ppo("grpo", "sequence"),
                      ppo("grpo", "sequence_token"),
                      NarrowLoss{.name = "gmpo",
                                 .arguments = {"--loss_type", "gmpo", "--gmpo_clip", "1e-30"}},
                      // Its cap is on the ratio itself.
                      NarrowLoss{.name = "cispo",
                                 .arguments = {"--loss_type", "cispo", "--epsilon_high", "1"},
                                 .metric = "cispo_clip_ratio"},
                      // φ(1) = 1, the mean over sequences.
                      NarrowLoss{.name = "vespo",
                                 .arguments = {"--loss_type", "vespo"},
                                 .metric = "vespo/phi_seq_mean",
                                 .at_one = 1.0}),
    [](const auto& param) { return param.param.name; });

/// Ways in which a pass is not the first on the weights that drew.
struct LaterPass {
  std::string name;
  Arguments arguments;
  int64_t scored_from;  ///< first sample whose old log-probabilities are known after one step
};

std::vector<LaterPass> later_passes() {
  return {// Noted in the first pass over them.
          {"iterations", {"--num_iterations", "2"}, 0},
          // Computed when they are drawn: slices 2 and 3 are first used with other weights.
          {"slices", {"--steps_per_generation", "3"}, 8}};
}

class OldLogprobs : public ::testing::TestWithParam<LaterPass> {};

// Where no step moves the weights the ratio stays 1: to 1e-5, since a pass without gradients packs
// other rows together. Where steps move them it does not, or the test would see nothing.
TEST_P(OldLogprobs, GiveTheRatioOneWhereNothingMoved) {
  const fs::path folder = testing::scratch("policy_unmoved_" + GetParam().name);
  const Arguments options = with(GetParam().arguments, {"--loss_type", "grpo", "--epsilon", "1e-5",
                                                        "--max_tokens_per_microbatch", "40"});
  testing::train_grpo_with(sampling(folder, "still", with(options, {"--learning_rate", "0"})));
  testing::train_grpo_with(sampling(folder, "moved", options));
  const auto still = logged(folder / "still", "clip_ratio/region_mean");
  const auto moved = logged(folder / "moved", "clip_ratio/region_mean");
  EXPECT_EQ(still, std::vector<double>(6, 0.0));
  EXPECT_GT(moved.at(1), 0.1);  // of the tokens; clipping sees one side only
}

// After one large step the checkpoint's old log-probabilities are still those of the model that the
// run began with, at the temperature of the draw: token by token what `rlhf score` says of it.
TEST_P(OldLogprobs, AreTheDrawersAtItsTemperature) {
  const fs::path folder = testing::scratch("policy_old_" + GetParam().name);
  testing::train_grpo_with(
      sampling(folder, "run",
               with(GetParam().arguments, {"--temperature", "0.7", "--save_strategy", "steps",
                                           "--save_steps", "1", "--max_steps", "2"})));
  const Rollout rollout = read_rollout(folder / "run" / "checkpoint-1" / RolloutSource::kFile);
  const Model drawer = load_model(testing::fixtures() / "model");
  const Model moved = load_model(folder / "run" / "checkpoint-1");
  int64_t number = 0;
  double farthest = 0.0;
  for (const auto& group : rollout.groups) {
    for (const auto& sample : group.samples) {
      if (number++ < GetParam().scored_from) continue;
      std::vector<int32_t> ids = group.prompt;
      ids.insert(ids.end(), sample.ids.begin(), sample.ids.end());
      std::vector<uint8_t> marks(group.prompt.size(), 0);
      marks.resize(ids.size(), 1);
      const std::vector<PackRow> rows = {{.ids = ids, .supervised = marks}};
      const auto expected = score_rows(drawer.decoder, rows, {.temperature = 0.7}).front();
      const auto other = score_rows(moved.decoder, rows, {.temperature = 0.7}).front();
      ASSERT_EQ(sample.old_logprobs.size(), expected.size());
      for (size_t t = 0; t < expected.size(); ++t) {
        EXPECT_NEAR(sample.old_logprobs[t], expected[t], 1e-5);  // fp32 sums in another order
        farthest = std::max(farthest, std::abs(double{other[t]} - expected[t]));
      }
    }
  }
  EXPECT_GT(number, GetParam().scored_from);
  EXPECT_GT(farthest, 1e-2);  // the step did move the model
}

INSTANTIATE_TEST_SUITE_P(All, OldLogprobs, ::testing::ValuesIn(later_passes()),
                         [](const auto& param) { return param.param.name; });

/// Prompt and completion of each sample of the first draw.
std::vector<std::pair<Json, Json>> first_draw(const fs::path& run) {
  std::vector<std::pair<Json, Json>> samples;
  std::istringstream text(read_file(run / "completions.jsonl"));
  for (std::string line; std::getline(text, line);) {
    const Json one = Json::parse(line);
    if (one.at("generation") == 0)
      samples.emplace_back(one.at("prompt_ids"), one.at("completion_ids"));
  }
  return samples;
}

// A completion has the same ids whatever is drawn beside it, in how many rows, by how many threads.
TEST(PolicyDraws, DependOnSeedDrawPromptAndSampleAlone) {
  const fs::path folder = testing::scratch("policy_draws");
  const auto draw = [&](const std::string& name, const Arguments& more) {
    testing::train_grpo_with(
        sampling(folder, name, with({"--shuffle_dataset", "false", "--max_steps", "1"}, more)));
    return first_draw(folder / name);
  };
  const auto base = draw("base", {});
  ASSERT_EQ(base.size(), 8U);
  EXPECT_EQ(draw("alone", {"--rollout_rows", "1"}), base);
  EXPECT_EQ(draw("threads", {"--threads", "2"}), base);
  // All twelve prompts at once, in the order of the file and in another.
  const Arguments all = {"--per_device_train_batch_size", "48", "--threads", "2"};
  auto ordered = draw("ordered", all);
  ASSERT_EQ(ordered.size(), 48U);
  EXPECT_TRUE(std::equal(base.begin(), base.end(), ordered.begin()));
  auto shuffled = draw("shuffled", with(all, {"--shuffle_dataset", "true", "--data_seed", "7"}));
  EXPECT_NE(shuffled, ordered);
  std::sort(ordered.begin(), ordered.end());
  std::sort(shuffled.begin(), shuffled.end());
  EXPECT_EQ(shuffled, ordered);
  EXPECT_NE(draw("seed", {"--seed", "43"}), base);
}

}  // namespace
}  // namespace rlhf
