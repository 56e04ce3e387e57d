// Fifty steps against TRL's preference trainers (1.16.0; BCO and process reward models of 1.12.0),
// recorded by tools/make_preference_trajectories.py.
#include <cmath>

#include "preference_case.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

using testing::Arguments;

const Json& recorded() {
  static const Json all = [] {
    Json cases = Json::object();
    for (const char* version : {"1.16.0", "1.12.0"}) {
      const Json one =
          read_gzip_json(testing::preference() / fmt::format("trajectories_{}.json.gz", version));
      for (const auto& [name, value] : one.at("cases").items()) cases[name] = value;
    }
    return cases;
  }();
  return all;
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& [name, value] : recorded().items()) names.push_back(name);
  return names;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Arguments arguments_of(const Json& one, const fs::path& output) {
  const auto folder = [](const Json& name) {
    const fs::path tiny = testing::fixtures() / "model";
    return (name == "model" ? tiny : testing::preference() / name.get<std::string>()).string();
  };
  Arguments arguments = {"--model_name_or_path",
                         folder(one.at("model")),
                         "--dataset_name",
                         folder(one.at("data")),
                         "--output_dir",
                         output.string(),
                         "--cache_dir",
                         (output.parent_path() / "cache").string(),
                         "--threads",
                         "2"};
  for (const auto& [name, value] : one.at("options").items()) {
    arguments.push_back("--" + name);
    if (!value.is_array()) {
      arguments.push_back(text_of(value));
      continue;
    }
    for (const Json& item : value) arguments.push_back(text_of(item));
  }
  if (one.at("command") == "kto" && one.at("data") == "pairs")
    arguments.insert(arguments.end(), {"--unpair", "true"});
  if (one.contains("adapter")) {
    arguments.insert(arguments.end(), {"--adapter_name_or_path", folder(one.at("adapter"))});
    // The adapter as it starts is the reference unless a model is named.
    if (one.value("reference", Json()) == "model")
      arguments.insert(arguments.end(), {"--ref_model_name_or_path", folder(one.at("model"))});
  }
  return arguments;
}

/// Bounds, fp32 on both sides with other summation orders: 1e-4·max(1, |x|) for every number of
/// every step, grad_norm 1e-3 relative, counts and shares exact.
double bound_of(const std::string& metric, double value) {
  if (metric == "grad_norm") return 1e-3 * value + 1e-12;  // exponentials that underflow to 0 there
  if (metric == "num_tokens") return 0.0;
  if (metric == "learning_rate") return 1e-8 * value;  // nine digits are recorded
  const bool share = metric.ends_with("accuracies") || metric.ends_with("accuracy");
  return share ? 1e-6 : 1e-4 * std::max(1.0, std::abs(value));  // shares are fp32 there
}

/// What is left out of `case_name`. With sft alone nothing needs a reference, so none is made only
/// to log rewards by; and TRL logs 0 for a likelihood that simpo without cpo_alpha does not
/// compute.
bool left_out(const std::string& case_name, const std::string& metric) {
  if (case_name == "dpo_sft") return metric.find("rewards/") != std::string::npos;
  return case_name == "simpo" && metric.ends_with("nll_loss");
}

/// At the first step policy and reference are the same model, and which of two equal rewards is
/// larger is a matter of the last bit.
bool decided_by_rounding(const std::string& metric, size_t step) {
  return step == 0 && metric == "rewards/accuracies";
}

void compare(const std::string& case_name, const std::vector<Json>& lines, const Json& steps,
             const std::string& prefix) {
  for (const auto& [metric, values] : steps.items()) {
    if (left_out(case_name, metric)) continue;
    ASSERT_EQ(lines.size(), values.size()) << metric;
    double drift = 0.0;
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i].is_null()) {
        EXPECT_FALSE(lines[i].contains(metric)) << metric << " at line " << i + 1;
        continue;
      }
      ASSERT_TRUE(lines[i].contains(metric)) << metric << " at line " << i + 1;
      const double expected = values[i].get<double>();
      const double got = lines[i].at(metric).get<double>();
      if (!(prefix.empty() && decided_by_rounding(metric, i))) {
        EXPECT_NEAR(got, expected, bound_of(metric, expected)) << metric << " at line " << i + 1;
      }
      drift += (got - expected) / std::max(1.0, std::abs(expected));
    }
    // A one-sided error would show in the mean.
    if (metric == prefix + "loss") {
      EXPECT_LE(std::abs(drift) / static_cast<double>(values.size()), 1e-5) << metric;
    }
  }
}

class PreferenceTrajectory : public ::testing::TestWithParam<std::string> {};

TEST_P(PreferenceTrajectory, FollowsTrl) {
  const Json& one = recorded().at(GetParam());
  const fs::path output = testing::scratch("preference_" + GetParam()) / "run";
  testing::train(one.at("command").get<std::string>(), arguments_of(one, output));
  std::vector<Json> training;
  std::vector<Json> evaluations;
  for (const Json& line : testing::metrics_of(output))
    (line.contains("loss") ? training : evaluations).push_back(line);
  compare(GetParam(), training, one.at("steps"), "");
  if (one.contains("evals")) compare(GetParam(), evaluations, one.at("evals"), "eval_");
}

INSTANTIATE_TEST_SUITE_P(All, PreferenceTrajectory, ::testing::ValuesIn(case_names()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace rlhf
