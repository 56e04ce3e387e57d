#include <gtest/gtest.h>

#include "tests/config/read.h"

namespace rlhf {
namespace {

TEST(Resolve, FollowsTransformers) {
  EXPECT_EQ(config_of({}).training.output_dir, "trainer_output");
  EXPECT_EQ(config_of({}).training.eval_steps, std::nullopt);
  const auto by_steps = config_of({"--eval_strategy", "steps", "--logging_steps", "7"}).training;
  EXPECT_EQ(by_steps.eval_steps, 7);
  EXPECT_EQ(by_steps.metric_for_best_model, std::nullopt);
  const auto best = config_of({"--eval_strategy", "epoch", "--save_strategy", "best"}).training;
  EXPECT_EQ(best.metric_for_best_model, "loss");
  EXPECT_EQ(best.greater_is_better, false);
  EXPECT_EQ(
      config_of({"--metric_for_best_model", "eval_mean_token_accuracy"}).training.greater_is_better,
      true);
  EXPECT_FALSE(config_of({"--activation_checkpointing", "false"}).training.gradient_checkpointing);
  EXPECT_TRUE(config_of({}).training.gradient_checkpointing);
  EXPECT_EQ(config_of({"--group_by_length"}).training.train_sampling_strategy,
            SamplingStrategy::group_by_length);
  EXPECT_EQ(
      config_of({"--train_sampling_strategy", "batch_rebalance"}).training.train_sampling_strategy,
      SamplingStrategy::random);
  EXPECT_EQ(config_of({"--use_cpu"}).model.device, DeviceChoice::cpu);
  EXPECT_EQ(config_of({"--model_init_kwargs", "{torch_dtype: auto}"}).model.dtype,
            Dtype::automatic);
  EXPECT_EQ(config_of({"--resume_from_checkpoint", "false"}).training.resume_from_checkpoint,
            std::nullopt);
  EXPECT_EQ(
      config_of({"--include_num_input_tokens_seen", "true"}).training.include_num_input_tokens_seen,
      TokensSeen::all);
}

TEST(Schedule, KeysThatAScheduleDoesNotReadAreNamed) {
  EXPECT_EQ(
      problems_of({"--lr_scheduler_kwargs", "{min_lr: 1e-6}"}),
      Texts{"[--lr_scheduler_kwargs.min_lr] linear does not read this key. HINT: it reads: none."});
  EXPECT_EQ(problems_of({"--lr_scheduler_type", "polynomial", "--lr_scheduler_kwargs",
                         "{power: 2, lr_end: 0}"}),
            Texts{});
  EXPECT_EQ(
      problems_of({"--lr_scheduler_type", "cosine", "--lr_scheduler_kwargs", "{num_cycle: 2}"}),
      Texts{"[--lr_scheduler_kwargs.num_cycle] unknown key. HINT: did you mean num_cycles?"});
}

TEST(Schedule, FloorsDecaysAndMetrics) {
  const Texts with_floor = {"--lr_scheduler_type", "cosine_with_min_lr", "--lr_scheduler_kwargs"};
  const auto kwargs = [&](const char* text) {
    Texts args = with_floor;
    args.emplace_back(text);
    return problems_of(args).size();
  };
  EXPECT_EQ(kwargs("{min_lr_rate: 0.1}"), 0U);
  EXPECT_EQ(kwargs("{min_lr: 1e-6}"), 0U);
  EXPECT_EQ(kwargs("{min_lr: 1e-6, min_lr_rate: 0.1}"), 1U);
  EXPECT_EQ(kwargs("{num_cycles: 1}"), 1U);
  EXPECT_EQ(problems_of({"--lr_scheduler_type", "warmup_stable_decay"}).size(), 1U);
  EXPECT_EQ(problems_of({"--lr_scheduler_type", "greedy"}).size(), 1U);
  EXPECT_EQ(
      problems_of({"--lr_scheduler_type", "reduce_lr_on_plateau", "--eval_strategy", "epoch"}),
      Texts{});
  EXPECT_EQ(problems_of({"--warmup_steps", "10", "--warmup_ratio", "0.1"}).size(), 1U);
}

TEST(Schedule, StepsFromSharesRoundUp) {
  TrainingOptions options;
  EXPECT_EQ(warmup_steps_of(options, 100), 0);
  options.warmup_ratio = 0.1;
  EXPECT_EQ(warmup_steps_of(options, 101), 11);
  options.warmup_ratio = 0;
  options.warmup_steps = 0.03;
  EXPECT_EQ(warmup_steps_of(options, 1000), 30);
  options.warmup_steps = 50;
  EXPECT_EQ(warmup_steps_of(options, 10), 50);
  EXPECT_EQ(interval_steps_of(500, 10), 500);
  EXPECT_EQ(interval_steps_of(0.25, 10), 3);
  EXPECT_EQ(interval_steps_of(0.001, 10), 1);
}

TEST(Intervals, MustBeWholeAndAboveZero) {
  EXPECT_EQ(problems_of({"--logging_steps", "0"}).size(), 1U);
  EXPECT_EQ(problems_of({"--logging_steps", "0", "--logging_strategy", "no"}), Texts{});
  EXPECT_EQ(problems_of({"--save_steps", "1.5"}).size(), 1U);
  EXPECT_EQ(problems_of({"--save_steps", "0.5", "--logging_steps", "0.1"}), Texts{});
  EXPECT_EQ(problems_of({"--max_steps", "0"}).size(), 1U);
}

TEST(BestModel, NeedsMatchingIntervals) {
  const auto with = [](Texts args) {
    args.emplace_back("--load_best_model_at_end");
    return problems_of(args).size();
  };
  EXPECT_EQ(with({"--eval_strategy", "epoch"}), 1U);
  EXPECT_EQ(with({"--eval_strategy", "epoch", "--save_strategy", "epoch"}), 0U);
  EXPECT_EQ(with({"--eval_strategy", "epoch", "--save_strategy", "best"}), 0U);
  EXPECT_EQ(with({"--eval_strategy", "steps", "--eval_steps", "50", "--save_steps", "100"}), 0U);
  EXPECT_EQ(with({"--eval_strategy", "steps", "--eval_steps", "60", "--save_steps", "100"}), 1U);
  EXPECT_EQ(with({"--eval_strategy", "steps", "--eval_steps", "0.1", "--save_steps", "0.3"}), 0U);
  EXPECT_EQ(with({"--eval_strategy", "steps", "--eval_steps", "0.1", "--save_steps", "0.25"}), 1U);
  EXPECT_EQ(with({"--eval_strategy", "steps", "--eval_steps", "0.1", "--save_steps", "100"}), 1U);
  EXPECT_EQ(with({"--eval_strategy", "steps", "--eval_steps", "0.6", "--save_steps", "100"}), 1U);
  EXPECT_EQ(problems_of({"--save_strategy", "best"}).size(), 1U);
  EXPECT_EQ(problems_of({"--early_stopping_patience", "3"}).size(), 1U);
  EXPECT_EQ(problems_of({"--early_stopping_patience", "3", "--eval_strategy", "epoch"}), Texts{});
}

TEST(Reports, OtherServicesAreNamedUnknownOnesRefused) {
  EXPECT_EQ(problems_of({"--report_to", "wandb", "mlflow"}), Texts{});
  EXPECT_EQ(problems_of({"--report_to", "tensorbord"}),
            Texts{"[--report_to] expected tensorboard, none or all, got \"tensorbord\". HINT: did "
                  "you mean tensorboard?"});
}

TEST(Optimiser, ArgumentsOfSgd) {
  Problems problems;
  TrainingOptions options;
  options.optim = OptimizerChoice::sgd;
  options.optim_args = "momentum=0.9, nesterov=true,weight_decay=1e-2";
  const SgdOptions sgd = sgd_options(options, problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_EQ(sgd.momentum, 0.9);
  EXPECT_TRUE(sgd.nesterov);
  EXPECT_EQ(sgd.weight_decay, 0.01);
  EXPECT_EQ(problems_of({"--optim", "sgd", "--optim_args", "momentum=-1,x=2,y"}).size(), 3U);
  EXPECT_EQ(problems_of({"--optim", "sgd", "--optim_args", "nesterov=true"}).size(), 1U);
  EXPECT_EQ(problems_of({"--optim_args", "momentum=0.9"}).size(), 1U);
  EXPECT_EQ(problems_of({"--optim", "adamw_torch_4bit"}).size(), 1U);
  EXPECT_EQ(problems_of({"--optim", "adamw_8bit", "--optim_args", "momentum=0.9"}).size(), 1U);
  for (const char* name : {"adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"})
    EXPECT_EQ(config_of({"--optim", name}).training.optim, OptimizerChoice::adamw_8bit) << name;
  EXPECT_EQ(problems_of({"--optim", "adamw_hf"}), Texts{});
}

TEST(Device, ContradictionsAreNamed) {
  EXPECT_EQ(problems_of({"--use_cpu", "--device", "cuda"}).size(), 1U);
  EXPECT_EQ(problems_of({"--use_cpu", "--device", "cpu"}), Texts{});
}

}  // namespace
}  // namespace rlhf
