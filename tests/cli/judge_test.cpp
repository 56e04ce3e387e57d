// rlhf score and rlhf eval on preference and stepwise rows, from outside: against transformers
// (tools/make_judgements.py).
#include <gtest/gtest.h>

#include <cmath>

#include "program.h"
#include "rlhf/models/folder.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

const std::string kFixtures = RLHF_FIXTURES;
const std::string kPreference = kFixtures + "/train/preference/";
const std::string kPolicy = kFixtures + "/train/model";

const Json& judgements() {
  static const Json all = read_gzip_json(kFixtures + "/models/judgements.json.gz");
  return all;
}

class Judge : public testing::ProgramTest {
 protected:
  std::vector<Json> rows(const std::string& name) {
    const std::string text = read_file(kPreference + name + "/test.jsonl");
    std::vector<Json> out;
    for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
      out.push_back(Json::parse(text.substr(begin, text.find('\n', begin) - begin)));
    }
    return out;
  }
};

std::string reward_model() { return "--model " + kPreference + "reward_model"; }

TEST_F(Judge, ScoresPairsAsTransformers) {
  for (const std::string name : {"pairs", "implicit", "dialogues"}) {
    const auto got =
        run(fmt::format("score {} --data {}{}/test.jsonl", reward_model(), kPreference, name));
    const auto& expected = judgements()["rewards"][name];
    ASSERT_EQ(got.lines.size(), expected.size()) << name;
    for (size_t i = 0; i < expected.size(); ++i) {
      for (const char* member : {"chosen", "rejected"}) {
        EXPECT_NEAR(got.lines[i][member].get<double>(), expected[i][member].get<double>(), 1e-4);
      }
    }
  }
}

TEST_F(Judge, ScoresSingleRowsAsTheirPairs) {
  // The same answers as prompt and completion, as one text, and as messages.
  std::vector<Json> completions;
  std::vector<Json> texts;
  for (const Json& row : rows("pairs")) {
    completions.push_back({{"prompt", row["prompt"]}, {"completion", row["chosen"]}});
    texts.push_back(
        {{"text", row["prompt"].get<std::string>() + row["chosen"].get<std::string>()}});
  }
  std::vector<Json> messages;
  for (const Json& row : rows("dialogues")) messages.push_back({{"messages", row["chosen"]}});
  for (const auto& [name, some, source] : {std::tuple{"completions.jsonl", completions, "pairs"},
                                           std::tuple{"texts.jsonl", texts, "pairs"},
                                           std::tuple{"messages.jsonl", messages, "dialogues"}}) {
    const auto got =
        run(fmt::format("score {} --data {} --max_tokens 40", reward_model(), write(name, some)));
    const auto& expected = judgements()["rewards"][source];
    ASSERT_EQ(got.lines.size(), expected.size()) << name;
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(got.lines[i]["reward"].get<double>(), expected[i]["chosen"].get<double>(), 1e-4)
          << name;
    }
  }
}

TEST_F(Judge, ScoresIdsInEveryForm) {
  const std::vector<Json> forms = {
      {{"input_ids", {5, 6, 7, 8, 9}}},
      {{"prompt_ids", {5, 6}}, {"completion_ids", {7, 8, 9}}},
      {{"prompt_ids", {5, 6}}, {"chosen_ids", {7, 8, 9}}, {"rejected_ids", {7, 10}}},
      {{"chosen_ids", {5, 6, 7, 8, 9}}, {"rejected_ids", {5, 6, 7, 10}}}};
  std::vector<Json> got;
  for (const Json& form : forms) {
    const auto outcome =
        run(fmt::format("score {} --data {}", reward_model(), write("ids.jsonl", {form})));
    ASSERT_EQ(outcome.lines.size(), 1U);
    got.push_back(outcome.lines.front());
  }
  const double reward = got[0]["reward"].get<double>();
  // A prompt shared by two answers is merged from two parts: rounding.
  EXPECT_EQ(got[1]["reward"].get<double>(), reward);
  EXPECT_NEAR(got[2]["chosen"].get<double>(), reward, 1e-5);
  EXPECT_NEAR(got[3]["chosen"].get<double>(), reward, 1e-5);
  EXPECT_NEAR(got[3]["rejected"].get<double>(), got[2]["rejected"].get<double>(), 1e-5);
}

TEST_F(Judge, GivesTheProbabilityOfEveryStep) {
  const auto got = run(
      fmt::format("score --model {0}stepwise_model --data {0}stepwise/test.jsonl", kPreference));
  const auto& expected = judgements()["steps"];
  ASSERT_EQ(got.lines.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto& found = got.lines[i]["step_rewards"];
    ASSERT_EQ(found.size(), expected[i].size());
    for (size_t step = 0; step < found.size(); ++step) {
      EXPECT_NEAR(found[step].get<double>(), expected[i][step].get<double>(), 1e-4);
    }
  }
}

