// A preference run's life: resume, stop, best model, what is written, what is refused.
#include "preference_case.h"
#include "rlhf/core/error.h"
#include "rlhf/train/checkpoint.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::data_of;
using testing::lora;
using testing::lora_with_dropout;
using testing::model_of;
using testing::with;

TrainResult train(const std::string& command, const fs::path& output, const Arguments& more,
                  const TrainHooks& hooks = {}) {
  return testing::train(command, testing::arguments_of(command, output, more), hooks);
}

/// What a run is refused with.
std::string refusal(const std::string& command, const fs::path& output, const Arguments& more) {
  try {
    train(command, output, more);
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "a UserError was expected";
  return "";
}

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << " is not in:\n" << text;
}

Json json_of(const fs::path& file) { return Json::parse(read_file(file)); }

struct ResumeCase {
  const char* name;
  const char* command;
  Arguments arguments;
  int64_t at = 5;
};

void PrintTo(const ResumeCase& one, std::ostream* out) { *out << one.name; }

class PreferenceResume : public ::testing::TestWithParam<ResumeCase> {};

// N steps == k steps + resume + N−k steps, bit for bit: what was trained, metrics and their
// windows, the optimizer's state, a reference that moves. 60 rows, 8 a step: an epoch is 8 steps,
// so 8 is its edge and 5 lies in the middle; logging every 3 steps leaves a window open at both.
TEST_P(PreferenceResume, ContinuesBitForBit) {
  const auto& one = GetParam();
  const fs::path folder = testing::scratch(fmt::format("preference_resume_{}", one.name));
  const Arguments shared = with(
      {"--max_steps", "12", "--per_device_train_batch_size", "8", "--logging_steps", "3",
       "--save_strategy", "steps", "--save_steps", "1", "--warmup_steps", "3", "--threads", "1"},
      one.arguments);
  const fs::path straight = folder / "straight";
  const fs::path halves = folder / "halves";
  train(one.command, straight, shared);
  int64_t steps = 0;
  TrainHooks stop;
  stop.on_progress = [&](const Progress& progress) { steps = progress.step; };
  stop.should_stop = [&] { return steps == one.at; };
  EXPECT_EQ(train(one.command, halves, shared, stop).end, TrainEnd::interrupted);
  EXPECT_FALSE(fs::exists(testing::trained_file(halves)));
  // The second half makes its own table of the reference: from the start model, not from the
  // checkpoint.
  fs::remove_all(folder / "cache");
  EXPECT_EQ(train(one.command, halves, with(shared, {"--resume_from_checkpoint", "true"})).end,
            TrainEnd::done);
  testing::expect_same_trained(straight, halves);
  EXPECT_EQ(testing::comparable(straight), testing::comparable(halves));
  for (const auto& entry : fs::directory_iterator(straight / "checkpoint-12")) {
    if (entry.path().extension() != ".safetensors") continue;
    const fs::path name = entry.path().filename();
    EXPECT_TRUE(read_file(entry.path()) == read_file(halves / "checkpoint-12" / name)) << name;
  }
  const bool whole_model = fs::exists(straight / "config.json");
  ASSERT_EQ(whole_model, fs::exists(halves / "config.json"));
  if (whole_model) {  // of a reward model: its scale, too
    EXPECT_EQ(read_file(straight / "config.json"), read_file(halves / "config.json"));
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, PreferenceResume,
    ::testing::Values(
        ResumeCase{"dpo", "dpo", {}}, ResumeCase{"dpo_epoch_edge", "dpo", {}, 8},
        ResumeCase{"dpo_first_step", "dpo", {}, 1},
        ResumeCase{"dpo_two_threads", "dpo", {"--threads", "2"}},
        ResumeCase{"dpo_live", "dpo", {"--precompute_ref_log_probs", "false"}},
        ResumeCase{"dpo_sync", "dpo", {"--sync_ref_model", "true", "--ref_model_sync_steps", "2"}},
        ResumeCase{"dpo_sync_epoch_edge",
                   "dpo",
                   {"--sync_ref_model", "true", "--ref_model_sync_steps", "2"},
                   8},
        ResumeCase{"dpo_aot", "dpo", {"--loss_type", "aot"}},
        ResumeCase{"dpo_evaluated",
                   "dpo",
                   {"--test_split_size", "10", "--eval_strategy", "steps", "--eval_steps", "2"}},
        ResumeCase{"dpo_lora", "dpo", lora()}, ResumeCase{"dpo_lora_epoch_edge", "dpo", lora(), 8},
        ResumeCase{"dpo_lora_dropout", "dpo", lora_with_dropout()},
        ResumeCase{"dpo_lora_precompute", "dpo", lora({"--precompute_ref_log_probs", "true"})},
        ResumeCase{"dpo_dora", "dpo", lora({"--use_dora", "true"})},
        ResumeCase{"dpo_start_adapter",
                   "dpo",
                   {"--adapter_name_or_path", (testing::preference() / "adapter_lora").string()}},
        ResumeCase{"kto", "kto", {}}, ResumeCase{"kto_epoch_edge", "kto", {}, 8},
        ResumeCase{"kto_lora", "kto", lora()}, ResumeCase{"bco", "kto", {"--loss_type", "bco"}},
        ResumeCase{"bco_epoch_edge", "kto", {"--loss_type", "bco"}, 8},
        ResumeCase{"reward", "reward", {}}, ResumeCase{"reward_epoch_edge", "reward", {}, 8},
        ResumeCase{"reward_lora", "reward", lora()},
        ResumeCase{"reward_of_language_model",
                   "reward",
                   {"--model_name_or_path", model_of("dpo").string()}},
        ResumeCase{"prm", "prm", {}}, ResumeCase{"prm_epoch_edge", "prm", {}, 8},
        ResumeCase{"prm_lora", "prm", lora()}),
    [](const auto& param) { return param.param.name; });

struct FolderCase {
  const char* name;
  const char* command;
  Arguments arguments = {};
};

void PrintTo(const FolderCase& one, std::ostream* out) { *out << one.name; }

class PreferenceFolder : public ::testing::TestWithParam<FolderCase> {};

TEST_P(PreferenceFolder, HoldsWhatTheContractNames) {
  const auto& one = GetParam();
  const fs::path output = testing::scratch(fmt::format("preference_folder_{}", one.name)) / "run";
  train(one.command, output,
        with({"--max_steps", "2", "--save_strategy", "steps", "--report_to", "tensorboard"},
             one.arguments));
  const bool adapted = !one.arguments.empty();
  const std::vector<std::string> of_model = {"model.safetensors", "config.json"};
  const std::vector<std::string> of_adapter = {"adapter_model.safetensors", "adapter_config.json"};
  for (const fs::path& folder : {output, output / "checkpoint-2"}) {
    for (const char* name : {"config.yaml", "trainer_state.json", "tokenizer.json",
                             "tokenizer_config.json", "chat_template.jinja"})
      EXPECT_TRUE(fs::exists(folder / name)) << name;
    for (const auto& name : of_model) EXPECT_EQ(fs::exists(folder / name), !adapted) << name;
    for (const auto& name : of_adapter) EXPECT_EQ(fs::exists(folder / name), adapted) << name;
  }
  EXPECT_EQ(testing::metrics_of(output).size(), 2U);
  for (const char* name : {"manifest.json", "rlhf_state.json", "optimizer.safetensors"})
    EXPECT_TRUE(fs::exists(output / "checkpoint-2" / name)) << name;
  const bool events =
      std::any_of(fs::recursive_directory_iterator(output), fs::recursive_directory_iterator(),
                  [](const auto& entry) {
                    return entry.path().string().find("tfevents") != std::string::npos;
                  });
  EXPECT_TRUE(events);
}

INSTANTIATE_TEST_SUITE_P(All, PreferenceFolder,
                         ::testing::Values(FolderCase{"dpo", "dpo"}, FolderCase{"kto", "kto"},
                                           FolderCase{"reward", "reward"}, FolderCase{"prm", "prm"},
                                           FolderCase{"dpo_lora", "dpo", lora()},
                                           FolderCase{"reward_lora", "reward", lora()}),
                         [](const auto& param) { return param.param.name; });

// From a language model's folder; what other tools must find in config.json.
TEST(PreferenceRun, ARewardModelNamesItsClassItsPadAndItsScale) {
  const fs::path output = testing::scratch("preference_reward_config") / "run";
  train("reward", output, {"--model_name_or_path", model_of("dpo").string(), "--max_steps", "2"});
  const Json config = json_of(output / "config.json");
  EXPECT_EQ(config.at("architectures"), Json({"LlamaForSequenceClassification"}));
  EXPECT_EQ(config.at("num_labels").get<int64_t>(), 1);
  EXPECT_EQ(config.at("pad_token_id").get<int64_t>(), 0);
  EXPECT_EQ(config.at("eos_token_id").get<int64_t>(), 1);
  EXPECT_TRUE(std::isfinite(config.at("reward_mean").get<double>()));
  EXPECT_GT(config.at("reward_std").get<double>(), 0.0);
  EXPECT_EQ(load_model(output).decoder.config().task, ModelTask::sequence_classification);
}

// A tokenizer that pads with its EOS would have other tools read the score one token early.
TEST(PreferenceRun, ARewardModelDoesNotPadWithItsEos) {
  const fs::path folder = testing::scratch("preference_pad");
  fs::copy(model_of("dpo"), folder / "model");
  Json config = json_of(folder / "model" / "config.json");
  config["pad_token_id"] = 1;
  write_file(folder / "model" / "config.json", config.dump());
  Json tokenizer = json_of(folder / "model" / "tokenizer_config.json");
  tokenizer["pad_token"] = "<eos>";
  write_file(folder / "model" / "tokenizer_config.json", tokenizer.dump());
  train("reward", folder / "run",
        {"--model_name_or_path", (folder / "model").string(), "--max_steps", "1"});
  EXPECT_EQ(json_of(folder / "run" / "config.json").at("pad_token_id").get<int64_t>(), 0);
  EXPECT_EQ(json_of(folder / "run" / "tokenizer_config.json").at("pad_token"), "<pad>");
}

// 300 rows in one step: two shards of a table, and a stop between them.
TEST(PreferenceRun, AStopWhileTheReferenceIsTabulatedKeepsWhatIsDone) {
  const fs::path folder = testing::scratch("preference_table_stop");
  const std::string rows = read_file(data_of("dpo"));
  std::string many;
  for (int i = 0; i < 5; ++i) many += rows;
  write_file(folder / "many.jsonl", many);
  const Arguments shared = {"--dataset_name",
                            (folder / "many.jsonl").string(),
                            "--max_steps",
                            "2",
                            "--per_device_train_batch_size",
                            "150",
                            "--train_sampling_strategy",
                            "sequential"};
  int64_t rows_done = 0;
  TrainHooks hooks;
  hooks.on_reference = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 300);
    rows_done = done;
  };
  hooks.should_stop = [&] { return rows_done > 0; };  // asked before every shard
  const auto stopped = train("dpo", folder / "run", shared, hooks);
  EXPECT_EQ(stopped.end, TrainEnd::interrupted);
  EXPECT_EQ(stopped.steps, 0);
  const int64_t kept = rows_done;
  EXPECT_TRUE(kept == 256 || kept == 44) << kept;
  EXPECT_FALSE(fs::exists(folder / "run" / "model.safetensors"));

  hooks.should_stop = {};
  const auto finished =
      train("dpo", folder / "run", with(shared, {"--resume_from_checkpoint", "true"}), hooks);
  EXPECT_EQ(finished.end, TrainEnd::done);
  EXPECT_EQ(finished.steps, 2);
  EXPECT_EQ(rows_done, 300 - kept);
  train("dpo", folder / "straight", shared);
  testing::expect_same_trained(folder / "straight", folder / "run");
}

