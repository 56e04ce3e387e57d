// A run's life: resume, stop, evaluation, best model, what is written, what is refused.
#include <zlib.h>

#include <atomic>

#include "rlhf/core/error.h"
#include "rlhf/models/safetensors.h"
#include "rlhf/train/checkpoint.h"
#include "sft_case.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::comparable;
using testing::with;

struct ResumeCase {
  const char* name;
  Arguments arguments;
  int64_t at;
};

void PrintTo(const ResumeCase& one, std::ostream* out) { *out << one.name; }

class SftResume : public ::testing::TestWithParam<ResumeCase> {};

// N steps == k steps + resume + N−k steps, bit for bit: weights, metrics and their windows. 60
// rows, 8 a step: an epoch is 8 steps, so 8 is its edge and 5 lies in the middle; logging every 3
// steps leaves a window open at both.
TEST_P(SftResume, ContinuesBitForBit) {
  const fs::path folder = testing::scratch(std::string("resume_") + GetParam().name);
  const Arguments shared =
      with({"--max_steps", "14", "--per_device_train_batch_size", "8", "--logging_steps", "3",
            "--save_strategy", "steps", "--save_steps", "1", "--warmup_steps", "3"},
           GetParam().arguments);
  train_sft(testing::config_of(folder / "straight", "pairs", shared), {});
  int64_t steps = 0;
  const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                        .on_log = {},
                        .on_text = {},
                        .should_stop = [&] { return steps == GetParam().at; }};
  EXPECT_EQ(train_sft(testing::config_of(folder / "halves", "pairs", shared), stop).end,
            TrainEnd::interrupted);
  const auto resumed = with(shared, {"--resume_from_checkpoint", "true"});
  EXPECT_EQ(train_sft(testing::config_of(folder / "halves", "pairs", resumed), {}).end,
            TrainEnd::done);
  testing::expect_same_bits(folder / "straight", folder / "halves");
  EXPECT_EQ(comparable(folder / "straight"), comparable(folder / "halves"));
  EXPECT_EQ(read_file(folder / "straight" / "checkpoint-14" / "optimizer.safetensors"),
            read_file(folder / "halves" / "checkpoint-14" / "optimizer.safetensors"));
}

INSTANTIATE_TEST_SUITE_P(
    All, SftResume,
    ::testing::Values(ResumeCase{"middle", {}, 5}, ResumeCase{"epoch_edge", {}, 8},
                      ResumeCase{"first_step", {}, 1},
                      ResumeCase{"sgd", {"--optim", "sgd", "--optim_args", "momentum=0.9"}, 5},
                      ResumeCase{"adafactor", {"--optim", "adafactor"}, 5},
                      ResumeCase{"bf16_masters", {"--dtype", "bfloat16"}, 5},
                      ResumeCase{"saved_narrower", {"--save_dtype", "bfloat16"}, 5},
                      ResumeCase{"neftune", {"--neftune_noise_alpha", "5"}, 5},
                      ResumeCase{"grouped", {"--train_sampling_strategy", "group_by_length"}, 9},
                      ResumeCase{
                          "packed", {"--packing", "true", "--per_device_train_batch_size", "2"}, 5},
                      ResumeCase{"evaluated",
                                 {"--test_split_size", "10", "--eval_strategy", "steps",
                                  "--eval_steps", "2", "--lr_scheduler_type",
                                  "reduce_lr_on_plateau", "--metric_for_best_model", "loss"},
                                 5}),
    [](const auto& param) { return param.param.name; });

// The tiny model with F 128: gate, up and down have 128 · 32 = 4096 numbers, the fewest that AdamW
// in 8 bits keeps as codes.
fs::path wider_model(const fs::path& folder) {
  fs::copy(testing::fixtures() / "model", folder);
  fs::remove(folder / "model.safetensors");
  Json config = Json::parse(read_file(folder / "config.json"));
  config["intermediate_size"] = 128;
  write_file(folder / "config.json", config.dump());
  return folder;
}

