#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <limits>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"
#include "rlhf/kernels/adamw.h"
#include "rlhf/kernels/glu.h"
#include "rlhf/kernels/norm.h"
#include "rlhf/kernels/rotary.h"

namespace rlhf {
namespace {

constexpr double kDoubleTolerance =
    1e-12;  // a few roundings of numbers near 1, and sums of up to 300 of them
constexpr double kFloatTolerance = 1e-5;  // the same in fp32

at::Tensor to_tensor(const Json& json) {
  if (!json.empty() && json[0].is_array()) {
    std::vector<at::Tensor> rows;
    for (const auto& row : json) {
      rows.push_back(to_tensor(row));
    }
    return at::stack(rows);
  }
  return at::tensor(json.get<std::vector<double>>(), at::kDouble);
}

Json recorded() {
  std::ifstream file(RLHF_FIXTURES "/kernels/elementwise.json");
  return Json::parse(file);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) {
    return INFINITY;
  }
  return a.numel() == 0 ? 0.0 : (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

double tolerance(at::ScalarType type) {
  return type == at::kDouble ? kDoubleTolerance : kFloatTolerance;
}

using Function = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

// Value and gradients of Σ c·fn(inputs) with fixed random c, each flat.
std::vector<at::Tensor> value_and_gradients(const Function& fn,
                                            const std::vector<at::Tensor>& inputs) {
  std::vector<at::Tensor> leaves;
  for (const auto& input : inputs) {
    leaves.push_back(input.detach().clone().requires_grad_());
  }
  const auto out = fn(leaves);
  at::manual_seed(11);
  (out * at::randn(out.sizes(), at::kDouble).to(out.scalar_type())).sum().backward();
  std::vector<at::Tensor> result{out.detach()};
  for (const auto& leaf : leaves) {
    result.push_back(leaf.grad());
  }
  return result;
}

void expect_equal(const Function& fused, const Function& plain,
                  const std::vector<at::Tensor>& inputs) {
  const auto got = value_and_gradients(fused, inputs);
  const auto want = value_and_gradients(plain, inputs);
  for (size_t i = 0; i < want.size(); ++i) {
    // Relative to the largest entry: a weight's gradient sums over all rows.
    const double scale =
        want[i].numel() == 0 ? 1.0 : std::max(1.0, want[i].abs().max().item<double>());
    EXPECT_LT(difference(got[i], want[i]), scale * tolerance(inputs[0].scalar_type()))
        << "output " << i;
  }
}

// Every coordinate of every input, in double: error step² times the third derivative, and rounding
// over step.
void expect_true_gradient(const Function& fn, const std::vector<at::Tensor>& inputs) {
  constexpr double kStep = 1e-5;
  const auto gradients = value_and_gradients(fn, inputs);
  const at::NoGradGuard no_grad;
  at::manual_seed(11);
  const auto c = at::randn(gradients[0].sizes(), at::kDouble);
  for (size_t k = 0; k < inputs.size(); ++k) {
    auto flat = inputs[k].view(-1);
    for (int64_t i = 0; i < flat.numel(); ++i) {
      flat[i] += kStep;
      const double up = (fn(inputs) * c).sum().item<double>();
      flat[i] -= 2 * kStep;
      const double down = (fn(inputs) * c).sum().item<double>();
      flat[i] += kStep;
      EXPECT_NEAR(gradients[k + 1].view(-1)[i].item<double>(), (up - down) / (2 * kStep), 1e-8)
          << "input " << k;
    }
  }
}

at::Tensor normal(at::IntArrayRef sizes, at::ScalarType type, int64_t seed) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn(sizes, at::kDouble).to(type);
}

// transformers computes both norms in fp32 whatever it is given, which bounds the agreement.
TEST(RmsNorm, ReproducesTransformers) {
  const auto cases = recorded();
  for (const auto& c : cases["rms_norm"]) {
    for (const auto fn : {&rms_norm, &reference::rms_norm}) {
      const auto y = fn(to_tensor(c["x"]), to_tensor(c["weight"]), c["eps"], c["offset"]);
      EXPECT_LT(difference(y, to_tensor(c["y"])), 1e-6);
    }
  }
}

TEST(RmsNorm, FusedEqualsPlain) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const double offset : {0.0, 1.0}) {
      const auto with = [&](auto fn) {
        return [=](const std::vector<at::Tensor>& in) { return fn(in[0], in[1], 1e-5, offset); };
      };
      for (const int64_t rows : {0, 1, 257, 600}) {
        expect_equal(with(&rms_norm), with(&reference::rms_norm),
                     {normal({rows, 37}, type, 1), normal({37}, type, 2)});
      }
      expect_equal(with(&rms_norm), with(&reference::rms_norm),
                   {normal({5, 3, 64}, type, 1), normal({64}, type, 2)});
      expect_equal(with(&rms_norm), with(&reference::rms_norm),
                   {normal({37, 6}, type, 1).t(), normal({37}, type, 2)});
    }
  }
}