TEST(PreferenceRun, AStopAtOnceEndsAsInterrupted) {
  for (const char* command : {"dpo", "kto"}) {
    const fs::path output = testing::scratch(fmt::format("preference_stop_{}", command)) / "run";
    TrainHooks hooks;
    hooks.should_stop = [] { return true; };
    EXPECT_EQ(train(command, output, {"--max_steps", "2"}, hooks).end, TrainEnd::interrupted);
    EXPECT_FALSE(fs::exists(output / "model.safetensors"));
    const auto again =
        train(command, output, {"--max_steps", "2", "--resume_from_checkpoint", "true"});
    EXPECT_EQ(again.end, TrainEnd::done);
    EXPECT_EQ(again.steps, 2);
  }
}

TEST(PreferenceRun, ACheckpointOfAnotherMethodIsRefused) {
  const fs::path output = testing::scratch("preference_other_method") / "run";
  const Arguments shared = {"--max_steps", "2", "--save_strategy", "steps", "--save_steps", "1"};
  train("dpo", output, shared);
  const auto resumed = with(shared, {"--resume_from_checkpoint", "true", "--max_steps", "3"});
  for (const char* command : {"kto", "sft"}) {
    const auto data =
        command == std::string("sft") ? testing::fixtures() / "pairs.jsonl" : data_of(command);
    expect_has(refusal(command, output, with(resumed, {"--dataset_name", data.string()})),
               fmt::format("a checkpoint of rlhf {} was expected, got one of rlhf dpo", command));
  }
}

