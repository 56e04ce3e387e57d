// Ten optimizer steps of `rlhf ppo` against a plain PyTorch form of it, and where both do the same
// against TRL 1.12.0's PPOTrainer, recorded by tools/make_ppo_trajectories.py.
#include <gtest/gtest.h>

#include <cmath>

#include "policy_case.h"
#include "rlhf/train/ppo.h"
#include "tests/support/gzip.h"

namespace rlhf {
namespace {

using testing::Arguments;

fs::path recordings() { return testing::fixtures() / "ppo"; }

const Json& recorded() {
  static const Json all = read_gzip_json(recordings() / "trajectories.json.gz");
  return all;
}

std::vector<std::string> case_names(bool of_trl) {
  std::vector<std::string> names;
  for (const auto& [name, one] : recorded().at("cases").items()) {
    if (!of_trl || one.contains("trl")) names.push_back(name);
  }
  return names;
}

void add_options(const Json& options, Arguments& arguments) {
  for (const auto& [name, value] : options.items()) {
    if (value.is_null()) continue;
    arguments.push_back("--" + name);
    for (const Json& item : value.is_array() ? value : Json::array({value}))
      arguments.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  }
}

/// The folder, or a copy in `scratch` whose configuration says more than the fixture's.
fs::path changed_copy(const fs::path& folder, const fs::path& scratch, const char* file,
                      const Json& more) {
  const fs::path copy = scratch / folder.filename();
  fs::copy(folder, copy, fs::copy_options::recursive);
  Json config = Json::parse(read_file(copy / file));
  config.update(more);
  write_file(copy / file, config.dump());
  return copy;
}

fs::path reward_model_of(const Json& one, const fs::path& scratch) {
  const fs::path folder = testing::fixtures() / "preference" / "reward_model";
  if (!one.contains("moments")) return folder;
  const Json moments = {{"reward_mean", one.at("moments").at(0)},
                        {"reward_std", one.at("moments").at(1)}};
  return changed_copy(folder, scratch, "config.json", moments);
}

fs::path critic_of(const Json& one, const fs::path& scratch) {
  const auto name = one.at("critic").get<std::string>();
  if (name == "model") return testing::fixtures() / "model";
  const fs::path folder = testing::fixtures() / "preference" / name;
  if (!one.contains("adapter")) return folder;
  // The fixture names no base: its place on this machine is not known to it.
  return changed_copy(folder, scratch, "adapter_config.json",
                      {{"base_model_name_or_path", (testing::fixtures() / "model").string()}});
}

Arguments arguments_of(const Json& one, const fs::path& scratch) {
  Arguments arguments = {"--model_name_or_path",
                         (testing::fixtures() / "model").string(),
                         "--output_dir",
                         (scratch / "run").string(),
                         "--cache_dir",
                         (scratch / "cache").string(),
                         "--logging_steps",
                         "1",
                         "--save_strategy",
                         "no",
                         "--gradient_checkpointing",
                         "false",
                         "--dtype",
                         "float32",
                         "--threads",
                         "1"};
  add_options(recorded().at("common"), arguments);
  Arguments more;
  add_options(one.at("options"), more);
  const auto rows = one.at("rows").get<std::string>();
  const fs::path file = recordings() / (rows + ".jsonl.gz");
  if (rows == "prompts") {
    // Drawn here: the most likely token at each place. The critic starts from the reward model.
    more.insert(more.end(),
                {"--dataset_name", file.string(), "--shuffle_dataset", "false", "--top_k", "1",
                 "--reward_model_name_or_path", reward_model_of(one, scratch).string()});
  } else {
    more.insert(more.end(), {"--replay_completions", file.string(), "--value_model_name_or_path",
                             critic_of(one, scratch).string()});
  }
  if (one.contains("adapter")) {
    const fs::path adapter = testing::fixtures() / "preference" / one.at("adapter");
    more.insert(more.end(), {"--adapter_name_or_path", adapter.string()});
  }
  return testing::merged(arguments, more);
}

/// The lines of a case's run; each case runs once, whatever it is compared with.
const std::vector<Json>& lines_of(const std::string& name) {
  static std::map<std::string, std::vector<Json>> runs;
  if (const auto found = runs.find(name); found != runs.end()) return found->second;
  const fs::path scratch = testing::scratch("ppo_trajectory_" + name);
  const Json& one = recorded().at("cases").at(name);
  train_ppo(read_ppo_config(arguments_of(one, scratch), nullptr), {});
  return runs[name] = testing::metrics_of(scratch / "run");
}

/// fp32 on both sides with other summation orders: 1e-4·max(1, |x|) for every number of every step,
/// norms of gradients 1e-3 relative.
double bound_of(const std::string& metric, double value) {
  if (metric.ends_with("grad_norm")) return 1e-3 * value;
  if (metric == "learning_rate") return 1e-8 * value;  // nine digits are recorded
  return 1e-4 * std::max(1.0, std::abs(value));
}

class PpoTrajectory : public ::testing::TestWithParam<std::string> {};

TEST_P(PpoTrajectory, FollowsThePlainForm) {
  const auto& lines = lines_of(GetParam());
  for (const auto& [metric, values] : recorded().at("cases").at(GetParam()).at("steps").items()) {
    ASSERT_EQ(lines.size(), values.size()) << metric;
    double drift = 0.0;
    for (size_t i = 0; i < values.size(); ++i) {
      // The trainer says the norm of a policy that is held, too.
      if (values[i].is_null() && metric == "grad_norm") continue;
      ASSERT_EQ(lines[i].contains(metric), !values[i].is_null()) << metric << " at line " << i + 1;
      if (values[i].is_null()) continue;
      const double expected = values[i].get<double>();
      const double got = lines[i].at(metric).get<double>();
      EXPECT_NEAR(got, expected, bound_of(metric, expected)) << metric << " at line " << i + 1;
      drift += (got - expected) / std::max(1.0, std::abs(expected));
    }
    // A one-sided error would show in the mean.
    if (metric == "loss") {
      EXPECT_LE(std::abs(drift) / static_cast<double>(values.size()), 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PpoTrajectory, ::testing::ValuesIn(case_names(/*of_trl=*/false)),
                         [](const auto& param) { return param.param; });

class PpoTrl : public ::testing::TestWithParam<std::string> {};

// TRL logs means over the steps of a rollout.
TEST_P(PpoTrl, FollowsTrl) {
  const auto& lines = lines_of(GetParam());
  for (const auto& [metric, values] : recorded().at("cases").at(GetParam()).at("trl").items()) {
    const size_t every = lines.size() / values.size();
    for (size_t rollout = 0; rollout < values.size(); ++rollout) {
      double sum = 0.0;
      double count = 0.0;
      for (size_t i = rollout * every; i < (rollout + 1) * every; ++i) {
        if (!lines[i].contains(metric)) continue;
        sum += lines[i].at(metric).get<double>();
        count += 1.0;
      }
      ASSERT_GT(count, 0.0) << metric;
      const double expected = values[rollout].get<double>();
      EXPECT_NEAR(sum / count, expected, 1e-4 * std::max(1.0, std::abs(expected)))
          << metric << " of rollout " << rollout + 1;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, PpoTrl, ::testing::ValuesIn(case_names(/*of_trl=*/true)),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace rlhf
