// Twenty steps against numpy in double: tools/make_quantise_goldens.py.
#include "rlhf/kernels/adamw_8bit.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/kernels/quantise.h"
#include "tests/kernels/quantise_case.h"

namespace rlhf {
namespace {

Moments8bit moments_of(at::IntArrayRef shape) {
  const int64_t blocks = quantised_blocks(c10::multiply_integers(shape));
  return {.exp_avg = at::zeros(shape, at::kByte),
          .exp_avg_absmax = at::zeros({blocks}),
          .exp_avg_sq = at::zeros(shape, at::kByte),
          .exp_avg_sq_absmax = at::zeros({blocks})};
}

AdamWStep step_at(int64_t t) {
  const auto steps = static_cast<double>(t);
  return {.lr = 0.01,
          .weight_decay = 0.1,
          .bias_correction1 = 1.0 - std::pow(0.9, steps),
          .bias_correction2 = 1.0 - std::pow(0.999, steps),
          .grad_scale = 0.3};
}

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  at::manual_seed(seed);
  return at::randn(shape);
}

void expect_same(const Moments8bit& a, const Moments8bit& b) {
  EXPECT_TRUE(a.exp_avg.equal(b.exp_avg));
  EXPECT_TRUE(a.exp_avg_absmax.equal(b.exp_avg_absmax));
  EXPECT_TRUE(a.exp_avg_sq.equal(b.exp_avg_sq));
  EXPECT_TRUE(a.exp_avg_sq_absmax.equal(b.exp_avg_sq_absmax));
}

/// The generator's whole numbers around 0, exact in fp32.
at::Tensor whole(int64_t step, int64_t factor, int64_t modulus) {
  const auto index = at::arange(4400);
  return ((index * factor + step * 104729 + 17).remainder(modulus) - modulus / 2).to(at::kFloat);
}

at::Tensor generated_gradient(int64_t step) {
  return whole(step, 6007, 1999) / 1024.0 * at::exp2(-(at::arange(4400).remainder(9)));
}

int64_t farther(const at::Tensor& a, const at::Tensor& b, double bound) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs() > bound).sum().item<int64_t>();
}

at::Tensor bytes_of(const std::string& hex) {
  std::vector<int64_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(std::stoll(hex.substr(i, 2), nullptr, 16));
  return at::tensor(bytes, at::kLong);
}

using Step = decltype(&adamw_8bit_step);

void expect_recorded(Step fn) {
  const Json& golden = testing::quantise_goldens().at("adamw");
  const auto shape = golden.at("shape").get<std::vector<int64_t>>();
  const auto p = (whole(0, 7919, 2003) / 1024.0).view(shape);
  const auto moments = moments_of(shape);
  AdamWStep step{.lr = golden.at("lr"),
                 .beta1 = golden.at("beta1"),
                 .beta2 = golden.at("beta2"),
                 .eps = golden.at("eps"),
                 .weight_decay = golden.at("weight_decay"),
                 .grad_scale = golden.at("grad_scale")};
  int64_t t = 0;
  for (const Json& recorded : golden.at("parameters")) {
    ++t;
    step.bias_correction1 = 1.0 - std::pow(step.beta1, static_cast<double>(t));
    step.bias_correction2 = 1.0 - std::pow(step.beta2, static_cast<double>(t));
    fn(p, generated_gradient(t).view(shape), moments, step, {});
    const auto want = at::tensor(recorded.get<std::vector<double>>(), at::kDouble);
    const auto got = p.view(-1).slice(0, 0, p.numel(), golden.at("stride").get<int64_t>());
    // fp32 against double, twenty roundings of numbers below 2. A moment that lies within a rounding
    // of the middle of two values may get the other one (some 1e-5 of all): one place in a hundred.
    EXPECT_LE(farther(got, want, 5e-6), 1) << "step " << t;
  }
  for (const auto& [codes, name] :
       {std::pair(moments.exp_avg, "exp_avg"), std::pair(moments.exp_avg_sq, "exp_avg_sq")}) {
    const auto want = bytes_of(golden.at(name).get<std::string>());
    EXPECT_LE(farther(codes.view(-1), want, 0.5), 4) << name;
    EXPECT_EQ(farther(codes.view(-1), want, 1.5), 0) << name;
  }
  const auto absmax = golden.at("exp_avg_sq_absmax").get<std::vector<double>>();
  EXPECT_TRUE(moments.exp_avg_sq_absmax.allclose(at::tensor(absmax, at::kFloat), 1e-5, 0));
}

