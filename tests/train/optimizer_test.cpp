// Golden values: tools/make_train_goldens.py (torch.optim and transformers' Adafactor).
#include "rlhf/train/optimizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "rlhf/core/error.h"
#include "rlhf/core/file.h"

namespace rlhf {
namespace {

const Json& goldens() {
  static const Json all =
      Json::parse(read_file(fs::path(RLHF_FIXTURES) / "train/optimization.json"));
  return all;
}

at::Tensor values(const Json& numbers, const std::string& name) {
  const auto flat =
      at::tensor(numbers.at(name).get<std::vector<double>>(), at::kDouble).to(at::kFloat);
  return name == "layer.weight" ? flat.view({4, 6}) : flat;
}

std::vector<NamedTensor> tensors_of(const Json& numbers) {
  std::vector<NamedTensor> tensors;
  for (const char* name : {"layer.weight", "layer.bias"}) {
    tensors.push_back({name, values(numbers, name).clone().set_requires_grad(true)});
  }
  return tensors;
}

OptimizerOptions options_of(const std::string& name) {
  OptimizerOptions options{.weight_decay = 0.1};
  if (name == "adamw") {
    options.beta1 = 0.8;
    options.beta2 = 0.95;
    options.epsilon = 1e-6;
  } else if (name == "adafactor") {
    options.kind = OptimizerKind::adafactor;
  } else {
    options.kind = OptimizerKind::sgd;
    options.momentum = 0.9;
    options.dampening = name == "sgd" ? 0.2 : 0.0;
    options.nesterov = name == "sgd_nesterov";
  }
  return options;
}

class OptimizerGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(OptimizerGolden, StepsEqualTheOriginalAcrossACheckpoint) {
  const Json& golden = goldens().at("optimizers").at(GetParam());
  auto tensors = tensors_of(golden.at("start"));
  auto optimizer = std::make_unique<Optimizer>(options_of(GetParam()), tensors);
  int64_t step = 0;
  for (const Json& entry : golden.at("history")) {
    for (auto& [name, tensor] : tensors)
      tensor.mutable_grad() = values(entry.at("gradients"), name);
    optimizer->step(1e-2);
    for (const auto& [name, tensor] : tensors) {
      // fp32 on both sides, a handful of operations each step: 2e-6 absolute on values of size 1.
      EXPECT_TRUE(tensor.detach().allclose(values(entry.at("weights"), name), 0, 2e-6))
          << name << " after step " << step;
      EXPECT_FALSE(tensor.grad().defined());
    }
    std::map<std::string, at::Tensor> state;
    for (const auto& [name, tensor] : optimizer->state()) state[name] = tensor.clone();
    optimizer = std::make_unique<Optimizer>(options_of(GetParam()), tensors);
    optimizer->set_state(state, ++step);
  }
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerGolden,
                         ::testing::Values("adamw", "sgd", "sgd_nesterov", "adafactor"),
                         [](const auto& param) { return param.param; });

TEST(Optimizer, GradientScaleIsTheClipCoefficient) {
  const Json& golden = goldens().at("optimizers").at("sgd");
  auto scaled = tensors_of(golden.at("start"));
  auto plain = tensors_of(golden.at("start"));
  Optimizer a(options_of("sgd"), scaled);
  Optimizer b(options_of("sgd"), plain);
  for (size_t i = 0; i < scaled.size(); ++i) {
    const auto gradient = at::ones_like(plain[i].tensor);
    scaled[i].tensor.mutable_grad() = gradient * 4.0;
    plain[i].tensor.mutable_grad() = gradient;
  }
  // √(30 · 4²) over 24 + 6 elements.
  EXPECT_NEAR(a.gradient_norm(), std::sqrt(30.0 * 16.0), 1e-9);
  a.step(1e-2, 0.25);
  b.step(1e-2);
  for (size_t i = 0; i < scaled.size(); ++i) EXPECT_TRUE(scaled[i].tensor.equal(plain[i].tensor));
}

// Trap O1: updates far below a bf16 weight's spacing must add up in the fp32 master.
TEST(Optimizer, SmallStepsMoveBf16Weights) {
  auto weight = at::ones({4, 4}, at::kBFloat16).set_requires_grad(true);
  Optimizer optimizer({}, {{"w", weight}});
  for (int step = 0; step < 1000; ++step) {
    weight.mutable_grad() = at::ones_like(weight);
    optimizer.step(1e-5);
  }
  // AdamW with a constant gradient moves by the learning rate each step: 1 − 1000·1e-5 = 0.99, to
  // bf16's spacing 2^-8.
  EXPECT_NEAR(weight.detach().to(at::kFloat).mean().item<double>(), 0.99, 0.004);
  EXPECT_NEAR(optimizer.state().at("master.w").mean().item<double>(), 0.99, 1e-4);
}

// 64 · 64 numbers are the fewest in 8 bits; 63 · 65 are one less; the last one is an embedding.
std::vector<NamedTensor> large_tensors(at::ScalarType type) {
  at::manual_seed(3);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, rows, columns] :
       {std::tuple("layer.weight", 64, 64), std::tuple("small.weight", 63, 65),
        std::tuple("model.embed_tokens.weight", 130, 64)}) {
    tensors.push_back({name, at::randn({rows, columns}).to(type).set_requires_grad(true)});
  }
  return tensors;
}

