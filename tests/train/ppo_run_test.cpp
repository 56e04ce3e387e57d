// Runs of `rlhf ppo`: advantages and returns as the mathematics says, what critic and policy learn,
// and that a run goes on after a stop.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "ppo_case.h"
#include "rlhf/models/packed_forward.h"
#include "rlhf/models/safetensors.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::ppo_arguments;
using testing::train_ppo_with;
using testing::with;

/// What the critic says of each token of a completion, computed alone.
std::vector<double> values_of(const Model& critic, const Json& line) {
  const auto prompt = line.at("prompt_ids").get<std::vector<int32_t>>();
  const auto ids = line.at("completion_ids").get<std::vector<int32_t>>();
  const std::vector<PackPrompt> alone = {{.ids = prompt, .answers = {{.ids = ids, .row = 0}}}};
  const at::NoGradGuard no_grad;
  const auto batch = batch_prompts(alone, critic.decoder.config().shared_prefix_limit());
  const auto scores = critic.decoder.score(packed_forward(critic.decoder, batch, batch.rows));
  std::vector<double> values;
  for (int64_t t = 0; t < scores.size(0); ++t) values.push_back(scores[t][0].item<double>());
  return values;
}

const fs::path& reward_model() {
  static const fs::path folder = testing::fixtures() / "preference" / "reward_model";
  return folder;
}

// At the first step the ratio is 1 and values are those of the rollout, so that losses can be worked
// out from completions.jsonl and the start critic: the score at the last token, λ = γ = 1, no KL.
// Then A_t = S − V_t before whitening, R_t = S, and L_value = ½ mean (V_t − S)².
TEST(PpoRun, FirstStepFollowsFromScoresAndTheStartCritic) {
  const fs::path folder = testing::scratch("ppo_first");
  train_ppo_with(ppo_arguments(
      folder, "run",
      {"--max_steps", "1", "--kl_coef", "0", "--lam", "1", "--value_model_name_or_path",
       reward_model().string(), "--num_ppo_epochs", "1"}));
  const Model critic = load_model(reward_model());
  std::vector<double> advantages;
  double squares = 0.0;
  std::ifstream lines(folder / "run" / "completions.jsonl");
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text);
    const double score = line.at("reward").get<double>();
    for (const double value : values_of(critic, line)) {
      advantages.push_back(score - value);
      squares += (score - value) * (score - value);
    }
  }
  const double count = static_cast<double>(advantages.size());
  const Json metrics = testing::metrics_of(folder / "run").front();
  EXPECT_NEAR(metrics.at("loss/value_avg").get<double>(), 0.5 * squares / count, 1e-5);
  // Whitened advantages add up to 0, and the ratio is 1.
  EXPECT_NEAR(metrics.at("loss/policy_avg").get<double>(), 0.0, 1e-6);
  EXPECT_DOUBLE_EQ(metrics.at("val/ratio").get<double>(), 1.0);
  EXPECT_EQ(metrics.at("policy/clipfrac_avg").get<double>(), 0.0);
  EXPECT_EQ(metrics.at("val/clipfrac_avg").get<double>(), 0.0);
  EXPECT_NEAR(metrics.at("loss").get<double>(), 0.1 * 0.5 * squares / count, 1e-5);
}

TEST(PpoRun, LearnsWhatItIsPaidFor) {
  const fs::path folder = testing::scratch("ppo_learns");
  train_ppo_with(ppo_arguments(
      folder, "run",
      {"--max_steps", "240", "--learning_rate", "5e-3", "--lr_scheduler_type", "constant",
       "--per_device_train_batch_size", "12", "--gradient_accumulation_steps", "1"}));
  const auto lines = testing::metrics_of(folder / "run");
  EXPECT_LT(lines.front().at("reward").get<double>(), 0.4);
  const Json last = lines[236];  // the step of the last rollout's first pass
  EXPECT_GT(last.at("objective/scores").get<double>(), 0.6);
  // The critic knows more of the returns than their mean.
  EXPECT_GT(lines.back().at("val/explained_variance").get<double>(), 0.0);
}

