// Runs of `rlhf grpo`: resumed in the middle of a generation, cut otherwise, refused.
#include <gtest/gtest.h>

#include <fstream>

#include "policy_case.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::with;

/// Prompts with answers for the tiny model's characters.
fs::path prompts_in(const fs::path& folder) {
  std::ofstream out(folder / "prompts.jsonl");
  for (int i = 0; i < 12; ++i)
    out << Json{{"prompt", fmt::format("{}+{}=", i, 2 * i)}, {"answer", std::to_string(3 * i)}}
               .dump()
        << '\n';
  return folder / "prompts.jsonl";
}

/// A run that samples; digits are what it is paid for.
Arguments sampling(const fs::path& folder, const std::string& run, const Arguments& more) {
  return testing::merged(
      testing::grpo_arguments(folder / run, {"--dataset_name", prompts_in(folder).string(),
                                             "--reward_funcs", "digit_share", "--max_steps", "6"}),
      more);
}

std::vector<Json> lines_of(const fs::path& run) {
  auto lines = testing::comparable(run);
  for (auto& line : lines) {
    for (const char* name : {"time/rollout", "time/reward", "time/reference", "time/update"})
      line.erase(name);
  }
  return lines;
}

struct ResumeCase {
  std::string name;
  Arguments arguments;
  int64_t at;
};

class PolicyResume : public ::testing::TestWithParam<ResumeCase> {};

// N steps == k steps + resume + N−k steps, bit for bit: weights, metrics, completions.
TEST_P(PolicyResume, ContinuesBitForBit) {
  const fs::path folder = testing::scratch("policy_resume_" + GetParam().name);
  const auto run = [&](const std::string& name, const Arguments& more, const TrainHooks& hooks) {
    return testing::train_grpo_with(
        sampling(folder, name,
                 with(GetParam().arguments,
                      with({"--save_strategy", "steps", "--save_steps", "1"}, more))),
        hooks);
  };
  run("straight", {}, {});
  int64_t steps = 0;
  const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                        .should_stop = [&] { return steps == GetParam().at; }};
  EXPECT_EQ(run("halves", {}, stop).end, TrainEnd::interrupted);
  EXPECT_EQ(run("halves", {"--resume_from_checkpoint", "true"}, {}).end, TrainEnd::done);
  testing::expect_same_bits(folder / "straight", folder / "halves");
  EXPECT_EQ(lines_of(folder / "straight"), lines_of(folder / "halves"));
  EXPECT_EQ(read_file(folder / "straight" / "completions.jsonl"),
            read_file(folder / "halves" / "completions.jsonl"));
}

INSTANTIATE_TEST_SUITE_P(
    All, PolicyResume,
    ::testing::Values(
        ResumeCase{"at_an_edge", {"--learning_rate", "1e-2"}, 3},
        ResumeCase{"within_iterations",
                   {"--num_iterations", "2", "--learning_rate", "1e-2", "--beta", "0.1"},
                   3},
        ResumeCase{"within_a_generation", {"--steps_per_generation", "3", "--beta", "0.1"}, 4},
        ResumeCase{"dynamic_sampling", {"--dynamic_sampling", "true", "--num_iterations", "2"}, 3},
        ResumeCase{"adaptive_entropy",
                   {"--use_adaptive_entropy", "true", "--entropy_coef", "0.01", "--entropy_target",
                    "4.0", "--num_iterations", "2"},
                   3}),
    [](const auto& param) { return param.param.name; });

// A completion may be judged in any micro-batch: to rounding the same weights.
TEST(PolicyRun, AnyMicroBatchGivesTheSame) {
  const fs::path folder = testing::scratch("policy_cuts");
  const Arguments options = {"--num_iterations", "2",    "--learning_rate", "1e-3",
                             "--beta",           "0.05", "--max_steps",     "4"};
  for (const char* tokens : {"16", "40", "4096"}) {
    testing::train_grpo_with(testing::replay_arguments(
        folder / tokens, with(options, {"--max_tokens_per_microbatch", tokens})));
  }
  // fp32 sums in another order, through four Adam steps of 1e-3.
  EXPECT_LT(testing::largest_difference(folder / "16", folder / "4096"), 2e-5);
  EXPECT_LT(testing::largest_difference(folder / "40", folder / "4096"), 2e-5);
}

TEST(PolicyRun, ItsCompletionsReplayToTheSameRun) {
  const fs::path folder = testing::scratch("policy_replay");
  testing::train_grpo_with(sampling(folder, "sampled", {}));
  testing::train_grpo_with(testing::grpo_arguments(
      folder / "replayed",
      {"--replay_completions", (folder / "sampled" / "completions.jsonl").string(), "--max_steps",
       "6"}));
  testing::expect_same_bits(folder / "sampled", folder / "replayed");
}

TEST(PolicyRun, LearnsWhatItIsPaidFor) {
  const fs::path folder = testing::scratch("policy_learns");
  testing::train_grpo_with(
      sampling(folder, "run",
               {"--max_steps", "60", "--learning_rate", "5e-3", "--lr_scheduler_type", "constant",
                "--per_device_train_batch_size", "32"}));
  const auto lines = testing::metrics_of(folder / "run");
  // Ten digits among some sixty characters to begin with.
  EXPECT_LT(lines.front().at("reward").get<double>(), 0.4);
  EXPECT_GT(lines.back().at("reward").get<double>(), 0.8);
}

