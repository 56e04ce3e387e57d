// What `rlhf ppo` cannot run with: everything at once, before anything is written.
#include <gtest/gtest.h>

#include <algorithm>

#include "ppo_case.h"
#include "renamed_judge.h"
#include "rlhf/train/sft.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::ppo_arguments;
using testing::train_ppo_with;

/// The message; empty where it ran.
std::string refusal_of(const Arguments& arguments) {
  try {
    train_ppo_with(arguments);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
  for (const auto& part : parts)
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(PpoRefusal, WrongOptionsTogether) {
  const fs::path folder = testing::scratch("ppo_refused");
  try {
    train_ppo_with(ppo_arguments(
        folder, "run",
        {"--num_mini_batches", "3", "--kl_coef", "0", "--kl_target", "1", "--normalize_scores",
         "true", "--reward_clip_range", "1", "0", "--total_episodes", "8", "--kl_horizon", "1",
         "--critic_learning_rate", "1e-3", "--learning_rate", "0"}));
    FAIL() << "it ran";
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part :
         {"num_mini_batches", "kl_target", "normalize_scores", "reward_clip_range",
          "total_episodes", "kl_horizon", "critic_learning_rate"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_FALSE(fs::exists(folder / "run"));
}

// Each completion is a group of its own: all would be dropped.
TEST(PpoRefusal, DynamicSamplingOfSingleCompletions) {
  const fs::path folder = testing::scratch("ppo_refused_dynamic");
  expect_parts(refusal_of(ppo_arguments(folder, "run", {"--dynamic_sampling", "true"})),
               {"dynamic_sampling]", "num_generations of at least 2"});
}

// k1 in the loss holds the policy nowhere; without a KL term there is nothing to place.
TEST(PpoRefusal, KlInTheLoss) {
  const fs::path folder = testing::scratch("ppo_refused_kl");
  expect_parts(refusal_of(ppo_arguments(folder, "run", {"--use_kl_loss", "true"})),
               {"kl_estimator", "k2 or k3", "HINT: set kl_estimator: k2"});
  expect_parts(
      refusal_of(ppo_arguments(folder, "run", {"--use_kl_loss", "true", "--kl_coef", "0"})),
      {"use_kl_loss", "there is no KL term"});
}

/// A model of 24 positions that starts from nothing, with the fixture's tokenizer.
fs::path short_model(const fs::path& scratch) {
  const fs::path folder = scratch / "short";
  fs::create_directories(folder);
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy(testing::fixtures() / "model" / file, folder / file);
  write_file(folder / "config.json", Json{{"architectures", Json::array({"GPT2LMHeadModel"})},
                                          {"model_type", "gpt2"},
                                          {"n_positions", 24},
                                          {"n_embd", 32},
                                          {"n_layer", 1},
                                          {"n_head", 4},
                                          {"vocab_size", 100}}
                                         .dump());
  return folder;
}

/// A folder whose configuration speaks of a score head that its weights do not have.
fs::path headless(const fs::path& scratch) {
  const fs::path folder = scratch / "headless";
  fs::copy(testing::fixtures() / "model", folder);
  fs::copy_file(testing::fixtures() / "preference" / "reward_model" / "config.json",
                folder / "config.json", fs::copy_options::overwrite_existing);
  return folder;
}

// What only models and data show: a reward model with another tokenizer and without moments, a
// critic without its head, completions longer than the model's positions, too few prompts.
TEST(PpoRefusal, WrongModelsAndDataTogether) {
  const fs::path folder = testing::scratch("ppo_refused_models");
  Arguments arguments = ppo_arguments(
      folder, "run",
      {"--model_name_or_path", short_model(folder).string(), "--from_scratch", "true",
       "--reward_model_name_or_path", testing::renamed_judge(folder).string(), "--normalize_scores",
       "true", "--value_model_name_or_path", headless(folder).string(), "--max_completion_length",
       "40", "--per_device_train_batch_size", "16"});
  // The reward model is the only judge.
  const auto rule = std::find(arguments.begin(), arguments.end(), "--reward_funcs");
  arguments.erase(rule, rule + 2);
  const std::string text = refusal_of(arguments);
  expect_parts(text, {"the policy's tokenizer was expected", "reward_model_reencode: true",
                      "reward_mean and reward_std", "score.weight", "has no head",
                      "at least the 16 prompts", "lower per_device_train_batch_size or"});
  EXPECT_EQ(text.find("prompts_per_step"), std::string::npos) << text;
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST(PpoRefusal, CompletionsThatDoNotFit) {
  const fs::path folder = testing::scratch("ppo_refused_length");
  expect_parts(
      refusal_of(ppo_arguments(folder, "run",
                               {"--model_name_or_path", short_model(folder).string(),
                                "--from_scratch", "true", "--max_completion_length", "40"})),
      {"max_completion_length", "a completion of 40", "24 positions"});
}

// Whoever reads the policy's ids needs positions for them.
TEST(PpoRefusal, ACriticOfFewPositions) {
  const fs::path folder = testing::scratch("ppo_refused_positions");
  train_sft(
      testing::config_of(folder / "critic", "texts",
                         {"--model_name_or_path", short_model(folder).string(), "--from_scratch",
                          "true", "--max_steps", "1", "--max_length", "24"}),
      {});
  expect_parts(refusal_of(ppo_arguments(folder, "run",
                                        {"--value_model_name_or_path", (folder / "critic").string(),
                                         "--max_completion_length", "40"})),
               {"max_completion_length", "the critic has 24 positions"});
}

// Logs tell judges apart by their names, and a reward model's is its folder's.
TEST(PpoRefusal, TwoJudgesOfOneName) {
  const fs::path folder = testing::scratch("ppo_refused_names");
  const fs::path judge = folder / "digit_share";
  fs::copy(testing::fixtures() / "preference" / "reward_model", judge);
  expect_parts(
      refusal_of(ppo_arguments(folder, "run", {"--reward_model_name_or_path", judge.string()})),
      {judge.string(), "two are called digit_share"});
}

// Other batches would train on other completions: said in the names of PPO's own options.
TEST(PpoRefusal, OtherBatchesOnResuming) {
  const fs::path folder = testing::scratch("ppo_refused_batches");
  const Arguments saving = {"--save_strategy", "steps", "--save_steps", "1", "--max_steps", "1"};
  train_ppo_with(ppo_arguments(folder, "run", saving));
  const std::string text = refusal_of(
      ppo_arguments(folder, "run",
                    testing::with(saving, {"--resume_from_checkpoint", "true", "--max_steps", "3",
                                           "--num_ppo_epochs", "3", "--num_mini_batches", "2"})));
  expect_parts(text, {"[num_ppo_epochs]", "[num_mini_batches] 1 as in the run"});
  EXPECT_EQ(text.find("num_iterations"), std::string::npos) << text;
}

// A critic of steps judges steps.
TEST(PpoRefusal, AProcessRewardModelAsCritic) {
  const fs::path folder = testing::scratch("ppo_refused_critic");
  expect_parts(
      refusal_of(ppo_arguments(folder, "run",
                               {"--value_model_name_or_path",
                                (testing::fixtures() / "preference" / "stepwise_model").string()})),
      {"a reward model (sequence classification) was expected"});
}

}  // namespace
}  // namespace rlhf