TEST(SftRun, CodesOfMomentsContinueBitForBit) {
  for (const char* dtype : {"float32", "bfloat16"}) {
    const fs::path folder = testing::scratch(std::string("resume_8bit_") + dtype);
    const auto shared = Arguments{"--model_name_or_path",
                                  wider_model(folder / "model").string(),
                                  "--from_scratch",
                                  "true",
                                  "--optim",
                                  "adamw_bnb_8bit",
                                  "--dtype",
                                  dtype,
                                  "--max_steps",
                                  "7",
                                  "--save_strategy",
                                  "steps",
                                  "--save_steps",
                                  "1"};
    train_sft(testing::config_of(folder / "straight", "pairs", shared), {});
    int64_t steps = 0;
    const TrainHooks stop{.on_progress = [&](const Progress& p) { steps = p.step; },
                          .on_log = {},
                          .on_text = {},
                          .should_stop = [&] { return steps == 3; }};
    train_sft(testing::config_of(folder / "halves", "pairs", shared), stop);
    const auto resumed = with(shared, {"--resume_from_checkpoint", "true"});
    train_sft(testing::config_of(folder / "halves", "pairs", resumed), {});
    testing::expect_same_bits(folder / "straight", folder / "halves");
    const fs::path state = fs::path("checkpoint-7") / "optimizer.safetensors";
    EXPECT_EQ(read_file(folder / "straight" / state), read_file(folder / "halves" / state));
    EXPECT_EQ(comparable(folder / "straight"), comparable(folder / "halves"));
    const SafetensorsFile stored(folder / "straight" / state);
    int64_t codes = 0;
    for (const auto& tensor : stored.tensors()) codes += tensor.dtype == at::kByte ? 1 : 0;
    EXPECT_EQ(codes, 2 * 2 * 3);  // moments of two layers' gate, up and down

    const auto other = with(resumed, {"--optim", "adamw_torch"});
    EXPECT_THROW(train_sft(testing::config_of(folder / "halves", "pairs", other), {}), UserError);
  }
}

TEST(SftRun, BestModelIsKeptAndEndsOnTop) {
  const fs::path output = testing::scratch("best") / "run";
  // A learning rate far too high makes later steps worse than early ones.
  train_sft(testing::config_of(output, "pairs",
                               {"--max_steps",
                                "8",
                                "--test_split_size",
                                "0.2",
                                "--eval_strategy",
                                "steps",
                                "--eval_steps",
                                "2",
                                "--save_strategy",
                                "steps",
                                "--save_steps",
                                "2",
                                "--save_total_limit",
                                "2",
                                "--learning_rate",
                                "0.3",
                                "--load_best_model_at_end",
                                "true",
                                "--lr_scheduler_type",
                                "constant"}),
            {});
  const Json state = Json::parse(read_file(output / "trainer_state.json"));
  const auto best = state.at("best_global_step").get<int64_t>();
  EXPECT_LT(best, 8);
  double least = 1e9;
  for (const auto& line : testing::metrics_of(output)) {
    if (line.contains("eval_loss")) least = std::min(least, line.at("eval_loss").get<double>());
  }
  EXPECT_DOUBLE_EQ(state.at("best_metric").get<double>(), least);
  testing::expect_same_bits(output, output / fmt::format("checkpoint-{}", best));
  EXPECT_EQ(checkpoints_of(output).size(), 2U);
}

TEST(SftRun, StopsEarly) {
  const fs::path output = testing::scratch("early") / "run";
  const auto result = train_sft(
      testing::config_of(output, "pairs",
                         {"--max_steps", "40", "--test_split_size", "0.2", "--eval_strategy",
                          "steps", "--eval_steps", "1", "--metric_for_best_model", "loss",
                          "--early_stopping_patience", "2", "--learning_rate", "0.3"}),
      {});
  EXPECT_EQ(result.end, TrainEnd::stopped_early);
  EXPECT_LT(result.steps, 40);
}

TEST(SftRun, LeavesTheFolderThatTheContractNames) {
  const fs::path output = testing::scratch("folder") / "run";
  train_sft(testing::config_of(
                output, "pairs",
                {"--max_steps", "2", "--save_strategy", "steps", "--report_to", "tensorboard"}),
            {});
  for (const char* name : {"config.yaml", "metrics.jsonl", "trainer_state.json", "config.json",
                           "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                           "chat_template.jinja", "generation_config.json"}) {
    EXPECT_TRUE(fs::exists(output / name)) << name;
  }
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}) {
    EXPECT_EQ(read_file(output / name), read_file(testing::fixtures() / "model" / name)) << name;
  }
  for (const char* name : {"manifest.json", "rlhf_state.json", "optimizer.safetensors",
                           "model.safetensors", "tokenizer.json"}) {
    EXPECT_TRUE(fs::exists(output / "checkpoint-2" / name)) << name;
  }
  const Arguments from_yaml = {"--config", (output / "config.yaml").string()};
  EXPECT_EQ(resolved_yaml(read_sft_config(from_yaml, nullptr)), read_file(output / "config.yaml"));
}

// Whoever generates from the folder must stop where the rows ended.
TEST(SftRun, TheModelEndsWithTheTokenItWasTrainedToEndWith) {
  const fs::path output = testing::scratch("eos") / "run";
  train_sft(testing::config_of(
                output, "pairs",
                {"--max_steps", "1", "--save_strategy", "steps", "--eos_token", "<|im_end|>"}),
            {});
  for (const fs::path& folder : {output, output / "checkpoint-1"}) {
    const auto ends = [&](const char* name) {
      return Json::parse(read_file(folder / name)).at("eos_token_id");
    };
    EXPECT_EQ(ends("config.json"), 3);
    EXPECT_EQ(ends("generation_config.json"), Json({3, 1}));
  }
}