double mean_of(const std::vector<Json>& lines, const char* metric, size_t begin, size_t end) {
  double sum = 0.0;
  double count = 0.0;
  for (size_t i = begin; i < end; ++i) {
    if (!lines[i].contains(metric)) continue;
    sum += lines[i].at(metric).get<double>();
    count += 1.0;
  }
  return sum / count;
}

// What the critic explains of the returns rises over a run, from far less than their mean does to
// about as much: letters drawn nearly at random tell little of the digits to come.
TEST(PpoRun, TheCriticLearns) {
  const fs::path folder = testing::scratch("ppo_critic_learns");
  train_ppo_with(ppo_arguments(
      folder, "run",
      {"--max_steps", "400", "--learning_rate", "1e-5", "--critic_learning_rate", "5e-3",
       "--lr_scheduler_type", "constant", "--per_device_train_batch_size", "12", "--lam", "1"}));
  const auto lines = testing::metrics_of(folder / "run");
  EXPECT_LT(mean_of(lines, "val/explained_variance", 0, 40), -2.0);
  EXPECT_GT(mean_of(lines, "val/explained_variance", 320, 400), -0.1);
}

// The same run with a fixed coefficient leaves its reference far behind; steered, it stays near the
// target while it learns.
TEST(PpoRun, TheAdaptiveCoefficientHoldsTheKl) {
  const fs::path folder = testing::scratch("ppo_held");
  const Arguments options = {"--max_steps",
                             "320",
                             "--learning_rate",
                             "1e-3",
                             "--lr_scheduler_type",
                             "constant",
                             "--per_device_train_batch_size",
                             "12",
                             "--num_ppo_epochs",
                             "1",
                             "--kl_coef",
                             "0.05"};
  train_ppo_with(ppo_arguments(folder, "free", options));
  train_ppo_with(
      ppo_arguments(folder, "held", with(options, {"--kl_target", "2", "--kl_horizon", "100"})));
  const auto free = testing::metrics_of(folder / "free");
  const auto held = testing::metrics_of(folder / "held");
  EXPECT_GT(mean_of(free, "objective/kl", 240, 320), 4.0);
  const double kl = mean_of(held, "objective/kl", 240, 320);
  EXPECT_GT(kl, 1.0);
  EXPECT_LT(kl, 3.0);
  EXPECT_GT(mean_of(held, "objective/scores", 240, 320), mean_of(held, "objective/scores", 0, 8));
}

TEST(PpoRun, TheAdaptiveCoefficientRisesAboveItsTarget) {
  const fs::path folder = testing::scratch("ppo_adaptive");
  train_ppo_with(ppo_arguments(folder, "run",
                               {"--max_steps", "24", "--learning_rate", "1e-2", "--kl_target",
                                "0.001", "--kl_horizon", "50", "--num_ppo_epochs", "2"}));
  const auto lines = testing::metrics_of(folder / "run");
  EXPECT_DOUBLE_EQ(lines.front().at("objective/kl_coef").get<double>(), 0.05);
  // Each of the rollouts far above the target raises it by at most 0.2 · 8 / 50.
  const double last = lines[22].at("objective/kl_coef").get<double>();
  EXPECT_GT(last, 0.05);
  EXPECT_LE(last, 0.05 * std::pow(1.0 + 0.2 * 8.0 / 50.0, 11) + 1e-12);
}

// The critic alone learns at first: the policy keeps its bits, and goes on as if new.
TEST(PpoRun, WarmUpLeavesThePolicyAlone) {
  const fs::path folder = testing::scratch("ppo_warmup");
  const Arguments options = {"--max_steps", "3", "--critic_warmup", "3", "--learning_rate", "1e-2"};
  train_ppo_with(ppo_arguments(folder, "run", options));
  const Model start = load_model(testing::fixtures() / "model");
  const Model end = load_model(folder / "run");
  for (size_t i = 0; i < start.decoder.tensors().size(); ++i)
    EXPECT_TRUE(start.decoder.tensors()[i].tensor.equal(end.decoder.tensors()[i].tensor));
  const auto lines = testing::metrics_of(folder / "run");
  EXPECT_LT(lines.back().at("loss/value_avg").get<double>(),
            lines.front().at("loss/value_avg").get<double>());
}

