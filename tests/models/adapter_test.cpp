// Adapters against PEFT (tools/make_lora_goldens.py): its folders give its numbers and gradients
// here, ours have its keys and configuration; off, recomputed and merged.
#include "rlhf/models/adapter.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "rlhf/models/adapter_folder.h"
#include "tests/models/adapter_cases.h"

namespace rlhf {
namespace {

using testing::AdapterFolders;
using testing::find_case;
using testing::ids_of;
using testing::loss_of;
using testing::outputs;
using testing::pack;

class AdapterCase : public ::testing::TestWithParam<std::string> {
 protected:
  AdapterCase() : folders_(GetParam()), rows_(pack(ids_of(find_case(folders_.one()["base"])))) {}

  Model load() const { return load_adapted_model(folders_.adapter()); }
  const Json& one() const { return folders_.one(); }

  AdapterFolders folders_;
  testing::Rows rows_;
};

at::Tensor joined(const std::vector<at::Tensor>& rows) { return at::cat(rows); }

at::Tensor expected_outputs(const Json& one) {
  std::vector<at::Tensor> rows;
  for (const auto& row : one["outputs"]) {
    auto values = row.get<std::vector<float>>();
    auto tensor = at::empty({std::ssize(values)}, at::kFloat);
    std::copy(values.begin(), values.end(), tensor.data_ptr<float>());
    rows.push_back(tensor);
  }
  return at::cat(rows);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

/// Gradients of all trained tensors, by name.
std::map<std::string, at::Tensor> gradients(const Decoder& decoder, const testing::Rows& rows,
                                            const ForwardOptions& options = {}) {
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : decoder.trainable()) tensors.push_back(tensor);
  const auto found =
      torch::autograd::grad({loss_of(decoder, outputs(decoder, rows, options))}, tensors);
  std::map<std::string, at::Tensor> by_name;
  size_t i = 0;
  for (const auto& [name, tensor] : decoder.trainable()) by_name[name] = found[i++];
  return by_name;
}

TEST_P(AdapterCase, GivesPeftsNumbers) {
  const auto model = load();
  // float32 in another order of sums: below 2e-6 of numbers up to some 8 as measured.
  EXPECT_LT(largest_difference(joined(outputs(model.decoder, rows_)), expected_outputs(one())),
            1e-5);
}

TEST_P(AdapterCase, GivesPeftsGradients) {
  auto model = load();
  model.decoder.set_requires_grad(true);
  const auto found = gradients(model.decoder, rows_);
  std::set<std::string> expected;
  for (const auto& [name, numbers] : one()["gradients"].items()) expected.insert(name);
  std::set<std::string> names;
  for (const auto& [name, tensor] : found) names.insert(name);
  EXPECT_EQ(names, expected);
  for (const auto& [name, tensor] : found) {
    const Json along{{"shape", tensor.sizes().vec()}, {"center", 0.0}, {"amplitude", 1.0}};
    const double norm = one()["gradients"][name][0].get<double>();
    const double product = one()["gradients"][name][1].get<double>();
    // Sums of many float32 products: 2e-5 of the norm, as for the models themselves.
    EXPECT_NEAR(tensor.norm().item<double>(), norm, 2e-5 * norm + 1e-6) << name;
    EXPECT_NEAR((tensor * testing::make_weight(name, along)).sum().item<double>(), product,
                1e-4 * norm + 1e-6)
        << name;
  }
}

TEST_P(AdapterCase, RecomputedLayersGiveEqualGradients) {
  auto model = load();
  model.decoder.set_requires_grad(true);
  const auto plain = gradients(model.decoder, rows_);
  ForwardOptions options;
  options.checkpoint_layers = true;
  const auto again = gradients(model.decoder, rows_, options);
  for (const auto& [name, tensor] : plain) EXPECT_TRUE(at::equal(tensor, again.at(name))) << name;
}

TEST_P(AdapterCase, OffIsTheBaseBitForBit) {
  auto model = load();
  LoadOptions how;
  how.task = model.decoder.config().task;
  how.labels = std::max<int64_t>(1, model.decoder.config().labels);
  const auto base = load_model(folders_.base(), how);
  const auto with = joined(outputs(model.decoder, rows_));
  {
    const AdapterScope off(model.decoder, -1);
    EXPECT_TRUE(
        at::equal(joined(outputs(model.decoder, rows_)), joined(outputs(base.decoder, rows_))));
  }
  EXPECT_EQ(model.decoder.active_adapter(), 0);
  EXPECT_TRUE(at::equal(joined(outputs(model.decoder, rows_)), with));
}

TEST_P(AdapterCase, WritesPeftsKeysAndConfiguration) {
  const auto model = load();
  const auto target = folders_.path() / "saved";
  fs::create_directory(target);
  save_adapter(model.decoder.adapter(0), model.decoder.config(), target);
  auto config = Json::parse(read_file(target / kAdapterConfig));
  auto expected = one()["adapter_config"];
  expected["base_model_name_or_path"] = "../base";
  EXPECT_EQ(config, expected);
  const SafetensorsFile ours(target / kAdapterWeights);
  const SafetensorsFile theirs(folders_.adapter() / kAdapterWeights);
  ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
  for (size_t i = 0; i < ours.tensors().size(); ++i) {
    EXPECT_EQ(ours.tensors()[i].name, theirs.tensors()[i].name);
    EXPECT_TRUE(at::equal(ours.view(ours.tensors()[i]), theirs.view(theirs.tensors()[i])));
  }
}

TEST_P(AdapterCase, NewOnesStartWherePeftsDo) {
  auto model = load();
  auto config = load_lora_config(folders_.adapter());
  const auto fresh = make_adapter(model.decoder, config, /*seed=*/1);
  std::set<std::string> names;
  for (const auto& [name, tensor] : fresh.tensors()) {
    names.insert(name);
    if (!one()["initial"].contains(name)) continue;
    const double largest = tensor.abs().max().item<double>();
    const double theirs = one()["initial"][name].get<double>();
    if (name.ends_with(
            "lora_A.weight")) {  // uniform up to a bound of which we see 64 draws or more
      EXPECT_LE(largest, 1.0 / std::sqrt(static_cast<double>(tensor.size(1)))) << name;
      EXPECT_NEAR(largest, theirs, 0.2 * theirs) << name;
    } else {  // zero, or a norm in float32
      EXPECT_NEAR(largest, theirs, 1e-6) << name;
    }
  }
  std::set<std::string> expected;
  for (const auto& [name, numbers] : one()["gradients"].items()) expected.insert(name);
  EXPECT_EQ(names, expected);
  EXPECT_TRUE(changes_nothing(model.decoder, fresh));
  EXPECT_FALSE(changes_nothing(model.decoder, model.decoder.adapter(0)));
  // Step 0: policy equals reference, exactly.
  model.decoder.use_adapter(-1);
  const auto base = joined(outputs(model.decoder, rows_));
  model.decoder.use_adapter(model.decoder.add_adapter(fresh));
  EXPECT_TRUE(at::equal(joined(outputs(model.decoder, rows_)), base));
}

TEST_P(AdapterCase, MergedModelDoesTheSame) {
  const auto model = load();
  const auto merged = merge_adapter(model, 0);
  // Matrices near 1 rounded once to float32, and sums in another order.
  const auto with = joined(outputs(model.decoder, rows_));
  EXPECT_LT(largest_difference(joined(outputs(merged.decoder, rows_)), with), 1e-5);
  const auto target = folders_.path() / "merged";
  fs::create_directory(target);
  save_model(merged, target);
  const auto again = load_model(target);
  EXPECT_TRUE(
      at::equal(joined(outputs(again.decoder, rows_)), joined(outputs(merged.decoder, rows_))));
}

/// For tools/check_saved_adapters.py: a base, a new adapter of ours with other values than PEFT's,
/// the merged model, and what we compute with it.
TEST_P(AdapterCase, LeavesItsFolders) {
  const char* out = std::getenv("RLHF_SAVED_ADAPTERS");
  if (out == nullptr) GTEST_SKIP() << "RLHF_SAVED_ADAPTERS names no folder";
  const auto folder = fs::path(out) / GetParam();
  fs::create_directories(folder / "adapter");
  fs::create_directories(folder / "merged");
  testing::write_base(one()["base"], folder / "base");
  auto model = load();
  auto& decoder = model.decoder;
  auto config = load_lora_config(folders_.adapter());
  config.base_model = fs::absolute(folder / "base").string();
  const int number = decoder.add_adapter(make_adapter(decoder, config, /*seed=*/7));
  decoder.use_adapter(number);
  at::manual_seed(7);
  for (const auto& [name, tensor] : decoder.trainable()) {
    at::Tensor(tensor).add_(at::randn_like(tensor), 0.1);
  }
  save_adapter(decoder.adapter(number), decoder.config(), folder / "adapter");
  save_model(merge_adapter(model, number), folder / "merged");
  Json found = Json::array();
  for (const auto& row : outputs(decoder, rows_)) {
    const auto plain = row.detach().contiguous();
    const float* values = plain.const_data_ptr<float>();
    found.push_back(std::vector<float>(values, values + plain.numel()));
  }
  const auto ids = ids_of(find_case(one()["base"]));
  write_file(folder / "case.json", Json({{"ids", ids}, {"outputs", found}}).dump());
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& one : testing::adapter_cases()) names.push_back(one["name"]);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Peft, AdapterCase, ::testing::ValuesIn(case_names()),
                         [](const auto& one) { return one.param; });

TEST(Adapter, ReadsPeftsOwnFile) {
  const AdapterFolders folders("llama_dora");
  const auto base = load_model(folders.base());
  const auto theirs = load_adapter(std::string(RLHF_FIXTURES) + "/lora/llama_dora", base);
  const auto ours = load_adapter(folders.adapter(), base);
  const auto expected = ours.tensors();
  const auto found = theirs.tensors();
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].name, expected[i].name);
    EXPECT_TRUE(at::equal(found[i].tensor, expected[i].tensor));
  }
}