TEST(AdamW8bit, FollowsTheFormulaForTwentySteps) {
  expect_recorded(&adamw_8bit_step);
  expect_recorded(&reference::adamw_8bit_step);
}

// Moments of zero are exact in 8 bits.
TEST(AdamW8bit, TheFirstStepIsThatOf32Bits) {
  const auto g = normal({70, 101}, 2);
  const auto narrow = normal({70, 101}, 1);
  const auto wide = narrow.clone();
  adamw_8bit_step(narrow, g, moments_of({70, 101}), step_at(1));
  adamw_step(wide, g, at::zeros({70, 101}), at::zeros({70, 101}), step_at(1));
  EXPECT_TRUE(narrow.equal(wide));
}

TEST(AdamW8bit, EveryThreadCountGivesTheSame) {
  constexpr int64_t kNumbers = 300001;
  const int before = at::get_num_threads();
  std::vector<at::Tensor> parameters;
  std::vector<Moments8bit> states;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    parameters.push_back(normal({kNumbers}, 1));
    states.push_back(moments_of({kNumbers}));
    for (int64_t t = 1; t <= 3; ++t)
      adamw_8bit_step(parameters.back(), normal({kNumbers}, 10 + static_cast<uint64_t>(t)),
                      states.back(), step_at(t));
  }
  at::set_num_threads(before);
  for (const size_t other : {1U, 2U}) {
    EXPECT_TRUE(parameters[other].equal(parameters[0]));
    expect_same(states[other], states[0]);
  }
}

TEST(AdamW8bit, TakesGradientsOfEveryTypeAndRoundsTheMaster) {
  for (const auto type : {at::kBFloat16, at::kHalf, at::kDouble}) {
    const auto master = normal({50, 101}, 1);
    const auto plain = master.clone();
    const auto parameter = master.to(at::kBFloat16);
    const auto g = normal({50, 101}, 3).to(type);
    const auto narrow = moments_of({50, 101});
    const auto wide = moments_of({50, 101});
    for (int64_t t = 1; t <= 2; ++t) {
      adamw_8bit_step(parameter, g, narrow, step_at(t), master);
      adamw_8bit_step(plain, g.to(at::kFloat), wide, step_at(t));
    }
    EXPECT_TRUE(master.equal(plain)) << toString(type);
    EXPECT_TRUE(parameter.equal(master.to(at::kBFloat16))) << toString(type);
    expect_same(narrow, wide);
  }
}

TEST(AdamW8bit, AGradientInAnotherOrderOfMemoryIsTheSame) {
  const auto g = normal({101, 50}, 3).t();
  const auto a = normal({50, 101}, 1);
  const auto b = a.clone();
  adamw_8bit_step(a, g, moments_of({50, 101}), step_at(1));
  adamw_8bit_step(b, g.contiguous(), moments_of({50, 101}), step_at(1));
  EXPECT_TRUE(a.equal(b));
}

TEST(AdamW8bit, CountsAsAnInPlaceChange) {
  const auto p = at::ones({300}).requires_grad_();
  const auto moments = moments_of({300});
  const auto before = p._version();
  const auto codes_before = moments.exp_avg._version();
  adamw_8bit_step(p, at::ones({300}), moments, step_at(1));
  EXPECT_GT(p._version(), before);
  EXPECT_GT(moments.exp_avg._version(), codes_before);
  EXPECT_FALSE(p.grad_fn());
}

TEST(AdamW8bit, RefusesWhatDoesNotFit) {
  const auto p = at::ones({300});
  const auto moments = moments_of({300});
  EXPECT_THROW(adamw_8bit_step(p, at::ones({299}), moments, step_at(1)), Error);
  EXPECT_THROW(adamw_8bit_step(p, at::ones({300}), moments_of({299}), step_at(1)), Error);
  EXPECT_THROW(adamw_8bit_step(p.to(at::kBFloat16), at::ones({300}), moments, step_at(1)), Error);
  auto wide = moments;
  wide.exp_avg = at::zeros({300});
  EXPECT_THROW(adamw_8bit_step(p, at::ones({300}), wide, step_at(1)), Error);
}

}  // namespace
}  // namespace rlhf