TEST(PpoRun, TheCriticIsAFolderThatIsFoundAgain) {
  const fs::path folder = testing::scratch("ppo_critic");
  train_ppo_with(ppo_arguments(folder, "first", {"--max_steps", "4"}));
  const fs::path critic = folder / "first" / "critic";
  EXPECT_EQ(load_decoder_config(critic).task, ModelTask::sequence_classification);
  EXPECT_TRUE(fs::exists(critic / "tokenizer.json"));
  const auto result = train_ppo_with(ppo_arguments(
      folder, "second", {"--max_steps", "2", "--value_model_name_or_path", critic.string()}));
  EXPECT_EQ(result.end, TrainEnd::done);
}

struct ResumeCase {
  std::string name;
  Arguments arguments;
};

class PpoResume : public ::testing::TestWithParam<ResumeCase> {};

// N steps == k steps + resume + N−k steps, bit for bit, in the middle of a rollout: policy, critic,
// coefficient, completions.
TEST_P(PpoResume, ContinuesBitForBit) {
  const fs::path folder = testing::scratch("ppo_resume_" + GetParam().name);
  const auto run = [&](const std::string& name, const Arguments& more, const TrainHooks& hooks) {
    return train_ppo_with(ppo_arguments(folder, name,
                                        with(GetParam().arguments,
                                             with({"--save_strategy", "steps", "--save_steps", "1",
                                                   "--max_steps", "10", "--learning_rate", "5e-3"},
                                                  more))),
                          hooks);
  };
  run("straight", {}, {});
  int64_t steps = 0;
  const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                        .should_stop = [&] { return steps == 5; }};
  EXPECT_EQ(run("halves", {}, stop).end, TrainEnd::interrupted);
  EXPECT_EQ(run("halves", {"--resume_from_checkpoint", "true"}, {}).end, TrainEnd::done);
  for (const char* part : {".", "critic"}) {
    const fs::path straight = folder / "straight" / part;
    const bool adapter = fs::exists(straight / "adapter_model.safetensors");
    const char* weights = adapter ? "adapter_model.safetensors" : "model.safetensors";
    EXPECT_EQ(read_file(straight / weights), read_file(folder / "halves" / part / weights));
  }
  EXPECT_EQ(read_file(folder / "straight" / "completions.jsonl"),
            read_file(folder / "halves" / "completions.jsonl"));
}

INSTANTIATE_TEST_SUITE_P(
    All, PpoResume,
    ::testing::Values(
        ResumeCase{"plain", {}},
        ResumeCase{"mini_batches", {"--num_mini_batches", "2", "--num_ppo_epochs", "2"}},
        ResumeCase{"adaptive",
                   {"--kl_target", "0.01", "--kl_horizon", "50", "--whiten_rewards", "true"}},
        ResumeCase{"kl_loss",
                   {"--use_kl_loss", "true", "--kl_estimator", "k2", "--kl_target", "0.01",
                    "--kl_horizon", "50"}},
        ResumeCase{"warmup", {"--critic_warmup", "3", "--critic_learning_rate", "1e-2"}},
        ResumeCase{"lora",
                   {"--use_peft", "true", "--lora_target_modules", "all-linear", "--lora_r", "4"}}),
    [](const auto& param) { return param.param.name; });