TEST(RmsNorm, TrueGradient) {
  for (const double offset : {0.0, 1.0}) {
    expect_true_gradient([&](const auto& in) { return rms_norm(in[0], in[1], 1e-3, offset); },
                         {normal({3, 19}, at::kDouble, 1), normal({19}, at::kDouble, 2)});
  }
}

TEST(RmsNorm, FrozenWeightGetsNoGradient) {
  const auto x = normal({4, 8}, at::kFloat, 1).requires_grad_();
  rms_norm(x, at::ones({8}), 1e-5).sum().backward();
  EXPECT_TRUE(x.grad().defined());
}

TEST(RmsNorm, ThreadsDoNotChangeABit) {
  const auto inputs =
      std::vector<at::Tensor>{normal({1100, 70}, at::kFloat, 1), normal({70}, at::kFloat, 2)};
  const Function fn = [](const auto& in) { return rms_norm(in[0], in[1], 1e-5); };
  const int threads = at::get_num_threads();
  const auto many = value_and_gradients(fn, inputs);
  at::set_num_threads(1);
  const auto one = value_and_gradients(fn, inputs);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(at::equal(one[i], many[i])) << i;
  }
}

TEST(RmsNorm, RefusesAWeightOfAnotherWidth) {
  EXPECT_THROW(rms_norm(at::ones({2, 3}), at::ones({4}), 1e-5), Error);
}

TEST(Rotary, ReproducesTransformers) {
  const auto c = recorded()["rotary"];
  for (const auto fn : {&rotary, &reference::rotary}) {
    const auto y =
        fn(to_tensor(c["x"]), to_tensor(c["cos"]), to_tensor(c["sin"]), RotaryPairs::half_split);
    EXPECT_LT(difference(y, to_tensor(c["y"])), kDoubleTolerance);
  }
}

// Interleaved pairs are the half-split ones after reordering the channels (0 2 4 | 1 3 5).
TEST(Rotary, InterleavedIsHalfSplitReordered) {
  const auto c = recorded()["rotary"];
  const auto order = at::tensor({0, 3, 1, 4, 2, 5}, at::kLong);
  for (const auto fn : {&rotary, &reference::rotary}) {
    const auto y = fn(to_tensor(c["x"]).index_select(-1, order), to_tensor(c["cos"]),
                      to_tensor(c["sin"]), RotaryPairs::interleaved);
    EXPECT_LT(difference(y, to_tensor(c["y"]).index_select(-1, order)), kDoubleTolerance);
  }
}

TEST(Rotary, FusedEqualsPlainAndTrueGradient) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto pairs : {RotaryPairs::half_split, RotaryPairs::interleaved}) {
      for (const int64_t half : {0, 1, 12, 20}) {
        const auto angle = normal({9, half}, type, 3);
        const auto with = [&](auto fn) -> Function {
          return [=](const auto& in) { return fn(in[0], angle.cos(), angle.sin(), pairs); };
        };
        expect_equal(with(&rotary), with(&reference::rotary), {normal({9, 3, 40}, type, 1)});
        if (type == at::kDouble && half == 12) {
          expect_true_gradient(with(&rotary), {normal({9, 2, 25}, type, 1)});
        }
      }
    }
  }
}

TEST(Rotary, TakesPartsOfALargerTensor) {
  const auto whole = normal({6, 5, 16}, at::kFloat, 1);
  const auto angle = normal({6, 4}, at::kFloat, 2);
  const auto part = whole.narrow(1, 1, 3);
  EXPECT_TRUE(at::equal(rotary(part, angle.cos(), angle.sin()),
                        rotary(part.contiguous(), angle.cos(), angle.sin())));
  EXPECT_TRUE(rotary(part, angle.cos(), angle.sin()).is_contiguous());
}

