// Fifty steps against TRL 1.16.0's SFTTrainer, recorded by tools/make_sft_trajectories.py.
#include <cmath>

#include "sft_case.h"

namespace rlhf {
namespace {

using testing::Arguments;

const Json& recorded() {
  static const Json all = Json::parse(read_file(testing::fixtures() / "trajectories.json"));
  return all;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Arguments arguments_of(const Json& options) {
  Arguments arguments;
  for (const auto& [name, value] : options.items()) {
    arguments.push_back("--" + name);
    arguments.push_back(text_of(value));
  }
  return arguments;
}

class SftTrajectory : public ::testing::TestWithParam<std::string> {};

// Bounds (fp32 on both sides, other summation orders): loss 1e-4·max(1, |loss|) at every step and
// 1e-5 in the mean, where a one-sided drift would show; grad_norm 1e-3 relative; token accuracy and
// token counts equal; entropy 1e-4.
TEST_P(SftTrajectory, FollowsTrl) {
  const Json& one = recorded().at("cases").at(GetParam());
  const fs::path output = testing::scratch("trajectory_" + GetParam()) / "run";
  train_sft(testing::config_of(output, one.at("data").get<std::string>(),
                               arguments_of(one.at("options"))),
            {});
  const auto lines = testing::metrics_of(output);
  const Json& steps = one.at("steps");
  ASSERT_EQ(lines.size(), steps.size());
  double drift = 0.0;
  double worst = 0.0;
  for (size_t i = 0; i < lines.size(); ++i) {
    const double loss = steps[i].at("loss").get<double>();
    const double difference = lines[i].at("loss").get<double>() - loss;
    const double scale = std::max(1.0, std::abs(loss));
    EXPECT_LE(std::abs(difference), 1e-4 * scale) << "loss at step " << i + 1;
    worst = std::max(worst, std::abs(difference) / scale);
    drift += difference / scale / static_cast<double>(lines.size());
    const double norm = steps[i].at("grad_norm").get<double>();
    EXPECT_NEAR(lines[i].at("grad_norm").get<double>(), norm, 1e-3 * norm) << "step " << i + 1;
    EXPECT_NEAR(lines[i].at("learning_rate").get<double>(),
                steps[i].at("learning_rate").get<double>(), 1e-12);
    EXPECT_NEAR(lines[i].at("entropy").get<double>(), steps[i].at("entropy").get<double>(), 1e-4)
        << "step " << i + 1;
    // The ratio of two counts, kept in fp32 there.
    EXPECT_NEAR(lines[i].at("mean_token_accuracy").get<double>(),
                steps[i].at("mean_token_accuracy").get<double>(), 1e-6)
        << "step " << i + 1;
    EXPECT_EQ(lines[i].at("num_tokens").get<double>(), steps[i].at("num_tokens").get<double>())
        << "step " << i + 1;
  }
  EXPECT_LE(std::abs(drift), 1e-5);
  RecordProperty("worst_loss_difference", std::to_string(worst));
  RecordProperty("mean_drift", std::to_string(drift));
}

INSTANTIATE_TEST_SUITE_P(All, SftTrajectory,
                         ::testing::Values("prompt_completion", "assistant_only", "dft", "packing",
                                           "label_smoothing_cosine", "plain_text_sgd", "adafactor"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace rlhf