/// Accuracy, mean margin and accuracy of the longer answer, ties half, from recorded scores.
struct Expected {
  double accuracy = 0.0;
  double margin = 0.0;
  double longer = 0.0;
};

Expected expected_of(const Json& scored, double factor, const Json* reference) {
  const auto above = [](double a, double b) { return a == b ? 0.5 : a > b ? 1.0 : 0.0; };
  Expected out;
  const auto count = static_cast<double>(scored.size());
  for (size_t i = 0; i < scored.size(); ++i) {
    const auto score = [&](const char* member) {
      const double base = reference != nullptr ? (*reference)[i][member].get<double>() : 0.0;
      return factor * (scored[i][member].get<double>() - base);
    };
    out.accuracy += above(score("chosen"), score("rejected")) / count;
    out.margin += (score("chosen") - score("rejected")) / count;
    if (!scored[i].contains("chosen_tokens")) continue;
    out.longer += above(scored[i]["chosen_tokens"].get<double>(),
                        scored[i]["rejected_tokens"].get<double>()) /
                  count;
  }
  return out;
}

TEST_F(Judge, EvaluatesARewardModelBesideLength) {
  const auto got = run(fmt::format("eval {} --data {}pairs/test.jsonl --reward preference",
                                   reward_model(), kPreference));
  ASSERT_EQ(got.lines.size(), 1U);
  const Json& line = got.lines.front();
  const auto expected = expected_of(judgements()["rewards"]["pairs"], 1.0, nullptr);
  EXPECT_EQ(line["judge"], "reward model");
  EXPECT_EQ(line["pairs"], 8);
  EXPECT_NEAR(line["accuracy"]["value"].get<double>(), expected.accuracy, 1e-12);
  EXPECT_NEAR(line["margin"]["value"].get<double>(), expected.margin, 1e-4);
  // Lengths of the answers are the same for policies: one character, one token.
  const auto lengths = expected_of(judgements()["logprobs"]["model"], 1.0, nullptr);
  EXPECT_NEAR(line["length_baseline"]["value"].get<double>(), lengths.longer, 1e-12);
}

TEST_F(Judge, EvaluatesAPolicysImplicitReward) {
  const fs::path reference = temporary_.path() / "reference";
  fs::create_directories(reference);
  auto model = load_model(kPolicy, {.dtype = {}, .trainable = true});
  for (const auto& [name, tensor] : model.decoder.tensors()) at::Tensor(tensor).mul_(0.9);
  save_model(model, reference);

  const auto& logprobs = judgements()["logprobs"];
  const auto common =
      fmt::format("eval --model {} --data {}pairs/test.jsonl --reward preference --beta 0.5",
                  kPolicy, kPreference);
  for (const bool referenced : {false, true}) {
    const auto got = run(referenced ? common + " --ref_model " + reference.string() : common);
    ASSERT_EQ(got.lines.size(), 1U);
    const Json& line = got.lines.front();
    const auto expected =
        expected_of(logprobs["model"], 0.5, referenced ? &logprobs["reference"] : nullptr);
    EXPECT_EQ(line["judge"], referenced ? "implicit reward" : "log-probability");
    EXPECT_NEAR(line["accuracy"]["value"].get<double>(), expected.accuracy, 1e-12);
    // Means of sums of up to 40 terms that are good to 1e-5 each.
    EXPECT_NEAR(line["margin"]["value"].get<double>(), expected.margin, 2e-4);
    EXPECT_NEAR(line["length_baseline"]["value"].get<double>(), expected.longer, 1e-12);
  }
}

