// Every method in bfloat16, and on a CUDA device where there is one, beside the same run in fp32 on
// the CPU.
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ppo_case.h"
#include "preference_case.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::with;

struct MethodCase {
  const char* name;
  const char* command;
  Arguments arguments = {};
};

void PrintTo(const MethodCase& one, std::ostream* out) { *out << one.name; }

/// Rows and models of `command`; policy methods train on recorded completions.
Arguments arguments_of(const std::string& command, const fs::path& output) {
  const fs::path reward = testing::model_of("reward");
  if (command == "ppo") {
    return testing::grpo_arguments(
        output, {"--replay_completions", (testing::fixtures() / "ppo/mixed.jsonl.gz").string(),
                 "--value_model_name_or_path", reward.string(), "--num_generations", "1"});
  }
  if (command == "grpo" || command == "rloo")
    return testing::replay_arguments(output, {"--beta", "0.1"});
  if (command == "sft") return testing::common_arguments(output, "pairs");
  return testing::arguments_of(command, output, {});
}

/// What each of three steps reports where `placement` says how it is computed.
std::vector<Json> lines_of(const MethodCase& one, const std::string& place,
                           const Arguments& placement) {
  const std::string command = one.command;
  const fs::path folder = testing::scratch(fmt::format("placement_{}_{}", one.name, place));
  const Arguments arguments = testing::merged(
      arguments_of(command, folder / "run"),
      with({"--max_steps", "3", "--per_device_train_batch_size", "8", "--learning_rate", "1e-4"},
           with(one.arguments, placement)));
  if (command == "grpo") {
    testing::train_grpo_with(arguments);
  } else if (command == "rloo") {
    testing::train_rloo_with(arguments);
  } else if (command == "ppo") {
    testing::train_ppo_with(arguments);
  } else {
    testing::train(command, arguments);
  }
  return testing::metrics_of(folder / "run");
}

bool is_compared(const std::string& metric) {
  return metric.ends_with("loss") || metric.ends_with("grad_norm") || metric.ends_with("entropy");
}

/// Losses and entropies of the first steps within `values` · max(1, |x|), norms of gradients within
/// `norms` · x; of all of them numbers.
void expect_near(const std::vector<Json>& lines, const std::vector<Json>& expected, size_t steps,
                 double values, double norms) {
  ASSERT_EQ(lines.size(), 3U);
  ASSERT_EQ(expected.size(), 3U);
  for (const Json& line : lines) {
    for (const auto& [metric, value] : line.items())
      EXPECT_TRUE(!is_compared(metric) || value.is_number()) << metric;
  }
  for (size_t step = 0; step < steps; ++step) {
    int compared = 0;
    for (const auto& [metric, value] : expected[step].items()) {
      if (!is_compared(metric)) continue;
      const auto x = value.get<double>();
      const double bound =
          metric.ends_with("grad_norm") ? norms * x : values * std::max(1.0, std::abs(x));
      EXPECT_NEAR(lines[step].at(metric).get<double>(), x, bound)
          << metric << ", step " << step + 1;
      ++compared;
    }
    EXPECT_GE(compared, 2) << "a loss and a norm were expected";
  }
}

class Placement : public ::testing::TestWithParam<MethodCase> {};

// bfloat16 rounds to 2^-9 of a number. Three numbers at most are rounded on the way from one layer
// to the next here, of two layers, and weights of 0.2 with them: 2% of a logit, and of a gradient
// summed over hundreds of tokens 5%. Of the first step, which both begin with the same weights: PPO's
// clipping then takes other tokens.
TEST_P(Placement, InBfloat16BesideFp32) {
  const auto& one = GetParam();
  expect_near(lines_of(one, "bf16", {"--dtype", "bfloat16"}),
              lines_of(one, "fp32", {"--dtype", "float32"}), 1, 2e-2, 5e-2);
}

// fp32 on both, other summation orders: the bounds of the trajectories beside TRL.
TEST_P(Placement, OnCudaBesideTheCpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device is here, or libtorch was built without CUDA";
  const auto& one = GetParam();
  const Arguments fp32 = {"--dtype", "float32"};
  expect_near(lines_of(one, "cuda", with(fp32, {"--device", "cuda"})),
              lines_of(one, "cpu", with(fp32, {"--device", "cpu"})), 3, 1e-4, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(All, Placement,
                         ::testing::Values(MethodCase{"sft", "sft"},
                                           MethodCase{"sft_lora", "sft", testing::lora()},
                                           MethodCase{"reward", "reward"}, MethodCase{"prm", "prm"},
                                           MethodCase{"dpo", "dpo"},
                                           MethodCase{"dpo_lora", "dpo", testing::lora()},
                                           MethodCase{"kto", "kto"}, MethodCase{"grpo", "grpo"},
                                           MethodCase{"rloo", "rloo"}, MethodCase{"ppo", "ppo"}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace rlhf