// A coefficient that nothing adapts is an option, which the run that goes on may change. And its log
// may have been moved away meanwhile.
TEST(PpoRun, GoesOnWithAnotherCoefficientAndANewLog) {
  const fs::path folder = testing::scratch("ppo_new_coefficient");
  const auto run = [&](const char* coefficient, const char* steps, const Arguments& more) {
    train_ppo_with(
        ppo_arguments(folder, "run",
                      with({"--save_strategy", "steps", "--save_steps", "1", "--num_ppo_epochs",
                            "1", "--kl_coef", coefficient, "--max_steps", steps},
                           more)));
    return testing::metrics_of(folder / "run").back().at("objective/kl_coef").get<double>();
  };
  EXPECT_DOUBLE_EQ(run("0.05", "2", {}), 0.05);
  fs::remove(folder / "run" / "completions.jsonl");
  EXPECT_DOUBLE_EQ(run("0.2", "4", {"--resume_from_checkpoint", "true"}), 0.2);
  EXPECT_TRUE(fs::exists(folder / "run" / "completions.jsonl"));
  EXPECT_DOUBLE_EQ(run("0", "5", {"--resume_from_checkpoint", "true"}), 0.0);
}

// save_only_model keeps the critic's weights, and its moments no more than the policy's.
TEST(PpoRun, SavesTheCriticWithoutItsMoments) {
  const fs::path folder = testing::scratch("ppo_only_model");
  const Arguments options = {"--save_strategy",   "steps", "--save_steps", "1",
                             "--save_only_model", "true",  "--max_steps",  "2"};
  train_ppo_with(ppo_arguments(folder, "run", options));
  const SafetensorsFile critic(folder / "run" / "checkpoint-2" / "critic.safetensors");
  EXPECT_EQ(critic.tensors().size(),
            load_model(folder / "run" / "critic").decoder.tensors().size());
  const auto result = train_ppo_with(ppo_arguments(
      folder, "run", with(options, {"--resume_from_checkpoint", "true", "--max_steps", "3"})));
  EXPECT_EQ(result.end, TrainEnd::done);
}

// In bfloat16 too: the fp32 masters are those of the weights that were read.
TEST(PpoRun, GoesOnFromTheCriticsWeightsWithoutItsMoments) {
  const fs::path folder = testing::scratch("ppo_only_model_bf16");
  const Arguments options = {"--save_strategy", "steps",    "--save_steps",        "1",
                             "--dtype",         "bfloat16", "--save_only_model",   "true",
                             "--max_steps",     "2",        "--lr_scheduler_type", "constant"};
  const fs::path critic = folder / "run" / "critic";
  train_ppo_with(ppo_arguments(folder, "run", with(options, {"--learning_rate", "1e-2"})));
  fs::copy(critic, folder / "before", fs::copy_options::recursive);
  // A rate that moves no weight.
  train_ppo_with(
      ppo_arguments(folder, "run",
                    testing::merged(options, {"--resume_from_checkpoint", "true", "--max_steps",
                                              "3", "--learning_rate", "1e-20"})));
  EXPECT_EQ(testing::largest_difference(folder / "before", critic), 0.0);
}

// How the rows of a step are cut into passes changes nothing: rows in an order of their own, and pairs
// that share their prompts.
TEST(PpoRun, AnyMicroBatchGivesTheSame) {
  for (const auto& [generations, mini_batches] : {std::pair("1", "2"), std::pair("2", "1")}) {
    SCOPED_TRACE(generations);
    const fs::path folder = testing::scratch("ppo_cuts") / generations;
    fs::create_directories(folder);
    for (const char* tokens : {"16", "4096"}) {
      train_ppo_with(ppo_arguments(
          folder, tokens,
          {"--max_tokens_per_microbatch", tokens, "--max_steps", "4", "--learning_rate", "1e-3",
           "--num_mini_batches", mini_batches, "--num_generations", generations}));
    }
    // fp32 sums in another order, through four Adam steps of 1e-3.
    EXPECT_LT(testing::largest_difference(folder / "16", folder / "4096"), 2e-5);
    EXPECT_LT(testing::largest_difference(folder / "16" / "critic", folder / "4096" / "critic"),
              2e-5);
  }
}

}  // namespace
}  // namespace rlhf
