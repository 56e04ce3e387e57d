// Recipes of the alignment-handbook's kind run as they are, but for where their data and models
// come from: their older keys are read or answered with a note.
#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

class RecipesTest : public ConfigFileTest {
 protected:
  static std::string joined(const Texts& notes) {
    return fmt::format("{}", fmt::join(notes, "\n"));
  }
};

TEST_F(RecipesTest, DpoOfAllWeights) {
  const auto file = write(R"(
model_name_or_path: models/sft
torch_dtype: null
dataset_name: data/preferences
dataset_train_split: train_prefs
dataset_test_split: test_prefs
preprocessing_num_workers: 12
bf16: true
beta: 0.01
do_eval: true
evaluation_strategy: steps
eval_steps: 100
gradient_accumulation_steps: 2
gradient_checkpointing: true
gradient_checkpointing_kwargs:
  use_reentrant: False
hub_model_id: zephyr-7b-dpo-full
hub_model_revision: v1.0
learning_rate: 5.0e-7
log_level: info
logging_steps: 10
lr_scheduler_type: cosine
max_length: 1024
max_prompt_length: 512
num_train_epochs: 1
optim: adamw_torch
output_dir: data/zephyr-7b-dpo-full
per_device_train_batch_size: 8
per_device_eval_batch_size: 8
push_to_hub: false
report_to:
- tensorboard
save_strategy: "steps"
save_steps: 100
save_total_limit: 1
seed: 42
warmup_ratio: 0.1
)");
  Texts notes;
  const DpoConfig config = read_dpo_config(Texts{"--config", file}, &notes);
  EXPECT_EQ(config.model.dtype, Dtype::float32);
  EXPECT_EQ(config.data.dataset_train_split, "train_prefs");
  EXPECT_EQ(config.dpo.loss.beta, 0.01);
  EXPECT_EQ(config.dpo.loss_type, std::vector{DpoLoss::sigmoid});
  EXPECT_EQ(config.dpo.max_length, 1024);
  EXPECT_EQ(config.training.learning_rate, 5e-7);
  EXPECT_EQ(config.training.eval_strategy, Interval::steps);
  const std::string said = joined(notes);
  for (const char* part :
       {":3 torch_dtype] read as dtype", ":7 preprocessing_num_workers] read as dataset_num_proc",
        ":10 do_eval] has no effect", ":11 evaluation_strategy] read as eval_strategy",
        ":15 gradient_checkpointing_kwargs] has no effect", ":17 hub_model_id] has no effect",
        ":18 hub_model_revision] has no effect", ":24 max_prompt_length] has no effect"}) {
    EXPECT_NE(said.find(part), std::string::npos) << part << " in\n" << said;
  }
  EXPECT_EQ(notes.size(), 8U) << said;
}

TEST_F(RecipesTest, DpoOfAnAdapter) {
  const auto file = write(R"(
model_name_or_path: models/sft
torch_dtype: bfloat16
attn_implementation: flash_attention_2
dataset_name: data/preferences
use_peft: true
load_in_4bit: false
lora_r: 128
lora_alpha: 128
lora_dropout: 0.05
lora_target_modules:
- q_proj
- k_proj
- v_proj
- o_proj
- gate_proj
- up_proj
- down_proj
beta: 0.01
loss_type: [sigmoid]
padding_free: true
max_length: 1024
remove_unused_columns: false
trust_remote_code: true
)");
  Texts notes;
  const DpoConfig config = read_dpo_config(Texts{"--config", file}, &notes);
  EXPECT_TRUE(config.lora.use_peft);
  EXPECT_EQ(config.lora.lora_r, 128);
  EXPECT_EQ(config.lora.lora_alpha, 128);
  EXPECT_EQ(config.lora.lora_target_modules->size(), 7U);
  EXPECT_FALSE(precomputes_reference(config.dpo.reference, config.lora.use_peft));
  EXPECT_EQ(notes.size(), 5U) << joined(notes);
}

TEST_F(RecipesTest, Orpo) {
  const auto file = write(R"(
model_name_or_path: models/base
model_revision: main
torch_dtype: bfloat16
use_flash_attention_2: true
dataset_name: data/preferences
loss_type: orpo
beta: 0.05
max_length: 2048
max_prompt_length: 1792
max_completion_length: 256
gradient_accumulation_steps: 1
learning_rate: 5.0e-6
lr_scheduler_type: inverse_sqrt
optim: adamw_torch
warmup_steps: 100
dataset_num_proc: 8
generate_during_eval: false
is_encoder_decoder: false
padding_value: 0
disable_dropout: true
)");
  Texts notes;
  const DpoConfig config = read_dpo_config(Texts{"--config", file}, &notes);
  EXPECT_EQ(config.dpo.loss_type, std::vector{DpoLoss::orpo});
  EXPECT_EQ(config.dpo.loss.beta, 0.05);
  EXPECT_FALSE(uses_reference(config.dpo));
  EXPECT_EQ(notes.size(), 5U) << joined(notes);
}

TEST_F(RecipesTest, WhatMustBeWrittenOtherwiseIsSaid) {
  const auto file = write(
      "model_name_or_path: m\ndataset_name: d\n"
      "dataset_mixer: {a: 1.0}\ndataset_splits: [train_prefs, test_prefs]\n"
      "tokenizer_name_or_path: t\nload_in_4bit: true\noptim: adamw_bnb_8bit\n");
  try {
    read_dpo_config(Texts{"--config", file}, nullptr);
    FAIL();
  } catch (const UserError& error) {
    ASSERT_EQ(error.problems().size(), 5U) << error.what();
    for (const auto& problem : error.problems()) EXPECT_FALSE(problem.hint.empty());
  }
}

}  // namespace
}  // namespace rlhf