/// The estimates are means of what rlhf score, which other tests hold to transformers, says of the
/// same samples.
class MeasuredByOthers : public Judge {
 protected:
  void expect_measures_by(const fs::path& reference) {
    const std::vector<Json> prompts = {{{"prompt_ids", {5, 6, 7}}, {"answer", "1"}},
                                       {{"prompt_ids", {9, 8}}, {"answer", "2"}}};
    const fs::path samples = temporary_.path() / "samples.jsonl";
    const auto got = run(fmt::format(
        "eval --model {} --data {} --reward exact_match --num_generations 3 --temperature 0.7 "
        "--max_new_tokens 5 --completions {} --ref_model {} --reward_model {}reward_model",
        kPolicy, write("prompts.jsonl", prompts), samples.string(), reference.string(),
        kPreference));
    ASSERT_EQ(got.lines.size(), 1U);

    std::vector<Json> rows;
    std::vector<double> own;
    for (const Json& line : testing::parse_lines(read_file(samples))) {
      for (const Json& sample : line["completions"]) {
        rows.push_back({{"prompt_ids", line["prompt_ids"]}, {"completion_ids", sample["ids"]}});
        double sum = 0.0;
        for (const Json& one : sample["logprobs"]) sum += one.get<double>();
        own.push_back(sum);
      }
    }
    ASSERT_EQ(rows.size(), 6U);
    const std::string data = write("rows.jsonl", rows);
    const auto theirs =
        run(fmt::format("score --model {} --data {} --temperature 0.7", reference.string(), data));
    const auto scores = run(fmt::format("score {} --data {}", reward_model(), data));
    ASSERT_EQ(theirs.lines.size(), 6U);
    ASSERT_EQ(scores.lines.size(), 6U);
    double kl = 0.0;
    double reward = 0.0;
    for (size_t i = 0; i < 6; ++i) {
      kl += (own[i] - theirs.lines[i]["sum"].get<double>()) / 6.0;
      reward += scores.lines[i]["reward"].get<double>() / 6.0;
    }
    EXPECT_GT(std::abs(kl), 0.01);
    EXPECT_NEAR(got.lines[0]["kl"]["value"].get<double>(), kl, 1e-4);
    EXPECT_NEAR(got.lines[0]["reward_model"]["value"].get<double>(), reward, 1e-4);
  }
};

TEST_F(MeasuredByOthers, AModel) {
  const fs::path reference = temporary_.path() / "reference";
  fs::create_directories(reference);
  auto model = load_model(kPolicy, {.dtype = {}, .trainable = true});
  for (const auto& [name, tensor] : model.decoder.tensors()) at::Tensor(tensor).mul_(0.9);
  save_model(model, reference);
  expect_measures_by(reference);
}

TEST_F(MeasuredByOthers, AnAdapter) {
  const fs::path adapter = temporary_.path() / "adapter";
  fs::copy(kPreference + "adapter_lora", adapter);
  Json lora = Json::parse(read_file(adapter / "adapter_config.json"));
  lora["base_model_name_or_path"] = kPolicy;
  write_file(adapter / "adapter_config.json", lora.dump());
  expect_measures_by(adapter);
}

TEST_F(Judge, RefusesTheWrongFolderAndUnusedKeys) {
  const std::string pairs = " --data " + kPreference + "pairs/test.jsonl";
  const std::string steps = " --data " + kPreference + "stepwise/test.jsonl";
  const fs::path headless = temporary_.path() / "headless";
  fs::copy(kPolicy, headless);
  fs::remove(headless / "config.json");
  fs::copy_file(kPreference + "reward_model/config.json", headless / "config.json");
  expect_refusal("score --model " + headless.string() + pairs, "[score.weight]");
  expect_refusal("score " + reward_model() + steps, "columns `chosen` and `rejected`");
  expect_refusal("score --model " + kPreference + "stepwise_model" + pairs,
                 "columns `prompt`, `completions` and `labels`");
  expect_refusal("score " + reward_model() + pairs + " --temperature 0.5",
                 "a reward model does not use it");
  expect_refusal("score --model " + kPolicy + pairs + " --step_separator x",
                 "a language model does not use it");
  expect_refusal("generate " + reward_model() + pairs, "a language model was expected");
  expect_refusal("eval " + reward_model() + pairs, "--reward preference");
  expect_refusal("eval " + reward_model() + pairs + " --reward preference --top_k 3 --beta 1",
                 "[--beta] a reward model that judges pairs does not use it");
  expect_refusal("eval --model " + kPolicy + pairs + " --reward preference --top_k 3",
                 "[--top_k] --reward preference does not use it");
  expect_refusal("eval --model " + kPolicy + pairs + " --reward preference --ref_model " +
                     kPreference + "reward_model",
                 "a language model was expected");
  expect_refusal("eval --model " + kPolicy + pairs + " --reward preference --reward_model x",
                 "[--reward_model] --reward preference does not use it");
  const std::string prompts =
      " --data " + write("prompts.jsonl", {{{"prompt", "a"}, {"answer", "b"}}});
  expect_refusal("eval --model " + kPolicy + prompts + " --temperature 0 --ref_model " + kPolicy,
                 "[--ref_model] a temperature above 0 was expected");
  expect_refusal("eval --model " + kPolicy + prompts + " --reward_model " + kPolicy,
                 "reward model");
  expect_refusal("generate --model " + kPolicy + prompts + " --output " +
                     (temporary_.path() / "prompts.jsonl").string(),
                 "[--output] another file than --data was expected");
  expect_refusal("eval --model " + kPolicy + prompts + " --beta 1",
                 "[--beta] --reward accuracy does not use it");
  expect_refusal("eval --model " + kPreference + "stepwise_model" + pairs + " --reward preference",
                 "a reward model (sequence classification");
}

}  // namespace
}  // namespace rlhf
