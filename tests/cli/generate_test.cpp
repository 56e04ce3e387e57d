// rlhf generate with judges, from outside: rewards against rules worked by hand, against `rlhf eval`
// and `rlhf score`; rows that the trainers read.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "program.h"

namespace rlhf {
namespace {

const std::string kFixtures = RLHF_FIXTURES;
const std::string kPolicy = kFixtures + "/train/model";
const std::string kRewardModel = kFixtures + "/train/preference/reward_model";

double share_of_digits(const std::string& text) {
  const auto digits =
      std::count_if(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return text.empty() ? 0.0 : static_cast<double>(digits) / static_cast<double>(text.size());
}

/// An entry of reward_funcs served by a function of tests/rewards/workers/functions.py.
std::string worker(const std::string& name, const std::string& function) {
  return fmt::format(
      R"('{{"name": "{0}", "command": "exec python3 {1}/../../share/reward_worker.py {1}/../rewards/workers/functions.py:{2}"}}')",
      name, kFixtures, function);
}

class Generate : public testing::ProgramTest {
 protected:
  /// Twelve rows {"prompt": "i+2i=", "answer": "3i"}.
  std::string sums() {
    std::vector<Json> rows;
    for (int i = 0; i < 12; ++i)
      rows.push_back(
          {{"prompt", fmt::format("{}+{}=", i, 2 * i)}, {"answer", std::to_string(3 * i)}});
    return write("sums.jsonl", rows);
  }
  std::string chats() {
    std::vector<Json> rows;
    for (const char* text : {"ab", "cd", "ef", "gh"}) {
      rows.push_back(
          {{"prompt", Json::array({{{"role", "user"}, {"content", text}}})}, {"level", 2}});
    }
    return write("chats.jsonl", rows);
  }
  std::string command(const std::string& data, const std::string& more) {
    return fmt::format("generate --model {} --data {} --num_generations 4 --max_new_tokens 8 {}",
                       kPolicy, data, more);
  }
  /// A step of training on the rows.
  void expect_trains(const std::string& method, const std::string& data, const std::string& model) {
    const auto out = run(fmt::format("{0} --model_name_or_path {1} --dataset_name {2} --output_dir "
                                     "{3} --max_steps 1 --max_length 64 --save_strategy no",
                                     method, model, data, path(method)),
                         /*messages=*/true);
    EXPECT_EQ(out.code, 0) << method << ": " << out.text;
  }
};

TEST_F(Generate, WeighsWhatRulesSay) {
  const auto got =
      run(command(sums(), "--reward_funcs digit_share accuracy --reward_weights 2 -1"));
  ASSERT_EQ(got.lines.size(), 12U);
  std::vector<double> shares;
  for (const Json& line : got.lines) {
    ASSERT_EQ(line["completions"].size(), 4U);
    for (const Json& one : line["completions"]) {
      const double share = share_of_digits(one["text"].get<std::string>());
      shares.push_back(share);
      const double accuracy = one["rewards"]["accuracy"].get<double>();
      EXPECT_TRUE(accuracy == 0.0 || accuracy == 1.0);
      EXPECT_EQ(one["rewards"].dump(),
                Json({{"digit_share", share}, {"accuracy", accuracy}}).dump());
      EXPECT_NEAR(one["reward"].get<double>(), 2 * share - accuracy, 1e-12);  // one rounding
      EXPECT_FALSE(one.contains("failures"));
    }
  }
  EXPECT_GT(*std::max_element(shares.begin(), shares.end()), 0.0);
}

// The same samples as without judges, and the same verdicts as `rlhf eval`.
TEST_F(Generate, JudgesAsEvaluationsDo) {
  const auto judged = run(command(sums(), "--reward_funcs exact_match accuracy"));
  const auto plain = run(command(sums(), ""));
  for (const std::string rule : {"exact_match", "accuracy"}) {
    const auto code = run(fmt::format("eval --model {} --data {} --num_generations 4 "
                                      "--max_new_tokens 8 --reward {} --completions {}",
                                      kPolicy, sums(), rule, path("eval.jsonl")))
                          .code;
    ASSERT_EQ(code, 0);
    const auto evaluated = testing::parse_lines(read_file(path("eval.jsonl")));
    ASSERT_EQ(evaluated.size(), judged.lines.size());
    for (size_t i = 0; i < evaluated.size(); ++i) {
      for (size_t k = 0; k < 4; ++k) {
        Json one = judged.lines[i]["completions"][k];
        const Json& other = evaluated[i]["completions"][k];
        EXPECT_EQ(one["text"], other["text"]);
        EXPECT_EQ(one["rewards"][rule], other["reward"]);
        one.erase("rewards");
        one.erase("reward");
        EXPECT_EQ(one, plain.lines.at(i)["completions"][k]);
      }
    }
  }
}

TEST_F(Generate, ARewardModelGivesItsScores) {
  const std::vector<Json> prompts = {{{"prompt_ids", {14, 16, 17, 9}}}, {{"prompt_ids", {20, 21}}}};
  const auto got = run(command(write("prompts.jsonl", prompts),
                               "--reward_model_name_or_path " + kRewardModel + " --seed 3"));
  ASSERT_EQ(got.lines.size(), 2U);
  std::vector<Json> rows;
  std::vector<double> rewards;
  for (const Json& line : got.lines) {
    for (const Json& one : line["completions"]) {
      rows.push_back({{"prompt_ids", line["prompt_ids"]}, {"completion_ids", one["ids"]}});
      rewards.push_back(one["reward"].get<double>());
      EXPECT_EQ(one["rewards"].dump(), Json({{"reward_model", one["reward"]}}).dump());
    }
  }
  const auto scored =
      run(fmt::format("score --model {} --data {}", kRewardModel, write("rows.jsonl", rows)));
  ASSERT_EQ(scored.lines.size(), rewards.size());
  for (size_t i = 0; i < rewards.size(); ++i) {
    // A shared prompt is merged with its answers: rounding.
    EXPECT_NEAR(scored.lines[i]["reward"].get<double>(), rewards[i], 1e-5);
  }
  const auto [least, most] = std::minmax_element(rewards.begin(), rewards.end());
  EXPECT_GT(*most, *least + 1e-3);
}

TEST_F(Generate, PairsAreTheBestAndTheWorst) {
  const auto judged = run(command(sums(), "--reward_funcs digit_share"));
  const auto pairs =
      run(command(sums(), "--reward_funcs digit_share --output_format pairs --pairs_per_prompt 2"));
  const auto best = run(command(sums(), "--reward_funcs digit_share --output_format best_of_n"));
  ASSERT_EQ(best.lines.size(), 12U);
  size_t next = 0;
  for (size_t i = 0; i < judged.lines.size(); ++i) {
    std::vector<double> shares;
    for (const Json& one : judged.lines[i]["completions"])
      shares.push_back(share_of_digits(one["text"].get<std::string>()));
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
    EXPECT_EQ(share_of_digits(best.lines[i]["completion"].get<std::string>()), *most);
    EXPECT_EQ(best.lines[i]["reward"].get<double>(), *most);
    EXPECT_EQ(best.lines[i]["answer"], judged.lines[i]["answer"]);
    if (*least == *most) continue;
    ASSERT_LT(next, pairs.lines.size());
    const Json& pair = pairs.lines[next++];
    EXPECT_EQ(pair["prompt"], judged.lines[i]["prompt"]);
    EXPECT_EQ(pair["answer"], judged.lines[i]["answer"]);
    EXPECT_EQ(share_of_digits(pair["chosen"].get<std::string>()), *most);
    EXPECT_EQ(share_of_digits(pair["rejected"].get<std::string>()), *least);
    while (next < pairs.lines.size() && pairs.lines[next]["prompt"] == pair["prompt"]) {
      const Json& second = pairs.lines[next++];
      EXPECT_GT(second["score_chosen"], second["score_rejected"]);
    }
  }
  EXPECT_EQ(next, pairs.lines.size());
  EXPECT_GT(next, 4U);
}

TEST_F(Generate, TrainersReadItsRows) {
  const auto digits = " --reward_funcs digit_share --output_format ";
  for (const auto& data : {sums(), chats()}) {
    ASSERT_EQ(run(command(data, digits + ("pairs --output " + path("pairs.jsonl")))).code, 0);
    expect_trains("dpo", path("pairs.jsonl"), kPolicy);
    expect_trains("reward", path("pairs.jsonl"), kRewardModel);
    ASSERT_EQ(run(command(data, digits + ("best_of_n --output " + path("best.jsonl")))).code, 0);
    expect_trains("sft", path("best.jsonl"), kPolicy);
    for (const char* method : {"dpo", "reward", "sft"}) fs::remove_all(path(method));
  }
}

TEST_F(Generate, WorkersJudgeAndFailByName) {
  const auto got = run(command(sums(), "--reward_funcs " + worker("mine", "digit_share")));
  ASSERT_EQ(got.lines.size(), 12U);
  for (const Json& line : got.lines) {
    for (const Json& one : line["completions"])
      EXPECT_EQ(one["rewards"]["mine"].get<double>(),
                share_of_digits(one["text"].get<std::string>()));
  }
  // The row whose answer is 6 fails: 4 of 44 completions.
  std::vector<Json> rows = testing::parse_lines(read_file(sums()));
  rows.erase(rows.begin() + 1);  // the one that hangs
  const auto arguments =
      command(write("failing.jsonl", rows), "--reward_funcs " + worker("mine", "hangs_or_fails"));
  const auto failing = run(arguments);
  ASSERT_EQ(failing.lines.size(), 11U);
  for (const Json& line : failing.lines) {
    for (const Json& one : line["completions"]) {
      const bool failed = line["answer"] == "6";
      EXPECT_EQ(one["reward"].is_null(), failed);
      EXPECT_EQ(one["rewards"]["mine"].is_null(), failed);
      EXPECT_EQ(one.value("failures", Json()), failed ? Json({"mine: ValueError: six"}) : Json());
    }
  }
  EXPECT_NE(run(arguments, /*messages=*/true)
                .text.find("mine failed on 4 of 44 completions (0 for want of time), such as "
                           "ValueError: six"),
            std::string::npos);
  const auto stopped = run(arguments + " --reward_failure_limit 0.05", /*messages=*/true);
  EXPECT_EQ(stopped.code, 1);
  EXPECT_NE(stopped.text.find("9% of the completions got no reward"), std::string::npos);
}

// Weights that are no numbers end it at the first token.
TEST_F(Generate, AFailureBeforeTheFirstLineLeavesNoFile) {
  const fs::path broken = path("broken");
  fs::copy(kPolicy, broken);
  std::string bytes = read_file(broken / "model.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(sizeof(header) + header), bytes.end(),
            '\xff');
  write_file(broken / "model.safetensors", bytes);
  const std::string out = path("nothing.jsonl");
  const auto got = run(
      fmt::format("generate --model {} --data {} --output {}", broken.string(), sums(), out), true);
  EXPECT_EQ(got.code, 1);
  EXPECT_NE(got.text.find("finite logits were expected"), std::string::npos) << got.text;
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(Generate, SaysWhatGaveNoRow) {
  const auto got = run(command(sums(),
                               "--reward_funcs '{\"name\": \"always\", \"pattern\": \"(?:)\"}' "
                               "--output_format pairs"),
                       /*messages=*/true);
  EXPECT_EQ(got.code, 0);
  EXPECT_NE(got.text.find("0 pairs of 12 prompts; 12 gave none: all rewards are equal"),
            std::string::npos)
      << got.text;
}

TEST_F(Generate, RefusesEverythingAtOnce) {
  const auto got = run(fmt::format("generate --model {} --data {} --output_format pairs "
                                   "--num_generations 1 --reward_funcs acuracy exact_match "
                                   "--reward_weights 1 2 3 --reward_model_name_or_path {}",
                                   kPolicy, chats(), kPolicy),
                       /*messages=*/true);
  EXPECT_EQ(got.code, 2);
  for (const char* part :
       {"at least 2 were expected of --output_format pairs, got 1", "did you mean accuracy",
        "is none", "chats.jsonl:1] a column `solution` or `answer`", "chats.jsonl:4]"}) {
    EXPECT_NE(got.text.find(part), std::string::npos)
        << "expected " << part << "\ngot " << got.text;
  }
  expect_refusal(command(sums(), "--reward_funcs accuracy --reward_weights 1 2"),
                 "one weight for each of 1 rewards was expected, got 2");
  expect_refusal(command(sums(), "--output_format best_of_n --reward_weights 1"),
                 "[--reward_weights] there is no judge to use it");
  expect_refusal(command(sums(), "--output_format best_of_n"),
                 "something that judges completions was expected for best_of_n");
  expect_refusal(command(sums(), "--reward_funcs accuracy --pairs_per_prompt 2"),
                 "--output_format pairs was expected beside it");
  const Json continued = {{"prompt", Json::array({{{"role", "user"}, {"content", "a"}},
                                                  {{"role", "assistant"}, {"content", "b"}}})}};
  expect_refusal(command(write("continued.jsonl", {continued}),
                         "--reward_funcs digit_share --output_format pairs"),
                 "continued.jsonl:1] a prompt that ends with a message to answer");
}

}  // namespace
}  // namespace rlhf