TEST(Rotary, RefusesShapesThatDoNotFit) {
  const auto angle = at::ones({4, 5});
  EXPECT_THROW(rotary(at::ones({4, 2, 8}), angle, angle), Error);
  EXPECT_THROW(rotary(at::ones({3, 2, 10}), angle, angle), Error);
}

TEST(Glu, FusedEqualsPlainAndTrueGradient) {
  for (const auto kind : {GluActivation::silu, GluActivation::gelu_tanh, GluActivation::gelu}) {
    const auto with = [&](auto fn) -> Function {
      return [=](const auto& in) { return fn(in[0], in[1], kind); };
    };
    for (const auto type : {at::kDouble, at::kFloat}) {
      for (const int64_t width : {1, 16, 37}) {
        expect_equal(with(&glu), with(&reference::glu),
                     {normal({70, width}, type, 1) * 3, normal({70, width}, type, 2)});
      }
      expect_equal(with(&glu), with(&reference::glu),
                   {normal({0, 5}, type, 1), normal({0, 5}, type, 2)});
    }
    expect_true_gradient(with(&glu),
                         {normal({3, 19}, at::kDouble, 1), normal({3, 19}, at::kDouble, 2)});
  }
}

TEST(Glu, TakesTheHalvesOfOneProduct) {
  const auto both = normal({9, 22}, at::kFloat, 1);
  const auto halves = both.chunk(2, 1);
  EXPECT_TRUE(at::equal(swiglu(halves[0], halves[1]),
                        swiglu(halves[0].contiguous(), halves[1].contiguous())));
}

// Far out the gate is the identity or nothing; NaN stays.
TEST(Glu, ExtremeGates) {
  const auto gate =
      at::tensor({-1e4F, -100.0F, 100.0F, 1e4F, std::numeric_limits<float>::quiet_NaN()});
  const auto up = at::full({5}, 2.0F);
  for (const auto kind : {GluActivation::silu, GluActivation::gelu_tanh}) {
    const auto y = glu(gate, up, kind);
    EXPECT_LT(y.slice(0, 0, 2).abs().max().item<double>(), 1e-30);
    EXPECT_TRUE(at::equal(y.slice(0, 2, 4), at::tensor({200.0F, 2e4F})));
    EXPECT_TRUE(y[4].isnan().item<bool>());
  }
}

TEST(Glu, RefusesDifferentShapes) {
  EXPECT_THROW(swiglu(at::ones({2, 3}), at::ones({3, 2})), Error);
}

// Recorded from torch.optim.AdamW in fp32; the parameter is near 1 and moves by some 1e-2 a step.
TEST(AdamW, ReproducesTorchStepByStep) {
  const auto cases = recorded();
  for (const auto& c : cases["adamw"]) {
    for (const auto fn : {&adamw_step, &reference::adamw_step}) {
      const auto parameter = to_tensor(c["start"]).to(at::kFloat);
      const auto m = at::zeros_like(parameter);
      const auto v = at::zeros_like(parameter);
      AdamWStep step{.beta1 = c["beta1"],
                     .beta2 = c["beta2"],
                     .eps = c["eps"],
                     .weight_decay = c["weight_decay"]};
      int t = 0;
      for (const auto& at : c["steps"]) {
        ++t;
        step.lr = at["lr"];
        step.bias_correction1 = 1.0 - std::pow(step.beta1, t);
        step.bias_correction2 = 1.0 - std::pow(step.beta2, t);
        step.grad_scale = 0.5;  // of twice the recorded gradient: powers of two round nothing
        fn(parameter, to_tensor(at["grad"]).to(at::kFloat) * 2, m, v, step, {});
        EXPECT_LT(difference(parameter, to_tensor(at["parameter"])), 1e-6)
            << c["name"] << " step " << t;
      }
      EXPECT_LT(difference(m, to_tensor(c["exp_avg"])), 1e-7);
      EXPECT_LT(difference(v, to_tensor(c["exp_avg_sq"])), 1e-7);
    }
  }
}

