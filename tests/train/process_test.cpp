// Rewards of steps: where steps end, and that they reach the tokens before them.
#include <gtest/gtest.h>

#include "policy_case.h"
#include "rlhf/generate/score.h"
#include "rlhf/text/stop_strings.h"
#include "rlhf/train/step_judge.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::sampling;

const fs::path& step_model() {
  static const fs::path folder = testing::fixtures() / "preference" / "stepwise_model";
  return folder;
}

Steps steps_in(const std::string& text, const std::string& separator, int32_t stop = -1) {
  const auto tokenizer = Tokenizer::load(testing::fixtures() / "model");
  auto ids = tokenizer.encode(text, /*add_special_tokens=*/false);
  if (stop >= 0) ids.push_back(stop);
  return find_steps(tokenizer, ids, separator);
}

using Ends = std::vector<int64_t>;
using Ends32 = std::vector<int32_t>;

TEST(Steps, EndWhereTheSeparatorIsComplete) {
  EXPECT_EQ(steps_in("1+2;3;4", ";").ends, (Ends{3, 5}));
  EXPECT_EQ(steps_in("1;;2;;", ";;").ends, (Ends{2, 5}));
  EXPECT_EQ(steps_in("12", ";").ends, Ends{});
  EXPECT_EQ(steps_in(";", ";").ends, Ends{0});
}

TEST(Steps, ALastOneMayLackItsSeparator) {
  EXPECT_TRUE(steps_in("1;2", ";").open);
  EXPECT_FALSE(steps_in("1;", ";").open);
  // A stop token is no text: nothing follows the last separator. Alone it is all there is.
  EXPECT_FALSE(steps_in("1;", ";", 1).open);
  EXPECT_TRUE(steps_in("", ";", 1).open);
  EXPECT_TRUE(steps_in("12", ";", 1).open);
}

// In vocabularies of the Llama 2 kind a new line is the byte token <0x0A>, whose text a decoder holds
// back until a token follows that is no byte.
TEST(Steps, EndWithAByteToken) {
  const Json tokenizer = Json::parse(R"({
    "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "byte_fallback": true, "unk_token": "a", "fuse_unk": false,
              "vocab": {"a": 0, "b": 1, "<0x0A>": 2}, "merges": []}})");
  const auto made = Tokenizer::from_json(tokenizer, Json::object());
  EXPECT_EQ(find_steps(made, Ends32{0, 2, 1, 2}, "\n").ends, (Ends{1, 3}));
  const std::vector<std::string> stop = {"\n"};
  StopStrings watch(made, stop);
  EXPECT_FALSE(watch.push(0));
  EXPECT_TRUE(watch.push(2));
  EXPECT_EQ(watch.cut_text(), "a");
}

void write_replay(const fs::path& file, const std::vector<Json>& lines) {
  std::ofstream out(file);
  for (const auto& line : lines) out << line.dump() << '\n';
}

Json line(int64_t tokens, Json rewards, Json last_tokens, Json step_rewards) {
  Json made = {{"prompt_ids", {20, 15, 21}},
               {"completion_ids", std::vector<int>(static_cast<size_t>(tokens), 22)},
               {"rewards", std::move(rewards)}};
  if (!last_tokens.is_null())
    made["steps"] = {{"last_tokens", std::move(last_tokens)}, {"rewards", std::move(step_rewards)}};
  return made;
}

double first_loss(const fs::path& folder, const std::vector<Json>& lines, const Arguments& more) {
  write_replay(folder / "replay.jsonl", lines);
  testing::train_grpo_with(testing::merged(
      testing::grpo_arguments(
          folder / "run",
          {"--replay_completions", (folder / "replay.jsonl").string(), "--num_generations", "2",
           "--per_device_train_batch_size", "2", "--max_steps", "1", "--loss_type", "bnpo"}),
      more));
  return testing::metrics_of(folder / "run").front().at("loss").get<double>();
}

// Two completions of three and of two tokens. Steps: rewards 1 and 3 at tokens 0 and 2, and 2 at
// token 1: mean 2, deviation 1, so z = −1, 1 and 0 over 1.0001, A = (−1 + 1, 1, 1) and (0, 0). The
// ratio is 1, so that the loss is −Σ A / 5.
TEST(ProcessSupervision, AddsNormalisedRewardsOfStepsAtOrBehindAToken) {
  const std::vector<Json> lines = {line(3, {{"p", 2.0}}, {0, 2}, {1.0, 3.0}),
                                   line(2, {{"p", 2.0}}, {1}, {2.0})};
  EXPECT_NEAR(first_loss(testing::scratch("process"), lines, {}), -2.0 / 5.0 / 1.0001, 1e-6);
  EXPECT_NEAR(first_loss(testing::scratch("process_weight"), lines, {"--reward_weights", "0.5"}),
              -1.0 / 5.0 / 1.0001, 1e-6);
}