TEST(Adapter, EachPassKeepsItsAdapterInItsBackward) {
  const AdapterFolders folders("llama_rslora");
  const auto rows = pack(ids_of(find_case("llama")));
  auto model = load_adapted_model(folders.adapter());
  auto& decoder = model.decoder;
  decoder.set_requires_grad(true);
  const auto expected = gradients(decoder, rows);
  const int second = decoder.add_adapter(clone_adapter(decoder.adapter(0)));
  ForwardOptions options;
  options.checkpoint_layers = true;
  const auto loss = loss_of(decoder, outputs(decoder, rows, options));
  const auto first = decoder.trainable();
  decoder.use_adapter(second);
  decoder.set_requires_grad(true);
  std::vector<at::Tensor> tensors;
  for (const auto& [name, tensor] : first) tensors.push_back(tensor);
  const auto found = torch::autograd::grad({loss}, tensors);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(at::equal(found[i], expected.at(first[i].name))) << first[i].name;
  }
}

TEST(Adapter, FrozenCopyStaysWhatItWas) {
  const AdapterFolders folders("llama_dora");
  const auto rows = pack(ids_of(find_case("llama")));
  auto model = load_adapted_model(folders.adapter());
  const int copy = model.decoder.add_adapter(clone_adapter(model.decoder.adapter(0)));
  const auto before = joined(outputs(model.decoder, rows));
  for (const auto& [name, tensor] : model.decoder.trainable()) at::Tensor(tensor).mul_(1.5);
  EXPECT_FALSE(at::equal(joined(outputs(model.decoder, rows)), before));
  const AdapterScope scope(model.decoder, copy);
  EXPECT_TRUE(at::equal(joined(outputs(model.decoder, rows)), before));
}