TEST(PreferenceRun, IdenticalPairsAreCountedAndDroppedWhenAsked) {
  const fs::path folder = testing::scratch("preference_identical");
  const char* kRows = R"({"prompt": "ab?", "chosen": " cd", "rejected": " ef"}
{"prompt": "ab?", "chosen": " gh", "rejected": " gh"}
{"prompt": "cd?", "chosen": " ij", "rejected": " ab"}
{"prompt": "ef?", "chosen": " cc", "rejected": " cc"}
{"prompt": "gh?", "chosen": " dd", "rejected": " ee"}
)";
  write_file(folder / "rows.jsonl", kRows);
  for (const char* command : {"dpo", "reward"}) {
    const auto steps_of = [&](const char* drop, std::string& said) {
      TrainHooks hooks;
      hooks.on_text = [&](const std::string& text) { said += text; };
      return train(command, folder / fmt::format("{}_{}", command, drop),
                   {"--dataset_name", (folder / "rows.jsonl").string(), "--num_train_epochs", "1",
                    "--per_device_train_batch_size", "1", "--drop_identical_pairs", drop},
                   hooks)
          .steps;
    };
    std::string kept;
    EXPECT_EQ(steps_of("false", kept), 5) << command;
    expect_has(kept, "chosen and rejected are identical");
    std::string dropped;
    EXPECT_EQ(steps_of("true", dropped), 3) << command;
    expect_has(dropped, "chosen and rejected are identical");
  }
}