void step_on_noise(Optimizer& optimizer, const std::vector<NamedTensor>& tensors, uint64_t seed) {
  at::manual_seed(seed);
  for (const auto& [name, tensor] : tensors)
    at::Tensor(tensor).mutable_grad() = at::randn(tensor.sizes()).to(tensor.scalar_type());
  optimizer.step(1e-2, 0.5);
}

TEST(Optimizer, EightBitsAreForLargeTensorsButEmbeddings) {
  Optimizer optimizer({.kind = OptimizerKind::adamw_8bit}, large_tensors(at::kFloat));
  const auto state = optimizer.state();
  EXPECT_EQ(state.size(), 8U);
  for (const char* moment : {"exp_avg", "exp_avg_sq"}) {
    const std::string name = moment;
    EXPECT_EQ(state.at(name + ".layer.weight").scalar_type(), at::kByte);
    EXPECT_EQ(state.at(name + "_absmax.layer.weight").numel(), 16);
    EXPECT_EQ(state.at(name + ".small.weight").scalar_type(), at::kFloat);
    EXPECT_EQ(state.at(name + ".model.embed_tokens.weight").scalar_type(), at::kFloat);
  }
  // Two moments: 4096 codes and 16 factors, 4095 and 8320 numbers.
  EXPECT_EQ(optimizer.state_bytes(), 2U * (4096 + 16 * 4 + 4095 * 4 + 8320 * 4));
  for (const char* name : {"transformer.wte.weight", "wpe.weight", "gpt_neox.embed_in.weight"})
    EXPECT_FALSE(quantises_moments(name, 1 << 20)) << name;
  EXPECT_TRUE(quantises_moments("lm_head.weight", 1 << 20));
}

// What is in 8 bits stays near the 32-bit path and is not it; what is not is it, bit for bit.
TEST(Optimizer, EightBitsFollowThirtyTwo) {
  const auto narrow = large_tensors(at::kFloat);
  const auto wide = large_tensors(at::kFloat);
  Optimizer eight({.kind = OptimizerKind::adamw_8bit, .weight_decay = 0.1}, narrow);
  Optimizer thirty_two({.weight_decay = 0.1}, wide);
  for (uint64_t step = 0; step < 6; ++step) {
    step_on_noise(eight, narrow, step);
    step_on_noise(thirty_two, wide, step);
  }
  EXPECT_TRUE(narrow[1].tensor.equal(wide[1].tensor));
  EXPECT_TRUE(narrow[2].tensor.equal(wide[2].tensor));
  const auto difference = (narrow[0].tensor - wide[0].tensor).detach().abs();
  EXPECT_GT(difference.max().item<double>(), 0.0);
  // Six steps of 1e-2 of which each errs by some percent.
  EXPECT_LT(difference.mean().item<double>(), 6 * 1e-2 * 0.03);
}

TEST(Optimizer, EightBitsGoOnFromACheckpointBitForBit) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const OptimizerOptions options{.kind = OptimizerKind::adamw_8bit, .weight_decay = 0.1};
    const auto straight = large_tensors(type);
    const auto halves = large_tensors(type);
    Optimizer one(options, straight);
    auto other = std::make_unique<Optimizer>(options, halves);
    for (uint64_t step = 0; step < 4; ++step) {
      step_on_noise(one, straight, step);
      step_on_noise(*other, halves, step);
      std::map<std::string, at::Tensor> state;
      for (const auto& [name, tensor] : other->state()) state[name] = tensor.clone();
      other = std::make_unique<Optimizer>(options, halves);
      other->set_state(state, static_cast<int64_t>(step) + 1);
    }
    for (size_t i = 0; i < straight.size(); ++i)
      EXPECT_TRUE(straight[i].tensor.equal(halves[i].tensor)) << straight[i].name;
    const auto kept = other->state();
    for (const auto& [name, tensor] : one.state()) EXPECT_TRUE(tensor.equal(kept.at(name))) << name;
  }
}

TEST(Optimizer, DecayLeavesNormsAndBiasesAlone) {
  EXPECT_TRUE(decays("model.layers.0.mlp.up_proj.weight", 2));
  EXPECT_TRUE(decays("model.embed_tokens.weight", 2));
  EXPECT_FALSE(decays("model.layers.0.input_layernorm.weight", 1));
  EXPECT_FALSE(decays("transformer.h.0.attn.c_attn.bias", 1));
}

TEST(Optimizer, AForeignStateIsRefused) {
  auto tensors = tensors_of(goldens().at("optimizers").at("adamw").at("start"));
  Optimizer optimizer({}, tensors);
  auto state = optimizer.state();
  state.erase("exp_avg.layer.bias");
  EXPECT_THROW(optimizer.set_state(state, 1), Error);
  state = optimizer.state();
  state["exp_avg.other"] = at::zeros({1});
  EXPECT_THROW(optimizer.set_state(state, 1), Error);
  state = optimizer.state();
  state["exp_avg.layer.bias"] = state["exp_avg.layer.bias"].to(at::kByte);
  EXPECT_THROW(optimizer.set_state(state, 1), Error);
}

}  // namespace
}  // namespace rlhf