TEST(Adapter, OneStepMovesEveryB) {
  for (const bool recompute : {false, true}) {
    for (const char* base : {"llama", "gpt2"}) {
      testing::TemporaryFolder folder;
      testing::write_base(base, folder.path());
      auto model = load_model(folder.path());
      LoraConfig config;
      config.r = 4;
      config.target_modules = {"all-linear"};
      model.decoder.use_adapter(model.decoder.add_adapter(make_adapter(model.decoder, config, 3)));
      model.decoder.set_requires_grad(true);
      ForwardOptions options;
      options.checkpoint_layers = recompute;
      const auto found = gradients(model.decoder, pack(ids_of(find_case(base))), options);
      for (const auto& [name, tensor] : model.decoder.trainable()) {
        const at::NoGradGuard no_grad;
        // What AdamW's first step does up to its ε: a step of one size against the gradient's sign.
        at::Tensor(tensor).sub_(found.at(name).sign(), 1e-3);
        if (name.ends_with("lora_B.weight")) {
          EXPECT_GT(tensor.norm().item<double>(), 0.0) << base << " " << name;
        }
      }
    }
  }
}

TEST(Adapter, DropoutDoesNotDependOnTheCut) {
  AdapterFolders folders("llama_dora");
  folders.config()["lora_dropout"] = 0.3;
  folders.write();
  const auto model = load_adapted_model(folders.adapter());
  const auto rows = ids_of(find_case("llama"));
  ForwardOptions options;
  options.dropout = DropoutKey{.seed = 1, .step = 4, .first_token = 0};
  const auto whole = joined(outputs(model.decoder, pack(rows), options));
  const auto first = joined(outputs(model.decoder, pack({rows[0]}), options));
  options.dropout->first_token = std::ssize(rows[0]);
  const auto rest = joined(outputs(model.decoder, pack({rows[1], rows[2]}), options));
  // Sums of another number of rows may differ in the last bits.
  EXPECT_LT(largest_difference(at::cat({first, rest}), whole), 1e-5);
  EXPECT_GT(largest_difference(joined(outputs(model.decoder, pack(rows))), whole), 1e-3);
}

TEST(Adapter, DropoutDoesNotDependOnTheRowsAskedFor) {
  AdapterFolders folders("llama_dora");
  folders.config()["lora_dropout"] = 0.3;
  folders.write();
  const auto model = load_adapted_model(folders.adapter());
  const auto rows = pack(ids_of(find_case("llama")));
  const auto wanted = at::tensor({1, 4, 9}, at::kLong);
  const auto hidden = [&](const at::Tensor& asked, const ForwardOptions& options) {
    PackedAttention attention(rows.segments);
    return model.decoder.forward(rows.ids, rows.positions, attention, asked, options);
  };
  ForwardOptions options;
  options.dropout = DropoutKey{.seed = 1, .step = 4, .first_token = 50};
  const auto all = hidden({}, options).index_select(0, wanted);
  // Sums of another number of rows may differ in the last bits.
  EXPECT_LT(largest_difference(hidden(wanted, options), all), 1e-5);
  EXPECT_GT(largest_difference(hidden(wanted, {}), all), 1e-3);
}

}  // namespace
}  // namespace rlhf
