// `rlhf grpo` paid by reward workers: share/reward_worker.py around functions of
// tests/rewards/workers/functions.py.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "policy_case.h"

namespace rlhf {
namespace {

using testing::Arguments;

/// Rows {"prompt": "i+2i=", "answer": "3i"}, each drawn once in the six steps of a run.
fs::path prompts_in(const fs::path& folder, bool chat) {
  std::ofstream out(folder / "prompts.jsonl");
  for (int i = 0; i < 12; ++i) {
    const std::string text = fmt::format("{}+{}=", i, 2 * i);
    const Json prompt = chat ? Json::array({{{"role", "user"}, {"content", text}}}) : Json(text);
    out << Json{{"prompt", prompt}, {"answer", std::to_string(3 * i)}}.dump() << '\n';
  }
  return folder / "prompts.jsonl";
}

Arguments run_in(const fs::path& folder, const std::string& name, const Arguments& more,
                 bool chat = false) {
  return testing::merged(
      testing::grpo_arguments(
          folder / name, {"--dataset_name", prompts_in(folder, chat).string(), "--max_steps", "6"}),
      more);
}

/// An entry of reward_funcs with this name that serves the function.
std::string entry(const std::string& name, const std::string& function) {
  const fs::path root = fs::path(RLHF_FIXTURES) / ".." / "..";
  const Json map = {
      {"name", name},
      {"command",
       fmt::format("exec python3 '{}' '{}:{}'", (root / "share/reward_worker.py").string(),
                   (root / "tests/rewards/workers/functions.py").string(), function)}};
  return map.dump();
}

std::vector<Json> completions_of(const fs::path& run) {
  std::vector<Json> lines;
  std::ifstream in(run / "completions.jsonl");
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

double share_of_digits(const std::string& text) {
  double digits = 0.0;
  for (const char c : text) digits += c >= '0' && c <= '9' ? 1.0 : 0.0;
  return text.empty() ? 0.0 : digits / static_cast<double>(text.size());
}

TEST(PolicyWorkers, PayAsTheRuleDoes) {
  const fs::path folder = testing::scratch("policy_workers");
  testing::train_grpo_with(run_in(folder, "rule", {"--reward_funcs", "digit_share"}));
  testing::train_grpo_with(
      run_in(folder, "worker", {"--reward_funcs", entry("mine", "digit_share")}));
  testing::expect_same_bits(folder / "rule", folder / "worker");
  const auto lines = completions_of(folder / "worker");
  ASSERT_EQ(lines.size(), 48U);  // 6 steps of 8
  double paid = 0.0;
  for (const Json& line : lines) {
    const double expected = share_of_digits(line.at("completion").get<std::string>());
    EXPECT_EQ(line.at("rewards").at("mine").get<double>(), expected);
    EXPECT_EQ(line.at("reward").get<double>(), expected);
    EXPECT_FALSE(line.contains("failures"));
    paid += expected;
  }
  EXPECT_GT(paid, 0.0);
}

// The order is that of reward_funcs, for names as for weights.
TEST(PolicyWorkers, StandWhereTheyAreNamed) {
  const fs::path folder = testing::scratch("policy_workers_order");
  testing::train_grpo_with(
      run_in(folder, "run",
             {"--reward_funcs", entry("step", "step"), "digit_share", entry("mine", "digit_share"),
              "--reward_weights", "100", "10", "1", "--eval_strategy", "steps", "--eval_steps", "3",
              "--test_split_size", "4", "--num_generations_eval", "2"}));
  for (const Json& line : completions_of(folder / "run")) {
    const auto& rewards = line.at("rewards");
    std::vector<std::string> names;
    for (const auto& [name, value] : rewards.items()) names.push_back(name);
    EXPECT_EQ(names, (std::vector<std::string>{"step", "digit_share", "mine"}));
    const double share = share_of_digits(line.at("completion").get<std::string>());
    const double done = line.at("weight_version").get<double>();
    EXPECT_EQ(rewards.at("step").get<double>(), done);
    EXPECT_EQ(rewards.at("mine").get<double>(), share);
    // Three rounded products of numbers below 600.
    EXPECT_NEAR(line.at("reward").get<double>(), 100 * done + 11 * share, 1e-9);
  }
  int evaluations = 0;
  for (const Json& line : testing::metrics_of(folder / "run")) {
    if (!line.contains("eval_rewards/mine/mean")) continue;
    ++evaluations;
    EXPECT_EQ(line.at("eval_rewards/mine/mean"), line.at("eval_rewards/digit_share/mean"));
  }
  EXPECT_EQ(evaluations, 2);
}

TEST(PolicyWorkers, FailuresCostTheirCompletions) {
  const fs::path folder = testing::scratch("policy_workers_failures");
  testing::train_grpo_with(
      run_in(folder, "run",
             {"--reward_funcs", entry("mine", "hangs_or_fails"), "--reward_timeout", "3",
              "--reward_workers", "4", "--reward_failure_limit", "1"}));
  double errors = 0.0;
  double timeouts = 0.0;
  double shares = 0.0;
  for (const Json& line : testing::metrics_of(folder / "run")) {
    if (!line.contains("rewards/mine/errors")) continue;
    errors += line.at("rewards/mine/errors").get<double>();
    timeouts += line.at("rewards/mine/timeouts").get<double>();
    shares += line.at("rewards/failed_ratio").get<double>();
  }
  // Two of twelve prompts, with four completions each, of eight in a step.
  EXPECT_EQ(errors, 4.0);
  EXPECT_EQ(timeouts, 4.0);
  EXPECT_EQ(shares, 1.0);
  int failed = 0;
  for (const Json& line : completions_of(folder / "run")) {
    const auto prompt = line.at("prompt").get<std::string>();
    Json expected;
    if (prompt == "1+2=") expected = {"mine: timed out after 3 s"};
    if (prompt == "2+4=") expected = {"mine: ValueError: six"};
    EXPECT_EQ(line.value("failures", Json()), expected) << line;
    EXPECT_EQ(line.at("rewards").at("mine").is_null(), !expected.is_null());
    EXPECT_EQ(line.at("reward").is_null(), !expected.is_null());
    failed += expected.is_null() ? 0 : 1;
  }
  EXPECT_EQ(failed, 8);
}

// Of the two held-out prompts one fails, with both of its completions.
TEST(PolicyWorkers, EvaluationsCountFailures) {
  const fs::path folder = testing::scratch("policy_workers_eval_failures");
  auto arguments =
      run_in(folder, "run",
             {"--reward_funcs", entry("mine", "hangs_or_fails"), "--max_steps", "2",
              "--eval_strategy", "steps", "--eval_steps", "2", "--num_generations_eval", "2",
              "--dataset_name", (folder / "rows").string()});
  fs::create_directories(folder / "rows");
  std::ofstream train(folder / "rows" / "train.jsonl");
  for (int i = 3; i < 12; ++i)
    train << Json{{"prompt", fmt::format("{}+{}=", i, 2 * i)}, {"answer", std::to_string(3 * i)}}
                 .dump()
          << '\n';
  std::ofstream(folder / "rows" / "test.jsonl") << R"({"prompt": "2+4=", "answer": "6"}
{"prompt": "3+6=", "answer": "9"}
)";
  train.close();
  testing::train_grpo_with(arguments);
  int evaluations = 0;
  for (const Json& line : testing::metrics_of(folder / "run")) {
    EXPECT_FALSE(line.contains("rewards/failed_ratio"));
    if (!line.contains("eval_reward")) continue;
    ++evaluations;
    EXPECT_EQ(line.at("eval_rewards/failed_ratio"), 0.5);
    EXPECT_EQ(line.at("eval_rewards/mine/errors"), 2.0);
    EXPECT_EQ(line.at("eval_rewards/mine/timeouts"), 0.0);
  }
  EXPECT_EQ(evaluations, 1);
}

// Else Ctrl-C would wait for reward_timeout.
TEST(PolicyWorkers, AStopIsHeardWhileAWorkerIsWaitedFor) {
  const fs::path folder = testing::scratch("policy_stop_waiting");
  const Json silent = {{"name", "silent"},
                       {"command", R"(echo '{"ready": true}'; exec sleep 1000)"}};
  const auto begin = std::chrono::steady_clock::now();
  const TrainHooks stop{.should_stop = [&] {
    return std::chrono::steady_clock::now() - begin > std::chrono::seconds(3);
  }};
  const TrainResult stopped = testing::train_grpo_with(
      run_in(folder, "run", {"--reward_funcs", silent.dump(), "--reward_timeout", "500"}), stop);
  EXPECT_EQ(stopped.end, TrainEnd::interrupted);
  EXPECT_EQ(stopped.steps, 0);
}

TEST(PolicyWorkers, ConversationsAreAskedInMessages) {
  const fs::path folder = testing::scratch("policy_workers_chat");
  testing::train_grpo_with(run_in(folder, "run",
                                  {"--reward_funcs", entry("mine", "chats"), "--max_steps", "2"},
                                  /*chat=*/true));
  for (const Json& line : completions_of(folder / "run")) {
    ASSERT_FALSE(line.contains("failures")) << line;
    EXPECT_EQ(line.at("rewards").at("mine").get<double>(),
              share_of_digits(line.at("completion").get<std::string>()));
  }
}

TEST(PolicyWorkers, ACommandThatDoesNotStartIsNamedWithTheRest) {
  const fs::path folder = testing::scratch("policy_workers_refused");
  try {
    testing::train_grpo_with(
        run_in(folder, "run",
               {"--reward_funcs", entry("mine", "absent"), "acuracy",
                R"({"name": "other", "command": "exit 3"})", "--reward_weights", "1", "2"}));
    FAIL();
  } catch (const UserError& error) {
    const std::string text = error.what();
    for (const char* part : {"has no attribute 'absent'", "did you mean accuracy", "exit code 3",
                             "one weight for each of 3 rewards"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
  EXPECT_FALSE(fs::exists(folder / "run"));
}

}  // namespace
}  // namespace rlhf
