// Reward models that are asked in text (`reward_model_reencode`). The judge here is the fixture's
// reward model with its vocabulary in another order, in tokenizer and embedding alike: it says the
// same of every text, and something else of the policy's ids.
#include "rlhf/train/judge_text.h"

#include <gtest/gtest.h>

#include <fstream>

#include "policy_case.h"
#include "renamed_judge.h"
#include "rlhf/train/ppo.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::renamed_id;

std::vector<int32_t> renamed(std::vector<int32_t> ids) {
  for (auto& id : ids) id = renamed_id(id);
  return ids;
}

struct Case {
  Json columns;
  std::string text;
  bool truncated;
  std::string read;  ///< what the judge reads
};

// By the template: <|im_start|>role\ncontent<|im_end|>\n; plain text ends with <eos>.
const std::vector<Case>& cases() {
  static const Json user = {{"role", "user"}, {"content", "2+2"}};
  static const Json begun = {{"role", "assistant"}, {"content", "it is "}};
  static const std::string asked = "<|im_start|>user\n2+2<|im_end|>\n<|im_start|>assistant\n";
  static const std::vector<Case> all = {
      {{{"prompt", "2+2="}, {"answer", "4"}}, "4", false, "2+2=4<eos>"},
      {{{"prompt", "2+2="}}, "4 or", true, "2+2=4 or"},
      {{{"prompt", Json::array({user})}}, "4", false, asked + "4<|im_end|>\n"},
      {{{"prompt", Json::array({user})}}, "4 or", true, asked + "4 or"},
      {{{"prompt", Json::array({user, begun})}}, "4", false, asked + "it is 4<|im_end|>\n"},
      {{{"prompt", Json::array({user, begun})}}, "4 or", true, asked + "it is 4 or"},
      {{{"prompt_ids", {1, 2}}}, "4", false, "2+2=4<eos>"},
  };
  return all;
}

TEST(JudgeText, ReadsARowAsItsTrainerDid) {
  const fs::path folder = testing::scratch("judge_text");
  const JudgeText judge(testing::renamed_judge(folder));
  const auto policy = Tokenizer::load(testing::fixtures() / "model");
  for (const auto& one : cases()) {
    Group group;
    group.prompt = policy.encode("2+2=");  // of the row of ids
    Sample sample;
    sample.text = one.text;
    sample.truncated = one.truncated;
    EXPECT_EQ(judge.ids_of(one.columns, policy, group, sample), renamed(policy.encode(one.read)))
        << one.read;
  }
}

std::vector<Json> completions_of(const fs::path& run) {
  std::vector<Json> lines;
  std::ifstream file(run / "completions.jsonl");
  for (std::string line; std::getline(file, line);) lines.push_back(Json::parse(line));
  return lines;
}

/// A special token in the middle of a completion is in its ids and not in its text.
bool is_plain(const Json& line) {
  auto ids = line.at("completion_ids").get<std::vector<int32_t>>();
  if (line.at("finish_reason") == "stop") {
    if (ids.back() != 1) return false;  // <eos>, which the text form ends with
    ids.pop_back();
  }
  return std::all_of(ids.begin(), ids.end(), [](int32_t id) { return id > 3; });
}

using Train = TrainResult (*)(const Arguments&, const TrainHooks&);

class Reencode : public ::testing::TestWithParam<std::pair<std::string, Train>> {};

TEST_P(Reencode, SaysTheSameAsInIds) {
  const auto& [name, train] = GetParam();
  const fs::path folder = testing::scratch("reencode_" + name);
  const fs::path plain = testing::fixtures() / "preference" / "reward_model";
  const auto run = [&](const std::string& output, const fs::path& judge, const Arguments& more) {
    train(testing::merged(testing::sampling(folder, output, {}),
                          testing::with({"--reward_funcs", "digit_share", "--max_steps", "1",
                                         "--reward_model_name_or_path", judge.string(),
                                         "--reward_weights", "0", "1"},
                                        more)),
          {});
    return completions_of(folder / output);
  };
  const auto ids = run("ids", plain, {});
  const auto text =
      run("text", testing::renamed_judge(folder), {"--reward_model_reencode", "true"});
  ASSERT_EQ(ids.size(), text.size());
  int64_t compared = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(ids[i].at("completion_ids"), text[i].at("completion_ids"));
    const double expected = ids[i].at("reward").get<double>();
    const double got = text[i].at("reward").get<double>();
    if (!is_plain(ids[i])) continue;
    ++compared;
    EXPECT_NEAR(got, expected, 1e-5) << ids[i].at("completion");  // fp32, in a pack of other rows
  }
  EXPECT_GE(compared, 3);
}

TrainResult train_ppo_with(const Arguments& arguments, const TrainHooks& hooks) {
  return train_ppo(read_ppo_config(arguments, nullptr), hooks);
}

INSTANTIATE_TEST_SUITE_P(All, Reencode,
                         ::testing::Values(std::pair("grpo", &testing::train_grpo_with),
                                           std::pair("rloo", &testing::train_rloo_with),
                                           std::pair("ppo", &train_ppo_with)),
                         [](const auto& param) { return param.param.first; });

TEST(JudgeTextRun, AConversationNeedsTheJudgesTemplate) {
  const fs::path folder = testing::scratch("judge_template");
  const fs::path judge = testing::renamed_judge(folder);
  fs::remove(judge / "chat_template.jinja");
  std::ofstream(folder / "chats.jsonl")
      << Json{{"prompt", Json::array({{{"role", "user"}, {"content", "hi"}}})}}.dump() << '\n';
  try {
    testing::train_grpo_with(testing::sampling(
        folder, "run",
        {"--dataset_name", (folder / "chats.jsonl").string(), "--reward_model_name_or_path",
         judge.string(), "--reward_model_reencode", "true", "--per_device_train_batch_size", "4"}));
    FAIL() << "it ran";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("reward_model_reencode"), std::string::npos) << text;
    EXPECT_NE(text.find("chats.jsonl:1"), std::string::npos) << text;
  }
  EXPECT_FALSE(fs::exists(folder / "run"));
}

TEST(JudgeTextRun, TheKeyWithoutARewardModelIsRefused) {
  const fs::path folder = testing::scratch("judge_none");
  EXPECT_THROW(testing::train_grpo_with(
                   testing::sampling(folder, "run", {"--reward_model_reencode", "true"})),
               UserError);
}

}  // namespace
}  // namespace rlhf
