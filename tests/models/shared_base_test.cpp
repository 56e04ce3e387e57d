// Models that stand on the weights of another: the same tensors, by their addresses, and the same
// values as a model read from the folder.
#include <gtest/gtest.h>

#include <optional>

#include "rlhf/models/adapter.h"
#include "rlhf/models/classifier.h"
#include "tests/models/adapter_cases.h"
#include "tests/models/folders.h"
#include "tests/models/temporary_folder.h"

namespace rlhf {
namespace {

using testing::AdapterFolders;
using testing::find_case;
using testing::make_folder;
using testing::TemporaryFolder;

const LoadOptions kFp32{.dtype = at::kFloat};
const LoadOptions kReward{
    .dtype = at::kFloat, .seed = 5, .task = ModelTask::sequence_classification};

std::map<std::string, at::Tensor> by_name(const Model& model) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : model.decoder.tensors()) tensors[name] = tensor;
  return tensors;
}

bool is_score(const std::string& name) { return name.starts_with("score"); }

/// Every tensor but a score head lies where `base` has it.
void expect_same_places(const Model& model, const Model& base) {
  const auto held = by_name(base);
  for (const auto& [name, tensor] : by_name(model)) {
    if (is_score(name)) continue;
    EXPECT_EQ(tensor.const_data_ptr(), held.at(name).const_data_ptr()) << name;
  }
}

bool shares_anything(const Model& a, const Model& b) {
  const auto held = by_name(b);
  for (const auto& [name, tensor] : by_name(a)) {
    const auto found = held.find(name);
    if (found != held.end() && found->second.const_data_ptr() == tensor.const_data_ptr())
      return true;
  }
  return false;
}

void expect_same_model(const Model& got, const Model& alone) {
  EXPECT_EQ(got.config, alone.config);
  EXPECT_EQ(got.stored_dtype, alone.stored_dtype);
  const auto expected = by_name(alone);
  const auto tensors = by_name(got);
  ASSERT_EQ(tensors.size(), expected.size());
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(tensor.scalar_type(), expected.at(name).scalar_type()) << name;
    EXPECT_TRUE(tensor.equal(expected.at(name))) << name;
  }
}

class SharedBase : public ::testing::Test {
 protected:
  /// A folder of a case, stored in bfloat16: fp32 is a conversion.
  fs::path folder(const std::string& name) {
    const auto path = temporary_.path() / name;
    if (fs::create_directories(path)) make_folder(find_case(name), path, at::kBFloat16);
    return path;
  }
  TemporaryFolder temporary_;
};

// Heads of their own and tied ones, other names, a head under two names.
TEST_F(SharedBase, AClassifierStandsOnALanguageModel) {
  int tied = 0;
  for (const char* name : {"llama", "llama_tied", "gpt2", "gpt_neox"}) {
    SCOPED_TRACE(name);
    std::optional<Model> base = load_model(folder(name), kFp32);
    tied += base->decoder.config().tied ? 1 : 0;
    const Model* held = &*base;
    const Model shared = load_model(folder(name), kReward, {&held, 1});
    expect_same_places(shared, *base);
    base.reset();
    expect_same_model(shared, load_model(folder(name), kReward));
  }
  EXPECT_GT(tied, 0);
  EXPECT_LT(tied, 4);
}

TEST_F(SharedBase, EveryRoleStandsOnAClassifierFolder) {
  const Model base = load_model(folder("llama_reward"), kReward);
  const Model* held = &base;
  const Model shared = load_model(folder("llama_reward"), kReward, {&held, 1});
  expect_same_places(shared, base);
  for (const auto& [name, tensor] : by_name(shared)) {
    if (is_score(name)) {
      EXPECT_EQ(tensor.const_data_ptr(), by_name(base).at(name).const_data_ptr());
    }
  }
}