// Text and tokenizer from the configuration: the same run as with both in the model folder.
TEST(SftRun, TemplateAndTokenizerMayStandOutsideTheModelFolder) {
  const fs::path folder = testing::scratch("outside");
  const fs::path model = testing::fixtures() / "model";
  fs::create_directories(folder / "weights");
  fs::create_directories(folder / "tokenizer");
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy(model / name, folder / "weights" / name);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy(model / name, folder / "tokenizer" / name);
  train_sft(testing::config_of(folder / "run", "chats", {"--max_steps", "2"}), {});
  train_sft(
      testing::config_of(folder / "outside", "chats",
                         {"--max_steps", "2", "--model_name_or_path", (folder / "weights").string(),
                          "--tokenizer_name_or_path", (folder / "tokenizer").string(),
                          "--chat_template", read_file(model / "chat_template.jinja")}),
      {});
  testing::expect_same_bits(folder / "outside", folder / "run");
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
    EXPECT_EQ(read_file(folder / "outside" / name), read_file(model / name)) << name;
}

// A tokenizer that came packed leaves as the plain file that other tools read.
TEST(SftRun, APackedTokenizerIsSavedUnpacked) {
  const fs::path folder = testing::scratch("packed_tokenizer");
  fs::copy(testing::fixtures() / "model", folder / "model");
  const std::string plain = read_file(folder / "model" / "tokenizer.json");
  const std::string zipped = (folder / "model" / "tokenizer.json.gz").string();
  gzFile file = gzopen(zipped.c_str(), "wb");
  ASSERT_EQ(gzwrite(file, plain.data(), static_cast<unsigned>(plain.size())),
            static_cast<int>(plain.size()));
  gzclose(file);
  fs::remove(folder / "model" / "tokenizer.json");
  train_sft(
      testing::config_of(folder / "run", "pairs",
                         {"--model_name_or_path", (folder / "model").string(), "--max_steps", "1"}),
      {});
  EXPECT_EQ(read_file(folder / "run" / "tokenizer.json"), plain);
}

TEST(SftRun, EveryWeightMoves) {
  const fs::path output = testing::scratch("moves") / "run";
  train_sft(testing::config_of(output, "pairs", {"--max_steps", "1"}), {});
  const auto before = testing::weights_of(testing::fixtures() / "model");
  for (const auto& [name, tensor] : testing::weights_of(output))
    EXPECT_FALSE(tensor.equal(before.at(name))) << name;
}

TEST(SftRun, AFolderWithARunIsNotOverwritten) {
  const fs::path output = testing::scratch("overwrite") / "run";
  train_sft(testing::config_of(output, "pairs", {"--max_steps", "1"}), {});
  EXPECT_THROW(train_sft(testing::config_of(output, "pairs", {"--max_steps", "1"}), {}), UserError);
  EXPECT_NO_THROW(train_sft(
      testing::config_of(output, "pairs", {"--max_steps", "1", "--overwrite_output_dir", "true"}),
      {}));
}

TEST(SftRun, AllProblemsAreReportedAtOnceAndNothingIsWritten) {
  const fs::path folder = testing::scratch("problems");
  fs::create_directories(folder / "model");
  write_file(folder / "model" / "config.json", "{\"model_type\": \"bert\"}");
  fs::copy_file(testing::fixtures() / "model" / "tokenizer.json",
                folder / "model" / "tokenizer.json");
  write_file(folder / "data.jsonl", "{\"prompt\": \"a\"}\nnot json\n");
  auto config = testing::config_of(folder / "run", "pairs", {});
  config.model.model_name_or_path = (folder / "model").string();
  config.data.dataset_name = {(folder / "data.jsonl").string()};
  try {
    train_sft(config, {});
    FAIL();
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("bert"), std::string::npos) << text;
    EXPECT_NE(text.find("data.jsonl:"), std::string::npos) << text;
  }
  EXPECT_FALSE(fs::exists(folder / "run"));
}

// config.yaml says what a run was trained with: a resumption that has no step left changes nothing.
TEST(SftRun, AFinishedRunKeepsItsConfiguration) {
  const fs::path folder = testing::scratch("finished");
  const Arguments options = {"--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1"};
  train_sft(testing::config_of(folder / "run", "pairs", options), {});
  const std::string written = read_file(folder / "run" / "config.yaml");
  const auto resumed =
      with(options, {"--resume_from_checkpoint", "true", "--learning_rate", "1e-5"});
  EXPECT_EQ(train_sft(testing::config_of(folder / "run", "pairs", resumed), {}).end,
            TrainEnd::done);
  EXPECT_EQ(read_file(folder / "run" / "config.yaml"), written);
}

}  // namespace
}  // namespace rlhf