/// A folder with the tiny tokenizer of 100 ids and a model of 50.
fs::path narrow_model(const fs::path& folder, const std::string& command) {
  fs::copy(model_of(command), folder / "narrow");
  Json config = json_of(folder / "narrow" / "config.json");
  config["vocab_size"] = 50;
  write_file(folder / "narrow" / "config.json", config.dump());
  fs::remove(folder / "narrow" / "model.safetensors");
  return folder / "narrow";
}

TEST(PreferenceRun, IdsBeyondTheVocabularyAreRefused) {
  for (const char* command : {"dpo", "kto", "reward", "prm"}) {
    const fs::path folder = testing::scratch(fmt::format("preference_ids_{}", command));
    expect_has(refusal(command, folder / "run",
                       {"--model_name_or_path", narrow_model(folder, command).string(),
                        "--from_scratch", "true"}),
               "ids below the model's vocabulary of 50 were expected");
    EXPECT_FALSE(fs::exists(folder / "run"));
  }
}

TEST(PreferenceRun, AReferenceOfAnotherVocabularyIsRefused) {
  for (const char* command : {"dpo", "kto"}) {
    const fs::path folder = testing::scratch(fmt::format("preference_reference_{}", command));
    expect_has(refusal(command, folder / "run",
                       {"--ref_model_name_or_path", narrow_model(folder, command).string()}),
               "the policy's vocabulary of 100 was expected, got LlamaForCausalLM with 50");
    EXPECT_FALSE(fs::exists(folder / "run"));
  }
  const fs::path folder = testing::scratch("preference_reference_classifier");
  expect_has(
      refusal("dpo", folder / "run", {"--ref_model_name_or_path", model_of("reward").string()}),
      "[ref_model_name_or_path] a language model");
}