// A score head that is not the folder's is no one else's; a head that a classifier dropped is not
// there to be shared.
TEST_F(SharedBase, ALanguageModelStandsOnAClassifierWhereItsHeadIsTied) {
  for (const char* name : {"llama", "llama_tied"}) {
    SCOPED_TRACE(name);
    const Model base = load_model(folder(name), kReward);
    const Model* held = &base;
    const Model shared = load_model(folder(name), kFp32, {&held, 1});
    EXPECT_EQ(shares_anything(shared, base), shared.decoder.config().tied);
    expect_same_model(shared, load_model(folder(name), kFp32));
  }
}

TEST_F(SharedBase, OtherWeightsAreNotTaken) {
  const fs::path own = folder("llama");
  const fs::path copy = temporary_.path() / "copy";
  fs::copy(own, copy);
  const Model frozen = load_model(own, kFp32);
  const Model trained = load_model(own, {.dtype = at::kFloat, .trainable = true});
  const Model random = load_model(own, {.dtype = at::kFloat, .from_scratch = true});
  const auto shares = [](const Model& base, const fs::path& path, const LoadOptions& options) {
    const Model* held = &base;
    return shares_anything(load_model(path, options, {&held, 1}), base);
  };
  EXPECT_TRUE(shares(frozen, own, kFp32));
  EXPECT_TRUE(shares(frozen, own / "." / "", kFp32));
  EXPECT_FALSE(shares(frozen, copy, kFp32));
  EXPECT_FALSE(shares(frozen, own, {.dtype = at::kBFloat16}));
  EXPECT_FALSE(shares(frozen, own, {.dtype = {}}));  // the stored type: bfloat16
  EXPECT_FALSE(shares(frozen, own, {.dtype = at::kFloat, .trainable = true}));
  EXPECT_FALSE(shares(frozen, own, {.dtype = at::kFloat, .from_scratch = true}));
  EXPECT_FALSE(shares(trained, own, kFp32));
  EXPECT_FALSE(shares(random, own, kFp32));
  // The first that fits is taken.
  const std::vector<const Model*> several = {&trained, &random, &frozen};
  EXPECT_TRUE(shares_anything(load_model(own, kFp32, several), frozen));
}

// Padding and statistics of a reward adapter, which config.json of its base cannot hold.
TEST(ClassifierKeys, StandBesideTheAdapter) {
  const AdapterFolders folders("llama_scores");
  const Json before = load_adapted_model(folders.adapter()).config;
  EXPECT_FALSE(load_reward_statistics(folders.adapter()).has_value());
  Json config = {{"pad_token_id", 3}, {"vocab_size", 9}};
  set_reward_statistics(config, {.mean = -0.25, .std = 1.5});
  save_classifier_keys(config, folders.adapter());
  EXPECT_EQ(Json::parse(read_file(folders.adapter() / "classifier_config.json")),
            Json({{"pad_token_id", 3}, {"reward_mean", -0.25}, {"reward_std", 1.5}}));
  const Model model = load_adapted_model(folders.adapter());
  Json expected = before;
  expected["pad_token_id"] = 3;
  expected["reward_mean"] = -0.25;
  expected["reward_std"] = 1.5;
  EXPECT_EQ(model.config, expected);
  EXPECT_EQ(model.decoder.config().pad_id, 3);
  const auto statistics = load_reward_statistics(folders.adapter());
  ASSERT_TRUE(statistics.has_value());
  EXPECT_EQ(statistics->mean, -0.25);
  EXPECT_EQ(statistics->std, 1.5);
}

TEST(ClassifierKeys, WrongOnesAreRefused) {
  const AdapterFolders folders("llama_scores");
  for (const char* text : {"[]", "{\"pad_token_id\": \"x\"}", "{\"reward_mean\": 1}",
                           "{\"reward_mean\": 1, \"reward_std\": 0}", "{"}) {
    write_file(folders.adapter() / "classifier_config.json", text);
    EXPECT_THROW(load_adapted_model(folders.adapter()), UserError) << text;
  }
}

}  // namespace
}  // namespace rlhf