TEST(PolicyRun, EvaluatesOnHeldOutPrompts) {
  const fs::path folder = testing::scratch("policy_eval");
  testing::train_grpo_with(sampling(folder, "run",
                                    {"--eval_strategy", "steps", "--eval_steps", "3",
                                     "--test_split_size", "4", "--num_generations_eval", "2"}));
  int evaluations = 0;
  for (const Json& line : testing::metrics_of(folder / "run")) {
    if (!line.contains("eval_reward")) continue;
    ++evaluations;
    EXPECT_TRUE(line.contains("eval_rewards/digit_share/mean"));
    EXPECT_TRUE(line.contains("eval_completions/mean_length"));
  }
  EXPECT_EQ(evaluations, 2);
}

std::string refusal(const Arguments& arguments) {
  try {
    testing::train_grpo_with(arguments);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

void expect_says(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST(PolicyRun, WrongOptionsAreRefusedTogether) {
  const fs::path folder = testing::scratch("policy_refused");
  const auto text = refusal(sampling(folder, "run",
                                     {"--num_generations", "1", "--delta", "2", "--loss_type",
                                      "sapo", "--sync_ref_model", "true"}));
  expect_says(text, "num_generations");
  expect_says(text, "delta");
  expect_says(text, "sync_ref_model");
  EXPECT_FALSE(fs::exists(folder / "run"));
  expect_says(refusal(sampling(folder, "run", {"--num_generations", "3"})), "multiple");
  expect_says(refusal(sampling(folder, "run", {"--reward_funcs", "acuracy"})),
              "did you mean accuracy");
  expect_says(refusal(sampling(folder, "run", {"--reward_weights", "1", "2"})), "reward_weights");
  expect_says(refusal(sampling(folder, "run", {"--per_device_train_batch_size", "64"})),
              "prompts that are drawn at once");
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST(PolicyRun, AMissingColumnIsNamedWithItsLine) {
  const fs::path folder = testing::scratch("policy_column");
  const auto arguments = sampling(folder, "run", {"--reward_funcs", "accuracy"});
  std::ofstream(folder / "prompts.jsonl") << "{\"prompt\": \"1+1=\", \"answer\": \"2\"}\n"
                                          << "{\"prompt\": \"1+2=\"}\n";
  const auto text = refusal(arguments);
  expect_says(text, "prompts.jsonl:2");
  expect_says(text, "`solution` or `answer`");
}

// n characters are cut into 30 pieces in C(n + 30, 30) ways, none of which matches: 5e3 at 3, 5e7 at
// 8, and a search stops after 1e6 steps from one start.
TEST(PolicyRun, ARuleThatCannotJudgeACompletionLeavesItOut) {
  const fs::path folder = testing::scratch("policy_rule_error");
  const Arguments arguments = {
      "--reward_funcs",
      R"json(["digit_share", {"name": "regex", "pattern": "(?s:.*){30}(?!)"}])json", "--max_steps",
      "1"};
  testing::train_grpo_with(
      sampling(folder, "run", with(arguments, {"--reward_failure_limit", "1"})));
  std::ifstream file(folder / "run" / "completions.jsonl");
  int64_t failed = 0;
  for (std::string text; std::getline(file, text);) {
    const Json line = Json::parse(text);
    const auto length = line.at("completion").get<std::string>().size();
    if (length >= 8) {
      ++failed;
      ASSERT_EQ(line.at("failures").size(), 1U) << text;
      expect_says(line.at("failures")[0].get<std::string>(), "regex: matching stopped");
      EXPECT_TRUE(line.at("rewards").at("regex").is_null());
      EXPECT_TRUE(line.at("reward").is_null());
    } else if (length <= 3) {
      EXPECT_FALSE(line.contains("failures")) << text;
      EXPECT_EQ(line.at("rewards").at("regex"), 0.0);
    }
  }
  EXPECT_GT(failed, 0);
  try {
    testing::train_grpo_with(
        sampling(folder, "limited", with(arguments, {"--reward_failure_limit", "0"})));
    FAIL() << "the limit was passed";
  } catch (const Error& error) {
    expect_says(error.what(), "regex: matching stopped");
  }
}

TEST(PolicyRun, ABrokenReplayIsListedLineByLine) {
  const fs::path folder = testing::scratch("policy_broken");
  std::ofstream(folder / "replay.jsonl")
      << "{\"prompt_ids\": [3], \"completion_ids\": [], \"reward\": 1}\n"
      << "{\"prompt_ids\": [3], \"completion_ids\": [4], \"rewards\": {\"a\": \"x\"}}\n"
      << "{\"prompt_ids\": [5], \"completion_ids\": [4], \"reward\": 1}\n";
  const auto text = refusal(testing::grpo_arguments(
      folder / "run", {"--replay_completions", (folder / "replay.jsonl").string()}));
  expect_says(text, "replay.jsonl:1");
  expect_says(text, "replay.jsonl:2");
  expect_says(text, "multiple of num_generations");
}

}  // namespace
}  // namespace rlhf