TEST(PreferenceRun, AnAdapterOfAnotherBaseIsRefused) {
  const fs::path folder = testing::scratch("preference_base");
  fs::copy(model_of("dpo"), folder / "base");
  train("dpo", folder / "run",
        lora({"--model_name_or_path", (folder / "base").string(), "--max_steps", "2"}));
  const auto go_on = [&](const fs::path& base) {
    return Arguments{"--model_name_or_path",    base.string(), "--adapter_name_or_path",
                     (folder / "run").string(), "--max_steps", "1"};
  };
  // The same weights elsewhere are the same base.
  fs::copy(folder / "base", folder / "copy");
  EXPECT_NO_THROW(train("dpo", folder / "copied", go_on(folder / "copy")));
  fs::copy(folder / "base", folder / "other");
  testing::change_a_weight(folder / "other");
  const auto text = refusal("dpo", folder / "refused", go_on(folder / "other"));
  expect_has(text, (folder / "base").string());
  expect_has(text, (folder / "other").string());
}

/// Eight steps with evaluations every two. The loss falls, so that with greater_is_better an early
/// model is the best one.
Arguments evaluated(const Arguments& more) {
  return with({"--max_steps",
               "8",
               "--per_device_train_batch_size",
               "8",
               "--dataset_name",
               data_of("dpo").string(),
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
               "--lr_scheduler_type",
               "constant",
               "--learning_rate",
               "5e-3"},
              more);
}
const Arguments kKeepBest = {"--save_total_limit",      "2",    "--load_best_model_at_end", "true",
                             "--metric_for_best_model", "loss", "--greater_is_better",      "true"};

TEST(PreferenceRun, TheBestAdapterIsKeptAndEndsOnTop) {
  const fs::path output = testing::scratch("preference_best_lora") / "run";
  train("dpo", output, evaluated(lora(kKeepBest)));
  const auto best = json_of(output / "trainer_state.json").at("best_global_step").get<int64_t>();
  ASSERT_LT(best, 8) << "the last step is the best one: nothing is tested";
  testing::expect_same_trained(output, output / fmt::format("checkpoint-{}", best));
  EXPECT_FALSE(read_file(testing::trained_file(output)) ==
               read_file(testing::trained_file(output / "checkpoint-8")));
  EXPECT_EQ(checkpoints_of(output).size(), 2U);
}

// The scale in config.json is that of the model beside it: a run that ends at the best step has
// the same.
TEST(PreferenceRun, TheBestRewardModelHasItsOwnScale) {
  const fs::path folder = testing::scratch("preference_best_reward");
  train("reward", folder / "best", evaluated(kKeepBest));
  const auto best =
      json_of(folder / "best" / "trainer_state.json").at("best_global_step").get<int64_t>();
  ASSERT_LT(best, 8) << "the last step is the best one: nothing is tested";
  train("reward", folder / "short",
        evaluated({"--max_steps", std::to_string(best), "--save_strategy", "no"}));
  testing::expect_same_trained(folder / "best", folder / "short");
  EXPECT_EQ(read_file(folder / "best" / "config.json"),
            read_file(folder / "short" / "config.json"));
}

}  // namespace
}  // namespace rlhf
