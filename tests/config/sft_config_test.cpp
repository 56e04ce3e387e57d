#include "rlhf/config/sft_config.h"

#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

using SftConfigTest = ConfigFileTest;

TEST_F(SftConfigTest, ReadsAFileOfTheAlignmentHandbookKind) {
  // The keys that such recipes have in common, with their older names.
  const auto file = write(R"(
model_name_or_path: models/base
model_revision: main
torch_dtype: bfloat16
attn_implementation: flash_attention_2
dataset_name: data/chat
dataset_num_proc: 48
bf16: true
do_eval: true
evaluation_strategy: epoch
gradient_accumulation_steps: 8
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: false
hub_model_id: zephyr-7b-sft-full
learning_rate: 1.0e-05
log_level: info
logging_steps: 5
logging_strategy: steps
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs:
  min_lr_rate: 0.1
packing: true
max_seq_length: 2048
max_steps: -1
num_train_epochs: 1
output_dir: data/zephyr
overwrite_output_dir: true
per_device_eval_batch_size: 8
per_device_train_batch_size: 16
push_to_hub: false
report_to:
- tensorboard
- wandb
save_strategy: "no"
seed: 42
use_liger_kernel: true
warmup_ratio: 0.1
)");
  Texts notes;
  const SftConfig config = read_sft_config(Texts{"--config", file}, &notes);
  EXPECT_EQ(config.model.dtype, Dtype::bfloat16);
  EXPECT_EQ(config.data.dataset_name, Texts{"data/chat"});
  EXPECT_EQ(config.training.eval_strategy, Interval::epoch);
  EXPECT_EQ(config.training.save_strategy, SaveInterval::no);
  EXPECT_EQ(config.training.lr_scheduler_type, Scheduler::cosine_with_min_lr);
  EXPECT_EQ(config.training.lr_scheduler_kwargs.min_lr_rate, 0.1);
  EXPECT_EQ(config.sft.max_length, 2048);
  EXPECT_EQ(config.sft.eval_packing, true);
  EXPECT_EQ(config.training.warmup_ratio, 0.1);
  std::string said;
  for (const auto& note : notes) said += note + "\n";
  for (const char* part :
       {":4 torch_dtype] read as dtype", ":5 attn_implementation] has no effect",
        ":9 do_eval] has no effect", ":10 evaluation_strategy] read as eval_strategy",
        ":13 gradient_checkpointing_kwargs] has no effect", ":15 hub_model_id] has no effect",
        ":24 max_seq_length] read as max_length", "use_liger_kernel] has no effect",
        "[report_to] wandb is not served"}) {
    EXPECT_NE(said.find(part), std::string::npos) << part << " in\n" << said;
  }
  EXPECT_EQ(notes.size(), 9U) << said;
}

TEST_F(SftConfigTest, PlainNoIsTheWordOfAStrategy) {
  const auto file = write(
      "model_name_or_path: m\ndataset_name: d\neval_strategy: no\nsave_strategy: no\npacking: "
      "no\n");
  const SftConfig config = read_sft_config(Texts{"--config", file}, nullptr);
  EXPECT_EQ(config.training.eval_strategy, Interval::no);
  EXPECT_EQ(config.training.save_strategy, SaveInterval::no);
  EXPECT_FALSE(config.sft.packing);
}

TEST_F(SftConfigTest, MixtureOfDatasets) {
  const auto file = write(R"(
model_name_or_path: m
datasets:
- path: a.jsonl
  fraction: 0.25
  columns: [messages]
- path: data
  data_dir: inner
  data_files: [x.jsonl, y.jsonl]
  split: test
  fraction: 0.75
test_split_size: 100
eval_strategy: epoch
)");
  const SftConfig config = read_sft_config(Texts{"--config", file}, nullptr);
  ASSERT_EQ(config.data.datasets.size(), 2U);
  EXPECT_EQ(config.data.datasets[0].columns, Texts{"messages"});
  EXPECT_EQ(config.data.datasets[0].data_files, std::nullopt);
  EXPECT_EQ(config.data.datasets[1].data_files, (Texts{"x.jsonl", "y.jsonl"}));
  EXPECT_EQ(config.data.datasets[1].split, "test");
  EXPECT_EQ(config.data.test_split_size, 100.0);
}

TEST_F(SftConfigTest, ProblemsOfFileFlagsAndChecksComeTogetherWithTheirPlaces) {
  const auto file =
      write("learning_rat: 1\nbeta: 0.1\npacking: true\nmax_length: null\nload_in_4bit: true\n");
  try {
    read_sft_config(Texts{"--config", file, "--dtype", "float16"}, nullptr);
    FAIL();
  } catch (const UserError& error) {
    Texts texts;
    for (const auto& problem : error.problems()) texts.push_back(problem.text());
    EXPECT_EQ(
        texts,
        (Texts{
            "[" + file + ":1 learning_rat] unknown key. HINT: did you mean learning_rate?",
            "[" + file +
                ":2 beta] not an option of this command. HINT: remove it; sft has no such option: "
                "it belongs to dpo, kto, grpo, rloo.",
            "[" + file +
                ":5 load_in_4bit] true is not supported. HINT: remove it, or pass false on the "
                "command "
                "line: weights are held in dtype and not quantised; with dtype: bfloat16 an "
                "adapter's base takes 2 bytes a weight.",
            "[--dtype] expected one of \"auto\", \"float32\", \"bfloat16\" or null, got "
            "\"float16\". HINT: "
            "use bfloat16, "
            "whose range needs no loss scaling, or float32.",
            "[model_name_or_path] expected a model folder, got nothing. HINT: pass "
            "--model_name_or_path DIR.",
            "[dataset_name] expected a data file or folder, got nothing. HINT: pass --dataset_name "
            "FILE, or list "
            "several under datasets.",
            "[" + file +
                ":4 max_length] packing fills sequences of max_length, got null. HINT: set "
                "max_length, "
                "such as 2048."}));
  }
}

