#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <optional>

#include "head_cases.h"
#include "rlhf/core/error.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/math/head_tiles.h"
#include "rlhf/math/linear_logprobs.h"

namespace rlhf {
namespace {

using testing::clear_gradients;
using testing::difference;
using testing::gradient_difference;
using testing::head_cases;

constexpr double kDoubleTolerance = 1e-12;  // rounding of sums of some 30 numbers near 1, in double
constexpr double kFloatTolerance = 1e-5;

struct Kind {
  const char* name;
  RowObjective objective;
  double smoothing;
};
constexpr Kind kKinds[] = {{"nll", RowObjective::nll, 0.0},
                           {"dft", RowObjective::dft, 0.0},
                           {"smoothed_mean", RowObjective::nll, 0.1}};

at::Tensor coefficients_of(const testing::HeadCase& c, const Kind& kind) {
  const auto recorded = c["coefficients"];
  return kind.smoothing > 0.0 ? at::full_like(recorded, 1.0 / static_cast<double>(recorded.numel()))
                              : recorded;
}

TEST(SupervisedLoss, ReproducesRecordedLossesAndGradients) {
  for (const auto fn : {&linear_supervised_loss, &reference::linear_supervised_loss}) {
    for (const int64_t chunk : {0, 1, 2, 6}) {
      for (const auto& kind : kKinds) {
        for (auto& c : head_cases()) {
          c.options.chunk_rows = chunk;
          const auto out = fn(c.hidden, c.head, c.targets, coefficients_of(c, kind), kind.objective,
                              kind.smoothing, c.options);
          const auto& recorded = c.json["supervised"][kind.name];
          EXPECT_NEAR(out.loss.item<double>(), recorded["loss"].get<double>(), kDoubleTolerance)
              << c.name;
          EXPECT_LT(difference(out.logprobs, c["logprobs"]), kDoubleTolerance) << c.name;
          EXPECT_LT(difference(out.entropy, c["entropy"]), kDoubleTolerance) << c.name;
          EXPECT_EQ(difference(out.top1, c["top1"]), 0.0) << c.name;
          EXPECT_FALSE(out.logprobs.requires_grad() || out.entropy.requires_grad());
          out.loss.backward();
          EXPECT_LT(gradient_difference(c, recorded["grads"]), kDoubleTolerance)
              << c.name << " " << kind.name;
        }
      }
    }
  }
}

TEST(SupervisedLoss, SinglePrecision) {
  for (const auto& kind : kKinds) {
    for (auto& c : head_cases(at::kFloat)) {
      const auto out = linear_supervised_loss(c.hidden, c.head, c.targets, coefficients_of(c, kind),
                                              kind.objective, kind.smoothing, c.options);
      out.loss.backward();
      const auto& recorded = c.json["supervised"][kind.name];
      EXPECT_NEAR(out.loss.item<double>(), recorded["loss"].get<double>(), kFloatTolerance)
          << c.name;
      EXPECT_LT(gradient_difference(c, recorded["grads"]), kFloatTolerance) << c.name;
    }
  }
}

TEST(SupervisedLoss, NllGradientAgreesWithCentralDifferences) {
  constexpr double kStep = 1e-5;
  for (auto& c : head_cases()) {
    const auto value = [&] {
      return linear_supervised_loss(c.hidden, c.head, c.targets, c["coefficients"],
                                    RowObjective::nll,
                                    /*label_smoothing=*/0.2, c.options)
          .loss;
    };
    value().backward();
    const at::NoGradGuard no_grad;
    for (auto& leaf : {c.hidden, c.head.weight}) {
      auto flat = leaf.view(-1);
      const auto gradient = leaf.grad().view(-1);
      for (int64_t i = 0; i < flat.numel(); ++i) {
        flat[i] += kStep;
        const double up = value().item<double>();
        flat[i] -= 2 * kStep;
        const double down = value().item<double>();
        flat[i] += kStep;
        EXPECT_NEAR(gradient[i].item<double>(), (up - down) / (2 * kStep), 1e-8) << c.name;
      }
    }
  }
}

TEST(SupervisedLoss, ScalesWithWhatComesFromOutside) {
  auto c = head_cases().back();
  const auto run = [&](double factor) {
    clear_gradients(c);
    const auto out =
        linear_supervised_loss(c.hidden, c.head, c.targets, c["coefficients"], RowObjective::nll);
    (out.loss * factor).backward();
    return at::cat({c.hidden.grad().view(-1), c.head.weight.grad().view(-1), c.head.bias.grad()})
        .clone();
  };
  EXPECT_LT(difference(run(-2.5), -2.5 * run(1.0)), kDoubleTolerance);
}

TEST(SupervisedLoss, PartsSummedDirectlyGiveTheRecordedGradients) {
  for (const auto& kind : kKinds) {
    for (auto& c : head_cases()) {
      const auto part = 0.5 * coefficients_of(c, kind);
      const auto half = [&] {
        return linear_supervised_loss(c.hidden, c.head, c.targets, part, kind.objective,
                                      kind.smoothing, c.options)
            .loss;
      };
      backward(half());
      backward(0.5 * half());
      backward(0.5 * half());
      EXPECT_LT(gradient_difference(c, c.json["supervised"][kind.name]["grads"]), kDoubleTolerance)
          << c.name << " " << kind.name;
    }
  }
}

TEST(SupervisedLoss, GraphMayBeWalkedTwice) {
  for (const bool directly : {false, true}) {
    for (auto& c : head_cases()) {
      const auto out =
          linear_supervised_loss(c.hidden, c.head, c.targets, 0.5 * c["coefficients"],
                                 RowObjective::nll, /*label_smoothing=*/0.0, c.options);
      std::optional<DirectGradients> here;
      if (directly) here.emplace();
      out.loss.backward({}, /*retain_graph=*/true);
      out.loss.backward();
      EXPECT_LT(gradient_difference(c, c.json["supervised"]["nll"]["grads"]), kDoubleTolerance)
          << c.name << " " << directly;
    }
  }
}

TEST(SupervisedLoss, ChunksAreEvenAndNoLargerThanTheWeightsGradientNeeds) {
  EXPECT_EQ(supervised_chunk_rows(300, 49152, 4, 0), 300);
  EXPECT_EQ(supervised_chunk_rows(770, 49152, 4, 0), 257);  // three of at most 384
  EXPECT_EQ(supervised_chunk_rows(600, 262144, 4, 0),
            300);  // two of at most 320, which 320 MiB hold
  EXPECT_EQ(supervised_chunk_rows(600, int64_t{1} << 30, 4, 0), 1);
  EXPECT_EQ(supervised_chunk_rows(600, 49152, 4, 500), 500);
  EXPECT_EQ(supervised_chunk_rows(0, 49152, 4, 0), 1);
}

TEST(SupervisedLoss, AddsInTheForwardPassWhereDirectGradientsIsOpen) {
  for (auto& c : head_cases()) {
    const auto value = [&] {
      return linear_supervised_loss(c.hidden, c.head, c.targets, 0.25 * c["coefficients"],
                                    RowObjective::nll, /*label_smoothing=*/0.0, c.options)
          .loss;
    };
    const DirectGradients here;
    for (int i = 0; i < 4; ++i) value().backward();  // the first makes .grad, the others add to it
    EXPECT_LT(gradient_difference(c, c.json["supervised"]["nll"]["grads"]), kDoubleTolerance)
        << c.name;
    // It is there before the backward, and the backward brings no more of it.
    const auto before = c.head.weight.grad().clone();
    const auto loss = value();
    const auto after = c.head.weight.grad().clone();
    EXPECT_LT(difference(after, 1.25 * before), kDoubleTolerance) << c.name;
    loss.backward({}, /*retain_graph=*/true);
    EXPECT_TRUE(at::equal(c.head.weight.grad(), after)) << c.name;
    EXPECT_THROW(loss.backward(), Error) << c.name;
    EXPECT_THROW((2.0 * value()).backward(), Error) << c.name;
  }
}

TEST(SupervisedLoss, Bfloat16WeightsAreSummedDirectly) {
  at::manual_seed(11);
  const auto hidden = at::randn({40, 8}).to(at::kBFloat16);
  const auto start = at::randn({5000, 8}).to(at::kBFloat16);
  const auto targets = at::randint(5000, {40}, at::kLong);
  const auto coefficients = at::rand({40}, at::kDouble);
  const auto weight = start.clone().requires_grad_();
  const DirectGradients here;
  for (int i = 0; i < 3; ++i) {
    backward(linear_supervised_loss(hidden, Head{weight}, targets, coefficients, RowObjective::nll)
                 .loss);
  }
  const auto wide = start.to(at::kDouble).requires_grad_();
  const auto logprobs = at::log_softmax(at::matmul(hidden.to(at::kDouble), wide.t()), 1);
  (-3 * coefficients * logprobs.gather(1, targets.unsqueeze(1)).squeeze(1)).sum().backward();
  ASSERT_EQ(weight.grad().scalar_type(), at::kBFloat16);
  // Three equal parts: each is rounded to eight bits (2^-9 of it), and so are the sums of two and of
  // three; beside that fp32 sums of 40 numbers near 1.
  EXPECT_TRUE(at::allclose(weight.grad().to(at::kDouble), wide.grad(), /*rtol=*/4 * 0x1p-9,
                           /*atol=*/3e-4));
}

TEST(SupervisedLoss, FrozenPartsGetNoGradient) {
  auto c = head_cases().front();
  c.head.weight = c.head.weight.detach();
  const auto out =
      linear_supervised_loss(c.hidden, c.head, c.targets, c["coefficients"], RowObjective::nll);
  out.loss.backward();
  EXPECT_LT(difference(c.hidden.grad(),
                       testing::to_tensor(c.json["supervised"]["nll"]["grads"]["hidden"])),
            kDoubleTolerance);
  const at::NoGradGuard no_grad;
  const auto value =
      linear_supervised_loss(c.hidden, c.head, c.targets, c["coefficients"], RowObjective::nll);
  EXPECT_FALSE(value.loss.requires_grad());
  EXPECT_EQ(value.loss.item<double>(), out.loss.item<double>());
}

TEST(SupervisedLoss, SeveralTilesAndChunks) {
  at::manual_seed(5);
  const auto hidden = at::randn({13, 8}, at::kDouble);
  const auto weight = at::randn({9001, 8}, at::kDouble);
  const auto targets = at::randint(9001, {13}, at::kLong);
  const auto coefficients = at::rand({13}, at::kDouble);
  const auto run = [&](auto fn, int64_t chunk) {
    const auto h = hidden.clone().requires_grad_();
    const auto w = weight.clone().requires_grad_();
    const auto out = fn(h, Head{w}, targets, coefficients, RowObjective::nll, 0.1,
                        LogprobOptions{.chunk_rows = chunk});
    out.loss.backward();
    return at::cat({out.loss.detach().view(-1), h.grad().view(-1), w.grad().view(-1)});
  };
  const auto want = run(&reference::linear_supervised_loss, 0);
  for (const int64_t chunk : {0, 1, 4, 12, 13}) {
    EXPECT_LT(difference(run(&linear_supervised_loss, chunk), want), kDoubleTolerance) << chunk;
  }
  EXPECT_TRUE(at::equal(run(&linear_supervised_loss, 4), run(&linear_supervised_loss, 4)));
}

TEST(SupervisedLoss, RefusesWhatHasNoMeaning) {
  auto c = head_cases().front();
  const auto call = [&](const at::Tensor& coefficients, RowObjective objective, double smoothing) {
    linear_supervised_loss(c.hidden, c.head, c.targets, coefficients, objective, smoothing);
  };
  EXPECT_THROW(call(at::ones({3}), RowObjective::nll, 0.0), Error);
  EXPECT_THROW(call(at::ones({7}).requires_grad_(), RowObjective::nll, 0.0), Error);
  EXPECT_THROW(call(at::ones({7}), RowObjective::nll, 1.0), Error);
  EXPECT_THROW(call(at::ones({7}), RowObjective::dft, 0.1), Error);
}

}  // namespace
}  // namespace rlhf