// Outcomes 0 and 1 add ∓½ / (√½ + 1e−4) to every token: −Σ A / 5 gains (3 − 2) · ½ / (√½ + 1e−4) / 5.
TEST(ProcessSupervision, StandsBesideTheRewardOfTheOutcome) {
  const double outcome = 0.5 / (std::sqrt(0.5) + 1e-4);
  const std::vector<Json> lines = {line(3, {{"a", 0.0}, {"p", 2.0}}, {0, 2}, {1.0, 3.0}),
                                   line(2, {{"a", 1.0}, {"p", 2.0}}, {1}, {2.0})};
  EXPECT_NEAR(first_loss(testing::scratch("process_outcome"), lines, {}),
              -2.0 / 5.0 / 1.0001 + outcome / 5.0, 1e-6);
}

Arguments judged_steps(const fs::path& folder, const std::string& run, const Arguments& more) {
  return testing::merged(sampling(folder, run,
                                  {"--process_reward_model_name_or_path", step_model().string(),
                                   "--step_separator", "1"}),
                         more);
}

TEST(ProcessSupervision, AProcessRewardModelJudgesEveryStep) {
  const fs::path folder = testing::scratch("process_model");
  testing::train_grpo_with(judged_steps(folder, "run", {"--max_steps", "3"}));
  std::ifstream lines(folder / "run" / "completions.jsonl");
  const Model judge = load_model(step_model());
  int several = 0;
  for (std::string text; std::getline(lines, text);) {
    const Json row = Json::parse(text);
    const auto ends = row.at("steps").at("last_tokens").get<std::vector<int64_t>>();
    const auto rewards = row.at("steps").at("rewards").get<std::vector<double>>();
    several += ends.size() > 1 ? 1 : 0;
    // What scoring says of the same ids alone, at the same places. The last step here ends with the
    // completion: with the separator, 1, in place of the stop token where it lacks its own.
    auto ids = row.at("prompt_ids").get<std::vector<int32_t>>();
    StepsRow alone{.ids = {}, .ends = ends};
    for (auto& end : alone.ends) end += std::ssize(ids);
    for (const int32_t id : row.at("completion_ids").get<std::vector<int32_t>>()) ids.push_back(id);
    constexpr int32_t kOne = 21;
    if (ids[static_cast<size_t>(alone.ends.back())] != kOne) {
      if (row.at("finish_reason") == "stop") ids.pop_back();
      ids.push_back(kOne);
      alone.ends.back() = std::ssize(ids) - 1;
    }
    alone.ids = ids;
    const auto expected = step_rewards(judge.decoder, std::span(&alone, 1)).front();
    ASSERT_EQ(rewards.size(), expected.size());
    double sum = 0.0;
    for (size_t i = 0; i < rewards.size(); ++i) {
      EXPECT_NEAR(rewards[i], static_cast<double>(expected[i]), 1e-5);
      sum += rewards[i];
    }
    EXPECT_NEAR(row.at("rewards").at("stepwise_model").get<double>(),
                sum / static_cast<double>(rewards.size()), 1e-12);
  }
  EXPECT_GT(several, 0);
  EXPECT_TRUE(testing::metrics_of(folder / "run").front().contains("rewards/stepwise_model/mean"));
}

TEST(ProcessSupervision, ItsCompletionsReplayToTheSameRun) {
  const fs::path folder = testing::scratch("process_replay");
  testing::train_grpo_with(judged_steps(folder, "sampled", {}));
  testing::train_grpo_with(testing::grpo_arguments(
      folder / "replayed",
      {"--replay_completions", (folder / "sampled" / "completions.jsonl").string(), "--max_steps",
       "6"}));
  testing::expect_same_bits(folder / "sampled", folder / "replayed");
}

std::string refusal(const Arguments& arguments) {
  try {
    testing::train_grpo_with(arguments);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

TEST(ProcessSupervision, WhatIsNoJudgeOfStepsIsRefused) {
  const fs::path folder = testing::scratch("process_refused");
  const std::string model = (testing::fixtures() / "model").string();
  const std::string text =
      refusal(sampling(folder, "run", {"--process_reward_model_name_or_path", model}));
  EXPECT_NE(text.find("process reward model"), std::string::npos) << text;
  EXPECT_NE(refusal(sampling(folder, "run", {"--step_separator", ";"})).find("step_separator"),
            std::string::npos);
  for (const Json& steps : {Json{{"last_tokens", {1, 0}}, {"rewards", {1, 2}}},
                            Json{{"last_tokens", {3}}, {"rewards", {1}}},
                            Json{{"last_tokens", {0}}, {"rewards", {"x"}}}, Json(3)}) {
    Json bad = line(3, {{"p", 2.0}}, nullptr, nullptr);
    bad["steps"] = steps;
    write_replay(folder / "bad.jsonl", {bad, bad});
    const std::string message = refusal(testing::grpo_arguments(
        folder / "run", {"--replay_completions", (folder / "bad.jsonl").string(),
                         "--num_generations", "2", "--per_device_train_batch_size", "2"}));
    EXPECT_NE(message.find("bad.jsonl:1"), std::string::npos) << message;
    EXPECT_NE(message.find("`steps`"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace rlhf