TEST(AdamW, FusedEqualsPlain) {
  const AdamWStep step{.lr = 0.01,
                       .weight_decay = 0.1,
                       .bias_correction1 = 0.1,
                       .bias_correction2 = 0.001,
                       .grad_scale = 0.3};
  for (const auto type : {at::kDouble, at::kFloat}) {
    std::vector<at::Tensor> results;
    for (const auto fn : {&adamw_step, &reference::adamw_step}) {
      const auto p = normal({301, 7}, type, 1);
      const auto m = normal({301, 7}, type, 2);
      const auto v = normal({301, 7}, type, 3).square();
      fn(p, normal({301, 7}, type, 4), m, v, step, {});
      results.push_back(at::stack({p, m, v}));
    }
    EXPECT_LT(difference(results[0], results[1]), tolerance(type));
  }
}

// The master moves by less than bf16 can show; the parameter is its rounding, so that small steps
// add up.
TEST(AdamW, MasterKeepsWhatTheParameterCannotShow) {
  const auto master = at::full({33}, 1.0F);
  const auto parameter = master.to(at::kBFloat16);
  const auto m = at::zeros({33});
  const auto v = at::zeros({33});
  for (int t = 1; t <= 8; ++t) {
    AdamWStep step{.lr = 1e-3,
                   .bias_correction1 = 1.0 - std::pow(0.9, t),
                   .bias_correction2 = 1.0 - std::pow(0.999, t)};
    adamw_step(parameter, at::ones({33}).to(at::kBFloat16), m, v, step, master);
  }
  // A constant gradient moves by lr a step: 1 − 8e-3. bf16 numbers below 1 are 2^-8 = 3.9e-3 apart.
  EXPECT_LT(difference(master, at::full({33}, 1.0F - 8e-3F)), 1e-6);
  EXPECT_TRUE(at::equal(parameter, master.to(at::kBFloat16)));
  EXPECT_LT(parameter[0].item<double>(), 1.0);
}

// Block by block, several of them and a part: the same numbers as from a wide copy.
TEST(AdamW, NarrowGradientsAreWidened) {
  const AdamWStep step{.lr = 1e-2, .bias_correction1 = 0.1, .bias_correction2 = 0.001};
  const auto narrow = normal({140000}, at::kFloat, 4).to(at::kBFloat16);
  std::vector<at::Tensor> results;
  for (const auto& gradient : {narrow, narrow.to(at::kFloat)}) {
    const auto p = normal({140000}, at::kFloat, 1);
    const auto m = normal({140000}, at::kFloat, 2);
    const auto v = normal({140000}, at::kFloat, 3).square();
    adamw_step(p, gradient, m, v, step, {});
    results.push_back(at::stack({p, m, v}));
  }
  EXPECT_TRUE(at::equal(results[0], results[1]));
}

TEST(AdamW, CountsAsAnInPlaceChange) {
  const auto p = at::ones({4}).requires_grad_();
  const auto version = p._version();
  adamw_step(p, at::ones({4}), at::zeros({4}), at::zeros({4}), {});
  EXPECT_GT(p._version(), version);
  EXPECT_FALSE(p.grad_fn());
}

TEST(AdamW, RefusesStateThatDoesNotFit) {
  const auto p = at::ones({4});
  EXPECT_THROW(adamw_step(p, at::ones({3}), at::zeros({4}), at::zeros({4}), {}), Error);
  EXPECT_THROW(adamw_step(p, at::ones({4}), at::zeros({4}, at::kDouble), at::zeros({4}), {}),
               Error);
}

TEST(SumOfSquares, ByHandAndForEveryThreadCount) {
  EXPECT_EQ(sum_of_squares(at::tensor({3.0F, -4.0F})), 25.0);
  EXPECT_EQ(sum_of_squares(at::Tensor()), 0.0);
  EXPECT_EQ(sum_of_squares(at::empty({0})), 0.0);
  EXPECT_EQ(sum_of_squares(at::full({5}, 2.0).to(at::kBFloat16)), 20.0);
  const auto x = normal({300001}, at::kFloat, 1);
  const int threads = at::get_num_threads();
  const double many = sum_of_squares(x);
  at::set_num_threads(1);
  const double one = sum_of_squares(x);
  at::set_num_threads(threads);
  EXPECT_EQ(many, one);
  EXPECT_NEAR(many, reference::sum_of_squares(x), 1e-7);  // 3e5 terms in another order, in double
  const auto narrow = x.to(at::kBFloat16);
  EXPECT_NEAR(sum_of_squares(narrow), reference::sum_of_squares(narrow), 1e-7);
}

}  // namespace
}  // namespace rlhf
