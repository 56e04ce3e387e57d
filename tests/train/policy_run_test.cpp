// Runs of `rlhf grpo`: resumed in the middle of a generation, cut otherwise, refused.
#include <gtest/gtest.h>

#include <fstream>

#include "policy_case.h"
#include "rlhf/generate/score.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::comparable;
using testing::sampling;
using testing::with;

/// What a reward model says of one completion.
float rewards_of_alone(const Model& model, const std::vector<PackPrompt>& prompts) {
  return rewards(model.decoder, prompts).front();
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
  EXPECT_EQ(comparable(folder / "straight"), comparable(folder / "halves"));
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

// Ctrl-C while completions are drawn: what was drawn for the step is as if it never had been.
TEST(PolicyRun, AStopWithinADrawLeavesTheLastWholeStep) {
  const fs::path folder = testing::scratch("policy_stop_in_draw");
  const auto run = [&](const std::string& name, const Arguments& more, const TrainHooks& hooks) {
    // Two rollouts a step, so that one is whole when the second is broken off.
    return testing::train_grpo_with(
        sampling(folder, name,
                 with({"--gradient_accumulation_steps", "2", "--steps_per_generation", "1",
                       "--save_strategy", "no", "--max_steps", "4"},
                      more)),
        hooks);
  };
  run("straight", {}, {});
  int64_t steps = 0;
  const fs::path log = folder / "halves" / "completions.jsonl";
  uint64_t written =
      0;  // after the second step: more is there once a rollout of the third is whole
  const TrainHooks stop{.on_progress =
                            [&](const Progress& p) {
                              steps = p.step;
                              written = fs::file_size(log);
                            },
                        .should_stop = [&] { return steps == 2 && fs::file_size(log) > written; }};
  const TrainResult stopped = run("halves", {}, stop);
  EXPECT_EQ(stopped.end, TrainEnd::interrupted);
  EXPECT_EQ(stopped.steps, 2);
  EXPECT_EQ(fs::file_size(log), written);
  EXPECT_TRUE(fs::exists(folder / "halves" / "checkpoint-2"));
  EXPECT_EQ(run("halves", {"--resume_from_checkpoint", "true"}, {}).end, TrainEnd::done);
  testing::expect_same_bits(folder / "straight", folder / "halves");
  EXPECT_EQ(comparable(folder / "straight"), comparable(folder / "halves"));
  EXPECT_EQ(read_file(folder / "straight" / "completions.jsonl"),
            read_file(folder / "halves" / "completions.jsonl"));
}

TEST(PolicyRun, AStopWithinTheFirstDrawLeavesNoCheckpoint) {
  const fs::path folder = testing::scratch("policy_stop_first");
  const TrainHooks stop{.should_stop = [] { return true; }};
  const TrainResult stopped = testing::train_grpo_with(sampling(folder, "run", {}), stop);
  EXPECT_EQ(stopped.end, TrainEnd::interrupted);
  EXPECT_EQ(stopped.steps, 0);
  EXPECT_FALSE(fs::exists(folder / "run" / "checkpoint-0"));
  EXPECT_EQ(
      testing::train_grpo_with(sampling(folder, "run", {"--resume_from_checkpoint", "true"}), {})
          .end,
      TrainEnd::done);
}

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

std::vector<Json> completions_of(const fs::path& run) {
  std::vector<Json> lines;
  std::ifstream in(run / "completions.jsonl");
  for (std::string text; std::getline(in, text);) lines.push_back(Json::parse(text));
  return lines;
}

TEST(PolicyRun, DynamicSamplingKeepsGroupsThatDiffer) {
  const fs::path folder = testing::scratch("policy_dynamic");
  testing::train_grpo_with(sampling(folder, "run",
                                    {"--dynamic_sampling", "true", "--num_generations", "2",
                                     "--max_completion_length", "4", "--max_steps", "4"}));
  double dropped = 0.0;
  for (const Json& line : testing::metrics_of(folder / "run"))
    dropped += line.at("sampling/dropped_groups").get<double>();
  EXPECT_GT(dropped, 0.0);
  const auto lines = completions_of(folder / "run");
  ASSERT_EQ(lines.size(), 32U);
  for (size_t i = 0; i < lines.size(); i += 2)
    EXPECT_NE(lines[i].at("reward"), lines[i + 1].at("reward")) << i;
}

// Groups of two that were paid the same have advantages of 0, and no backward pass; with a KL term
// each has one.
TEST(PolicyRun, SaysWhatHadNoBackwardPass) {
  const fs::path folder = testing::scratch("policy_forward_only");
  const Arguments options = {"--num_generations", "2", "--max_completion_length", "4",
                             "--max_steps",       "4"};
  testing::train_grpo_with(sampling(folder, "run", options));
  const auto steps = testing::metrics_of(folder / "run");
  const auto lines = completions_of(folder / "run");
  ASSERT_EQ(lines.size(), 8 * steps.size());
  double alike = 0.0;
  for (size_t step = 0; step < steps.size(); ++step) {
    double own = 0.0;
    for (size_t i = 8 * step; i < 8 * (step + 1); i += 2)
      own += lines[i].at("reward") == lines[i + 1].at("reward") ? 0.25 : 0.0;
    EXPECT_EQ(steps[step].at("frac_forward_only").get<double>(), own) << step;
    alike += own;
  }
  EXPECT_GT(alike, 0.0);
  testing::train_grpo_with(sampling(folder, "kl", with(options, {"--beta", "0.1"})));
  for (const Json& line : testing::metrics_of(folder / "kl"))
    EXPECT_EQ(line.at("frac_forward_only").get<double>(), 0.0);
}

TEST(PolicyRun, ARewardModelJudgesBesideARule) {
  const fs::path folder = testing::scratch("policy_reward_model");
  const fs::path judge = testing::fixtures() / "preference" / "reward_model";
  testing::train_grpo_with(sampling(folder, "run",
                                    {"--reward_model_name_or_path", judge.string(),
                                     "--reward_weights", "2", "0.5", "--max_steps", "2"}));
  const Model model = load_model(judge);
  for (const Json& line : completions_of(folder / "run")) {
    const auto prompt = line.at("prompt_ids").get<std::vector<int32_t>>();
    const auto ids = line.at("completion_ids").get<std::vector<int32_t>>();
    const std::vector<PackPrompt> alone = {{.ids = prompt, .answers = {{.ids = ids, .row = 0}}}};
    const Json& rewards = line.at("rewards");
    EXPECT_NEAR(rewards.at("reward_model").get<double>(),
                static_cast<double>(rewards_of_alone(model, alone)), 1e-5);
    EXPECT_NEAR(line.at("reward").get<double>(),
                2.0 * rewards.at("digit_share").get<double>() +
                    0.5 * rewards.at("reward_model").get<double>(),
                1e-9);
  }
}

// What a run wrote replays to that run: also where a judge failed, and where a text ended it.
TEST(PolicyRun, FailuresAndStopTextsReplay) {
  const fs::path folder = testing::scratch("policy_failures");
  const auto line = [](double reward, const char* reason, bool failed) {
    Json made = {{"prompt_ids", {20, 15, 21}},
                 {"completion_ids", {22, 23}},
                 {"rewards", {{"a", reward}}},
                 {"finish_reason", reason}};
    if (failed) made["failures"] = {"b: nan"};
    return made.dump() + "\n";
  };
  write_file(folder / "replay.jsonl", line(1, "stop", false) + line(3, "stop", false) +
                                          line(7, "length", false) + line(9, "stop", true));
  testing::train_grpo_with(testing::grpo_arguments(
      folder / "run", {"--replay_completions", (folder / "replay.jsonl").string(),
                       "--per_device_train_batch_size", "4", "--max_steps", "1"}));
  const Json metrics = testing::metrics_of(folder / "run").front();
  EXPECT_DOUBLE_EQ(metrics.at("reward").get<double>(), 11.0 / 3.0);
  EXPECT_DOUBLE_EQ(metrics.at("completions/clipped_ratio").get<double>(), 0.25);
  EXPECT_DOUBLE_EQ(metrics.at("rewards/failed_ratio").get<double>(), 0.25);
}

TEST(PolicyRun, WhatCannotRunIsRefusedBeforeAnythingIsWritten) {
  const fs::path folder = testing::scratch("policy_early");
  expect_says(refusal(sampling(folder, "run", {"--top_p", "0"})), "top_p");
  expect_says(refusal(sampling(folder, "run", {"--top_entropy_quantile", "0"})),
              "top_entropy_quantile");
  expect_says(refusal(sampling(folder, "run", {"--rollout_cache_gib", "1e-6"})),
              "rollout_cache_gib");
  expect_says(
      refusal(testing::replay_arguments(folder / "run", {"--reward_weights", "1", "2", "3"})),
      "reward_weights");
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST(PolicyRun, EvaluationsMayHaveGroupsOfOne) {
  const fs::path folder = testing::scratch("policy_eval_one");
  for (const Arguments& options : {Arguments{"--advantage_estimator", "grpo_passk"},
                                   Arguments{"--multi_objective_aggregation", "normalize_then_sum"},
                                   Arguments{"--lr_scheduler_type", "reduce_lr_on_plateau"}}) {
    const auto result = testing::train_grpo_with(
        sampling(folder, options.back(),
                 with(options, {"--eval_strategy", "steps", "--eval_steps", "2",
                                "--test_split_size", "4", "--num_generations_eval", "1"})));
    EXPECT_EQ(result.end, TrainEnd::done);
    EXPECT_TRUE(result.metrics.contains("eval_reward"));
  }
}

// Stops a run behind `step` steps and goes on with `more`.
TrainEnd resumed(const fs::path& folder, const Arguments& first, const Arguments& more) {
  int64_t steps = 0;
  const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                        .should_stop = [&] { return steps == 2; }};
  testing::train_grpo_with(sampling(folder, "run", first), stop);
  return testing::train_grpo_with(
             sampling(folder, "run", with(more, {"--resume_from_checkpoint", "true"})))
      .end;
}

TEST(PolicyRun, OtherBatchesAreRefusedWhenItGoesOn) {
  const Arguments first = {"--num_iterations", "2", "--gradient_accumulation_steps", "2"};
  const fs::path folder = testing::scratch("policy_geometry");
  try {
    resumed(folder, first, {"--num_iterations", "2", "--gradient_accumulation_steps", "1"});
    FAIL() << "it went on";
  } catch (const UserError& error) {
    expect_says(error.what(), "gradient_accumulation_steps");
  }
  // The run's own options still stand there.
  expect_says(read_file(folder / "run" / "config.yaml"), "gradient_accumulation_steps: 2");
}

TEST(PolicyRun, GenerationConfigOutlivesTheCheckpointItCameFrom) {
  const fs::path folder = testing::scratch("policy_generation_config");
  const Arguments options = {"--save_strategy",    "steps", "--save_steps", "1",
                             "--save_total_limit", "1"};
  EXPECT_EQ(resumed(folder, options, options), TrainEnd::done);
  const std::string expected = read_file(testing::fixtures() / "model" / "generation_config.json");
  EXPECT_EQ(read_file(folder / "run" / "generation_config.json"), expected);
  EXPECT_EQ(read_file(folder / "run" / "checkpoint-6" / "generation_config.json"), expected);
}

TEST(PolicyRun, TheRunFolderSaysWhichTypeWasChosen) {
  const fs::path folder = testing::scratch("policy_dtype");
  testing::train_grpo_with(sampling(folder, "run", {"--dtype", "auto", "--max_steps", "1"}));
  EXPECT_EQ(read_file(folder / "run" / "config.yaml").find("dtype: auto"), std::string::npos);
}

}  // namespace
}  // namespace rlhf
