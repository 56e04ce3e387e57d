// What must not change a run: how a step is cut, threads, recomputation, packing; each at its
// promised level.
#include "sft_case.h"

namespace rlhf {
namespace {

using testing::Arguments;

/// The run folder of ten steps of eight rows.
fs::path run(const std::string& name, const Arguments& more, const std::string& data = "pairs") {
  const fs::path output = testing::scratch("equivalence_" + name) / "run";
  Arguments all = {"--max_steps",
                   "10",
                   "--per_device_train_batch_size",
                   "8",
                   "--lr_scheduler_type",
                   "constant",
                   "--learning_rate",
                   "1e-2",
                   "--optim",
                   "sgd"};
  all.insert(all.end(), more.begin(), more.end());
  train_sft(testing::config_of(output, data, all), {});
  return output;
}

// SGD moves a weight by the learning rate times its gradient, so weights after ten steps differ by
// no more than the gradients do: fp32 sums in another order, 1e-6 on weights of size 0.2.
constexpr double kTolerance = 1e-6;

TEST(SftEquivalence, RepeatsBitForBit) { testing::expect_same_bits(run("a", {}), run("b", {})); }

TEST(SftEquivalence, AnyCutIntoMicroBatches) {
  const fs::path whole = run("whole", {"--max_tokens_per_microbatch", "100000"});
  for (const char* budget : {"1", "70", "200"}) {
    const fs::path cut = run(std::string("cut") + budget, {"--max_tokens_per_microbatch", budget});
    EXPECT_LE(testing::largest_difference(whole, cut), kTolerance) << budget;
  }
}

TEST(SftEquivalence, AccumulationIsOneBatch) {
  const fs::path whole = run("batch8", {});
  const fs::path accumulated = run(
      "accumulated", {"--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "4"});
  testing::expect_same_bits(whole, accumulated);
  EXPECT_EQ(testing::metrics_of(whole).back().at("loss"),
            testing::metrics_of(accumulated).back().at("loss"));
}

TEST(SftEquivalence, ThreadCount) {
  EXPECT_LE(testing::largest_difference(run("threads1", {"--threads", "1"}),
                                        run("threads2", {"--threads", "2"})),
            kTolerance);
}

TEST(SftEquivalence, CheckpointedLayersBitForBit) {
  testing::expect_same_bits(run("plain", {}),
                            run("recomputed", {"--gradient_checkpointing", "true"}));
}

// Packs of one row each are the rows themselves.
TEST(SftEquivalence, PackedRowsSeeOnlyThemselves) {
  const Arguments shared = {"--train_sampling_strategy", "sequential", "--max_steps", "1"};
  Arguments packed = shared;
  packed.insert(packed.end(), {"--packing", "true", "--per_device_train_batch_size", "1",
                               "--max_length", "10000"});
  Arguments alone = shared;
  alone.insert(alone.end(), {"--per_device_train_batch_size", "200", "--max_length", "10000"});
  const fs::path a = run("packed", packed, "texts");
  const fs::path b = run("alone", alone, "texts");
  EXPECT_EQ(testing::metrics_of(a)[0].at("num_tokens"), testing::metrics_of(b)[0].at("num_tokens"));
  EXPECT_LE(testing::largest_difference(a, b), kTolerance);
}

TEST(SftEquivalence, NeftuneDoesNotDependOnTheCutAndDoesSomething) {
  const Arguments noise = {"--neftune_noise_alpha", "5"};
  Arguments cut = noise;
  cut.insert(cut.end(), {"--max_tokens_per_microbatch", "70"});
  const fs::path whole = run("neftune", noise);
  EXPECT_LE(testing::largest_difference(whole, run("neftune_cut", cut)), kTolerance);
  EXPECT_GT(testing::largest_difference(whole, run("no_neftune", {})), 1e-4);
}

TEST(SftEquivalence, TheSeedDecidesTheOrder) {
  EXPECT_GT(
      testing::largest_difference(run("seed1", {"--seed", "1"}), run("seed2", {"--seed", "2"})),
      1e-5);
}

TEST(SftEquivalence, Bf16KeepsMastersAndLearns) {
  const fs::path output =
      run("bf16", {"--dtype", "bfloat16", "--optim", "adamw_torch", "--learning_rate", "2e-3"});
  const auto lines = testing::metrics_of(output);
  EXPECT_LT(lines.back().at("loss").get<double>(), lines.front().at("loss").get<double>());
}

}  // namespace
}  // namespace rlhf
