// What must not change a run of the preference trainers: how a step is cut, threads, recomputation,
// where the reference comes from; each at its promised level.
#include <cmath>
#include <numbers>

#include "preference_case.h"
#include "rlhf/models/safetensors.h"

namespace rlhf {
namespace {

using testing::Arguments;
using testing::data_of;
using testing::expect_same_trained;
using testing::lora;
using testing::lora_with_dropout;
using testing::model_of;
using testing::with;

struct Method {
  const char* name;
  const char* command;
  Arguments arguments;
};

void PrintTo(const Method& one, std::ostream* out) { *out << one.name; }

/// Six steps of four rows. SGD moves a weight by the learning rate times its gradient, whose norm
/// is clipped to 1: weights of size 0.2 move by some hundredths. One thread: on tensors this small
/// more cost time, most of all on a busy machine.
Arguments six_steps(const Arguments& more) {
  return with({"--max_steps", "6", "--per_device_train_batch_size", "4", "--lr_scheduler_type",
               "constant", "--learning_rate", "0.1", "--optim", "sgd", "--threads", "1"},
              more);
}

/// The run folder.
fs::path run(const Method& method, const std::string& name, const Arguments& more = {}) {
  const fs::path folder =
      testing::scratch(fmt::format("preference_equivalence_{}_{}", method.name, name));
  testing::train(method.command, testing::arguments_of(method.command, folder / "run",
                                                       six_steps(with(method.arguments, more))));
  return folder / "run";
}

double largest_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile left(testing::trained_file(a));
  const SafetensorsFile right(testing::trained_file(b));
  EXPECT_EQ(left.tensors().size(), right.tensors().size());
  double largest = 0.0;
  for (size_t i = 0; i < left.tensors().size(); ++i) {
    EXPECT_EQ(left.tensors()[i].name, right.tensors()[i].name);
    const auto difference = left.view(left.tensors()[i]) - right.view(right.tensors()[i]);
    largest = std::max(largest, difference.abs().max().item<double>());
  }
  return largest;
}

// fp32 sums in another order: gradients differ in their last bits, and so do weights.
constexpr double kTolerance = 1e-6;

class PreferenceEquivalence : public ::testing::TestWithParam<Method> {};

TEST_P(PreferenceEquivalence, AnyCutIntoMicroBatches) {
  const fs::path whole = run(GetParam(), "whole", {"--max_tokens_per_microbatch", "100000"});
  for (const char* budget : {"1", "90"}) {
    const fs::path cut =
        run(GetParam(), std::string("cut") + budget, {"--max_tokens_per_microbatch", budget});
    EXPECT_LE(largest_difference(whole, cut), kTolerance) << budget;
    EXPECT_EQ(testing::metrics_of(whole).back().at("num_tokens"),
              testing::metrics_of(cut).back().at("num_tokens"));
  }
  // The comparison is one: other rows in a step are further off than any cut.
  const fs::path other = run(GetParam(), "other", {"--per_device_train_batch_size", "3"});
  EXPECT_GT(largest_difference(whole, other), 100 * kTolerance);
}

// How many rows share a batch says nothing to the trainer: it sees the step's.
TEST_P(PreferenceEquivalence, AccumulationIsOneBatch) {
  const Arguments two = {"--per_device_train_batch_size", "2", "--gradient_accumulation_steps",
                         "2"};
  const fs::path whole = run(GetParam(), "batch4");
  const fs::path accumulated = run(GetParam(), "accumulated", two);
  expect_same_trained(whole, accumulated);
  EXPECT_EQ(testing::metrics_of(whole).back().at("loss"),
            testing::metrics_of(accumulated).back().at("loss"));
}

TEST_P(PreferenceEquivalence, ThreadCount) {
  EXPECT_LE(largest_difference(run(GetParam(), "threads1", {"--threads", "1"}),
                               run(GetParam(), "threads2", {"--threads", "2"})),
            kTolerance);
}

TEST_P(PreferenceEquivalence, CheckpointedLayersBitForBit) {
  expect_same_trained(run(GetParam(), "plain"),
                      run(GetParam(), "recomputed", {"--gradient_checkpointing", "true"}));
}

INSTANTIATE_TEST_SUITE_P(
    All, PreferenceEquivalence,
    ::testing::Values(Method{"sigmoid", "dpo", {}}, Method{"aot", "dpo", {"--loss_type", "aot"}},
                      Method{"sigmoid_sft", "dpo", {"--loss_type", "sigmoid", "sft"}},
                      Method{"orpo", "dpo", {"--loss_type", "orpo"}}, Method{"lora", "dpo", lora()},
                      Method{"lora_dropout", "dpo", lora_with_dropout()},
                      Method{"aot_dropout", "dpo", lora_with_dropout({"--loss_type", "aot"})},
                      Method{"kto", "kto", {}}, Method{"bco", "kto", {"--loss_type", "bco"}},
                      Method{"bco_dropout", "kto", lora_with_dropout({"--loss_type", "bco"})},
                      Method{"reward", "reward", {}},
                      Method{"reward_dropout", "reward", lora_with_dropout()},
                      Method{"prm", "prm", {}}, Method{"prm_dropout", "prm", lora_with_dropout()}),
    [](const auto& param) { return param.param.name; });

const Method kDpo = {"dpo", "dpo", {}};
const Method kDpoLora = {"dpo_lora", "dpo", lora()};
const Method kKto = {"kto_reference", "kto", {}};
const Method kKtoLora = {"kto_lora", "kto", lora()};

class PreferenceReference : public ::testing::TestWithParam<Method> {};

// A table holds the fp32 log-probabilities that a live reference would give, from passes cut
// elsewhere.
TEST_P(PreferenceReference, TableOrLive) {
  const fs::path table = run(GetParam(), "table", {"--precompute_ref_log_probs", "true"});
  const fs::path live = run(GetParam(), "live", {"--precompute_ref_log_probs", "false"});
  EXPECT_LE(largest_difference(table, live), kTolerance);
  const auto left = testing::metrics_of(table);
  const auto right = testing::metrics_of(live);
  ASSERT_EQ(left.size(), 6U);
  ASSERT_EQ(right.size(), 6U);
  for (size_t i = 0; i < left.size(); ++i)
    EXPECT_NEAR(left[i].at("loss").get<double>(), right[i].at("loss").get<double>(), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(
    All, PreferenceReference,
    ::testing::Values(kDpo, kDpoLora, kKto, kKtoLora,
                      Method{"dpo_start_adapter",
                             "dpo",
                             {"--adapter_name_or_path",
                              (testing::preference() / "adapter_lora").string()}}),
    [](const auto& param) { return param.param.name; });

// A new adapter changes nothing, so policy and reference are one model: both rewards are sums of
// zeros, and the loss is −log σ(0) = ln 2.
TEST(PreferenceReference, AdapterOffIsTheBaseModelExactly) {
  const fs::path output = run(kDpoLora, "off", {"--max_steps", "2"});
  const auto lines = testing::metrics_of(output);
  EXPECT_EQ(lines[0].at("rewards/margins").get<double>(), 0.0);
  EXPECT_EQ(lines[0].at("rewards/chosen").get<double>(), 0.0);
  EXPECT_EQ(lines[0].at("rewards/rejected").get<double>(), 0.0);
  EXPECT_NEAR(lines[0].at("loss").get<double>(), std::numbers::ln2, 1e-6);
  EXPECT_NE(lines[1].at("rewards/margins").get<double>(), 0.0) << "the adapter has not moved";
}

// The base model under its own name as the reference.
TEST(PreferenceReference, AdapterOffIsTheBaseFolder) {
  const fs::path off = run(kDpoLora, "adapter_off");
  const fs::path named = run(kDpoLora, "named",
                             {"--ref_model_name_or_path", model_of("dpo").string(),
                              "--precompute_ref_log_probs", "false"});
  expect_same_trained(off, named);
}

/// Runs with one cache folder and counts what the reference was asked for.
class PreferenceTable : public ::testing::Test {
 protected:
  PreferenceTable()
      : folder_(testing::scratch(std::string("table_") +
                                 ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::copy(model_of("dpo"), folder_ / "model");
    fs::copy_file(data_of("dpo"), folder_ / "pairs.jsonl");
  }

  /// Rows whose log-probabilities were computed in a run.
  int64_t computed(const Arguments& more = {}) {
    const fs::path output = folder_ / fmt::format("run{}", ++runs_);
    const Arguments own = {"--model_name_or_path",
                           (folder_ / "model").string(),
                           "--dataset_name",
                           (folder_ / "pairs.jsonl").string(),
                           "--output_dir",
                           output.string(),
                           "--cache_dir",
                           (folder_ / "cache").string(),
                           "--train_sampling_strategy",
                           "sequential"};
    int64_t rows = 0;
    TrainHooks hooks;
    hooks.on_reference = [&](int64_t done, int64_t total) {
      EXPECT_EQ(total, 24) << "six steps of four rows";
      rows = done;
    };
    testing::train("dpo", testing::arguments_of("dpo", output, six_steps(with(own, more))), hooks);
    return rows;
  }

  fs::path folder_;

 private:
  int runs_ = 0;
};

TEST_F(PreferenceTable, IsTakenAgainForTheSameWeightsAndRows) {
  EXPECT_EQ(computed(), 24);
  EXPECT_EQ(computed(), 0);
  EXPECT_EQ(computed({"--beta", "0.3", "--learning_rate", "1e-3"}), 0) << "the reference is as was";
}

TEST_F(PreferenceTable, IsMadeAnewForOtherWeights) {
  EXPECT_EQ(computed(), 24);
  testing::change_a_weight(folder_ / "model");
  EXPECT_EQ(computed(), 24);
  EXPECT_EQ(computed(), 0);
}

// The same weights compute something else under another configuration.
TEST_F(PreferenceTable, IsMadeAnewForAnotherConfiguration) {
  EXPECT_EQ(computed(), 24);
  const fs::path path = folder_ / "model" / "config.json";
  Json config = Json::parse(read_file(path));
  config["rms_norm_eps"] = 1e-3;
  write_file(path, config.dump());
  EXPECT_EQ(computed(), 24);
  EXPECT_EQ(computed(), 0);
}

// Nor do the same adapter tensors at another scale.
TEST_F(PreferenceTable, IsMadeAnewForAnotherScaleOfTheStartAdapter) {
  const fs::path adapter = folder_ / "adapter";
  fs::copy(testing::preference() / "adapter_lora", adapter);
  const Arguments start = {"--adapter_name_or_path", adapter.string(), "--precompute_ref_log_probs",
                           "true"};
  EXPECT_EQ(computed(start), 24);
  EXPECT_EQ(computed(start), 0);
  const fs::path path = adapter / "adapter_config.json";
  Json config = Json::parse(read_file(path));
  config["lora_alpha"] = 2 * config.at("lora_alpha").get<int64_t>();
  write_file(path, config.dump());
  EXPECT_EQ(computed(start), 24);
}

TEST_F(PreferenceTable, IsMadeAnewForOtherRows) {
  EXPECT_EQ(computed(), 24);
  const std::string text = read_file(folder_ / "pairs.jsonl");
  const size_t end = text.find('\n');
  Json first = Json::parse(text.substr(0, end));
  first["rejected"] = first.at("rejected").get<std::string>() + "a";
  write_file(folder_ / "pairs.jsonl", first.dump() + text.substr(end));
  EXPECT_EQ(computed(), 24);
}

TEST_F(PreferenceTable, IsMadeAnewForOtherLengths) {
  EXPECT_EQ(computed(), 24);
  EXPECT_EQ(computed({"--max_length", "24"}), 24);
}

TEST_F(PreferenceTable, IsMadeAnewForOtherRowsOfTheSameData) {
  EXPECT_EQ(computed(), 24);
  EXPECT_EQ(computed({"--train_sampling_strategy", "random"}), 24);
}

}  // namespace
}  // namespace rlhf