TEST_F(SftConfigTest, ResolvedYamlReadsBackToTheSame) {
  const SftConfig config = config_of({"--learning_rate",
                                      "3.3e-6",
                                      "--eval_strategy",
                                      "steps",
                                      "--load_best_model_at_end",
                                      "--save_steps",
                                      "20",
                                      "--lr_scheduler_type",
                                      "warmup_stable_decay",
                                      "--lr_scheduler_kwargs",
                                      "{num_decay_steps: 7, decay_type: 1-sqrt}",
                                      "--eos_token",
                                      "no",
                                      "--chat_template_path",
                                      "a b/c: d.jinja",
                                      "--use_cpu",
                                      "--group_by_length",
                                      "--activation_checkpointing",
                                      "false",
                                      "--resume_from_checkpoint",
                                      "true",
                                      "--save_dtype",
                                      "float16",
                                      "--model_init_kwargs",
                                      "{dtype: bfloat16}",
                                      "--datasets",
                                      "[{path: a, fraction: 0.1}, {path: b, fraction: 1}]",
                                      "--test_split_size",
                                      "0.05",
                                      "--max_length",
                                      "null",
                                      "--report_to",
                                      "all"});
  const std::string yaml = resolved_yaml(config);
  const SftConfig again = read_sft_config(Texts{"--config", write(yaml)}, nullptr);
  EXPECT_EQ(resolved_yaml(again), yaml);
  EXPECT_EQ(again.training.learning_rate, 3.3e-6);
  EXPECT_EQ(again.tokenizer.eos_token, "no");
  EXPECT_EQ(again.training.resume_from_checkpoint, "true");
  EXPECT_EQ(again.model.dtype, Dtype::bfloat16);
  EXPECT_EQ(again.sft.max_length, std::nullopt);
}

TEST_F(SftConfigTest, TableMarksChanges) {
  const std::string table = resolved_table(config_of({"--learning_rate", "1e-3"}));
  EXPECT_NE(table.find("* learning_rate"), std::string::npos);
  EXPECT_NE(table.find("(default 2.0e-05)"), std::string::npos);
  EXPECT_NE(table.find("\n  weight_decay"), std::string::npos);
}

TEST_F(SftConfigTest, ChecksOfSft) {
  EXPECT_EQ(problems_of({}), Texts{});
  EXPECT_EQ(problems_of({"--eval_packing", "--max_length", "null"}).size(), 1U);
  EXPECT_EQ(problems_of({"--max_length", "null"}), Texts{});
  EXPECT_EQ(problems_of({"--loss_type", "dft", "--label_smoothing_factor", "0.1"}).size(), 1U);
  EXPECT_EQ(problems_of({"--loss_type", "chunked_nll", "--label_smoothing_factor", "0.1"}),
            Texts{});
  EXPECT_EQ(problems_of({"--datasets", "[{path: a}]", "--eval_strategy", "epoch"}).size(), 1U);
  EXPECT_EQ(
      problems_of({"--datasets", "[{path: a, fraction: 1}, {path: b}]"}),
      Texts{"[--datasets] fraction is set for 1 of 2 parts. HINT: set it for all or for none."});
  EXPECT_EQ(problems_of({"--datasets", "[{split: a}]"}),
            Texts{"[--datasets[0].path] expected a file or folder, got nothing."});
  EXPECT_EQ(problems_of({"--test_split_size", "1.5"}).size(), 1U);
  EXPECT_EQ(problems_of({"--dataset_columns", "{prompt: question}"}), Texts{});
  EXPECT_EQ(problems_of({"--dataset_columns", "{prompt: 1}"}),
            Texts{"[--dataset_columns] expected a mapping of names to names, got {\"prompt\":1}. "
                  "HINT: write --dataset_columns '{prompt: question, completion: answer}'."});
  EXPECT_EQ(problems_of({"--dataset_columns", "prompt"}).size(), 1U);
  EXPECT_EQ(problems_of({"--dataset_kwargs", "{add_special_tokens: false}"}), Texts{});
}

TEST_F(SftConfigTest, DatasetNameGivesWayToAMixtureWithANote) {
  Texts notes;
  config_of({"--datasets", "[{path: a}]"}, &notes);
  EXPECT_EQ(notes, Texts{"[dataset_name] has no effect: datasets is given and takes its place."});
}

}  // namespace
}  // namespace rlhf
