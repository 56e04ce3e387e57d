#include "rlhf/math/linear_logprobs.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>
#include <optional>

#include "head_cases.h"
#include "rlhf/core/error.h"
#include "rlhf/kernels/weight_gradient.h"

namespace rlhf {
namespace {

using testing::clear_gradients;
using testing::difference;
using testing::gradient_difference;
using testing::head_cases;

constexpr double kDoubleTolerance = 1e-12;  // rounding of sums of some 30 numbers near 1, in double
constexpr double kFloatTolerance = 1e-5;    // the same in fp32, with room for the matmul's order

// Random inputs wide enough for several tiles of the vocabulary (a tile is at least 4096 columns).
struct Wide {
  at::Tensor hidden;
  at::Tensor weight;
  at::Tensor targets;
};

Wide wide_case(int64_t rows, int64_t vocab, at::ScalarType type) {
  at::manual_seed(7);
  const auto hidden = at::randn({rows, 8}, at::kDouble).to(type);
  const auto weight = at::randn({vocab, 8}, at::kDouble).to(type);
  return {hidden, weight, at::randint(vocab, {rows}, at::kLong)};
}

TEST(LinearLogprobs, ReferenceReproducesRecordedValuesAndGradients) {
  for (auto& c : head_cases()) {
    c.options.entropy_grad = true;
    const auto rows = reference::linear_logprobs(c.hidden, c.head, c.targets, c.options);
    EXPECT_LT(difference(rows.logprobs, c["logprobs"]), kDoubleTolerance) << c.name;
    EXPECT_LT(difference(rows.entropy, c["entropy"]), kDoubleTolerance) << c.name;
    ((c["g"] * rows.logprobs).sum() + (c["g_entropy"] * rows.entropy).sum()).backward();
    EXPECT_LT(gradient_difference(c, c.json["grads_both"]), kDoubleTolerance) << c.name;
  }
}

TEST(LinearLogprobs, ReproducesRecordedValues) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kDoubleTolerance : kFloatTolerance;
    for (auto& c : head_cases(type)) {
      const auto rows = linear_logprobs(c.hidden, c.head, c.targets, c.options);
      EXPECT_EQ(rows.logprobs.scalar_type(), type);
      EXPECT_LT(difference(rows.logprobs, c["logprobs"]), tolerance) << c.name;
      EXPECT_LT(difference(rows.entropy, c["entropy"]), tolerance) << c.name;
      EXPECT_FALSE(rows.entropy.requires_grad());
      EXPECT_EQ(difference(rows.top1, c["top1"]), 0.0) << c.name;
    }
  }
}

TEST(LinearLogprobs, ReproducesRecordedGradients) {
  for (const int64_t keep : {int64_t{0}, int64_t{1} << 20}) {
    for (const int64_t chunk : {0, 1, 3}) {
      for (auto& c : head_cases()) {
        c.options.keep_logits_bytes = keep;
        c.options.chunk_rows = chunk;
        (c["g"] * linear_logprobs(c.hidden, c.head, c.targets, c.options).logprobs)
            .sum()
            .backward();
        EXPECT_LT(gradient_difference(c, c.json["grads_logprobs"]), kDoubleTolerance) << c.name;
        clear_gradients(c);
        c.options.entropy_grad = true;
        const auto rows = linear_logprobs(c.hidden, c.head, c.targets, c.options);
        ((c["g"] * rows.logprobs).sum() + (c["g_entropy"] * rows.entropy).sum()).backward();
        EXPECT_LT(gradient_difference(c, c.json["grads_both"]), kDoubleTolerance) << c.name;
      }
    }
  }
}

TEST(LinearLogprobs, PartsSummedDirectlyGiveTheRecordedGradients) {
  for (const int64_t keep : {int64_t{0}, int64_t{1} << 20}) {
    for (const int64_t chunk : {0, 1, 3}) {
      for (auto& c : head_cases()) {
        c.options.keep_logits_bytes = keep;
        c.options.chunk_rows = chunk;
        for (const double part : {0.25, 0.5, 0.25}) {
          const auto rows = linear_logprobs(c.hidden, c.head, c.targets, c.options);
          backward(part * (c["g"] * rows.logprobs).sum());
        }
        EXPECT_LT(gradient_difference(c, c.json["grads_logprobs"]), kDoubleTolerance) << c.name;
      }
    }
  }
}

TEST(LinearLogprobs, FrozenHeadReproducesRecordedGradients) {
  for (const bool entropy_grad : {false, true}) {
    for (auto& c : head_cases()) {
      c.head.weight = c.head.weight.detach();
      c.head.bias = c.head.bias.defined() ? c.head.bias.detach() : c.head.bias;
      c.options.entropy_grad = entropy_grad;
      const auto rows = linear_logprobs(c.hidden, c.head, c.targets, c.options);
      EXPECT_LT(difference(rows.logprobs, c["logprobs"]), kDoubleTolerance) << c.name;
      auto value = (c["g"] * rows.logprobs).sum();
      if (entropy_grad) {
        value = value + (c["g_entropy"] * rows.entropy).sum();
      }
      value.backward();
      const auto& recorded = c.json[entropy_grad ? "grads_both" : "grads_logprobs"]["hidden"];
      EXPECT_LT(difference(c.hidden.grad(), testing::to_tensor(recorded)), kDoubleTolerance)
          << c.name;
    }
  }
}

// Every coordinate by central differences: error step² times the third derivative, and rounding
// over step.
TEST(LinearLogprobs, GradientsAgreeWithCentralDifferences) {
  constexpr double kStep = 1e-5;
  for (auto& c : head_cases()) {
    c.options.entropy_grad = true;
    const auto value = [&] {
      const auto rows = linear_logprobs(c.hidden, c.head, c.targets, c.options);
      return (c["g"] * rows.logprobs).sum() + (c["g_entropy"] * rows.entropy).sum();
    };
    value().backward();
    std::vector<at::Tensor> leaves{c.hidden, c.head.weight};
    if (c.head.bias.defined()) {
      leaves.push_back(c.head.bias);
    }
    const at::NoGradGuard no_grad;
    for (auto& leaf : leaves) {
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

// Against double on the same numbers. In fp32 logits near 20 carry 1e-6 each; plain fp32 is off
// by 4.4e-5 here.
TEST(LinearLogprobs, ChunksAndTilesDoNotShow) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kDoubleTolerance : 5e-5;
    const auto data = wide_case(/*rows=*/11, /*vocab=*/9001, type);
    const auto g = at::randn({11}, type);
    for (const bool frozen : {false, true}) {
      for (const int64_t chunk : {0, 1, 2, 3, 5, 10, 11, 50}) {
        LogprobOptions options{.entropy = true,
                               .top1 = true,
                               .collision = true,
                               .mean_logit = true,
                               .chunk_rows = chunk};
        const auto run = [&](auto fn, at::ScalarType as) {
          const auto hidden = data.hidden.detach().to(as, false, /*copy=*/true).requires_grad_();
          const auto weight =
              data.weight.detach().to(as, false, /*copy=*/true).requires_grad_(!frozen);
          const auto rows = fn(hidden, Head{weight}, data.targets, options);
          (g * rows.logprobs).sum().backward();
          return std::make_tuple(rows, hidden.grad(), weight.grad());
        };
        const auto [got, got_hidden, got_weight] = run(&linear_logprobs, type);
        const auto [want, want_hidden, want_weight] = run(&reference::linear_logprobs, at::kDouble);
        EXPECT_LT(difference(got.logprobs, want.logprobs), tolerance) << chunk;
        EXPECT_LT(difference(got.entropy, want.entropy), tolerance) << chunk;
        EXPECT_EQ(difference(got.top1, want.top1), 0.0) << chunk;
        EXPECT_LT(difference(got.log_collision, want.log_collision), tolerance) << chunk;
        EXPECT_LT(difference(got.mean_logit, want.mean_logit), tolerance) << chunk;
        EXPECT_LT(difference(got_hidden, want_hidden), tolerance) << chunk;
        if (!frozen) {
          EXPECT_LT(difference(got_weight, want_weight), tolerance) << chunk;
        }
      }
    }
  }
}

// p = (1/2, 1/4, 1/4) from logits (ln 4, ln 2, ln 2): Σp² = 3/8 and the mean logit is (4/3) ln 2.
// At temperature ½ the logits double: p = (2/3, 1/6, 1/6), Σp² = 1/2, mean (8/3) ln 2.
// What a run compares with itself: an adapter's first ratios are 1, and a token that is a quantile of
// the step's entropies is found again by its bits.
TEST(LinearLogprobs, WithAGradientOrWithoutTheSameBits) {
  const auto wide = wide_case(/*rows=*/40, /*vocab=*/9001, at::kFloat);
  const Head trained{wide.weight.clone().requires_grad_()};
  const Head frozen{wide.weight};
  LogprobOptions options;
  options.entropy = true;
  options.collision = true;
  at::NoGradGuard off;
  const auto plain = linear_logprobs(wide.hidden, frozen, wide.targets, options);
  for (const bool head_trains : {false, true}) {
    const at::AutoGradMode on(true);
    const auto hidden = wide.hidden.clone().requires_grad_();
    const auto found =
        linear_logprobs(hidden, head_trains ? trained : frozen, wide.targets, options);
    ASSERT_TRUE(found.logprobs.requires_grad());
    EXPECT_TRUE(found.logprobs.equal(plain.logprobs)) << head_trains;
    EXPECT_TRUE(found.entropy.equal(plain.entropy)) << head_trains;
    EXPECT_TRUE(found.log_collision.equal(plain.log_collision)) << head_trains;
  }
}

TEST(LinearLogprobs, CollisionAndMeanLogitByHand) {
  const double log2 = std::log(2.0);
  const auto weight = at::tensor({2 * log2, log2, log2}, at::kDouble).unsqueeze(1);
  const auto hidden = at::ones({1, 1}, at::kDouble);
  const auto target = at::zeros({1}, at::kLong);
  for (const auto fn : {&linear_logprobs, &reference::linear_logprobs}) {
    const auto warm = fn(hidden, Head{weight}, target, {.collision = true, .mean_logit = true});
    EXPECT_NEAR(warm.log_collision.item<double>(), std::log(3.0 / 8), 1e-15);
    EXPECT_NEAR(warm.mean_logit.item<double>(), 4 * log2 / 3, 1e-15);
    const auto cold = fn(hidden, Head{weight}, target,
                         {.temperature = 0.5, .collision = true, .mean_logit = true});
    EXPECT_NEAR(cold.log_collision.item<double>(), std::log(0.5), 1e-15);
    EXPECT_NEAR(cold.mean_logit.item<double>(), 8 * log2 / 3, 1e-15);
  }
}

// Over every path (frozen and trained head, kept and recomputed logits, no gradient at all),
// soft-cap, bias and scale included; neither changes the log-probabilities or their gradients by a
// bit.
TEST(LinearLogprobs, CollisionAndMeanLogitEqualThePlainForm) {
  for (const bool frozen : {false, true}) {
    for (const int64_t keep : {int64_t{0}, int64_t{1} << 20}) {
      for (auto& c : head_cases()) {
        c.head.weight.requires_grad_(!frozen);
        if (c.head.bias.defined()) {
          c.head.bias.requires_grad_(!frozen);
        }
        c.options.keep_logits_bytes = keep;
        c.options.chunk_rows = 3;
        const auto plain = linear_logprobs(c.hidden, c.head, c.targets, c.options);
        plain.logprobs.sum().backward();
        const auto gradient = c.hidden.grad().clone();
        clear_gradients(c);
        EXPECT_FALSE(plain.log_collision.defined() || plain.mean_logit.defined());

        c.options.collision = true;
        c.options.mean_logit = true;
        const auto want = reference::linear_logprobs(c.hidden, c.head, c.targets, c.options);
        const auto got = linear_logprobs(c.hidden, c.head, c.targets, c.options);
        EXPECT_LT(difference(got.log_collision, want.log_collision), kDoubleTolerance) << c.name;
        EXPECT_LT(difference(got.mean_logit, want.mean_logit), kDoubleTolerance) << c.name;
        EXPECT_FALSE(got.log_collision.requires_grad() || got.mean_logit.requires_grad());
        EXPECT_TRUE(at::equal(got.logprobs, plain.logprobs)) << c.name;
        got.logprobs.sum().backward();
        EXPECT_TRUE(at::equal(c.hidden.grad(), gradient)) << c.name;

        const at::NoGradGuard no_grad;
        const auto bare = linear_logprobs(c.hidden, c.head, c.targets, c.options);
        EXPECT_LT(difference(bare.log_collision, want.log_collision), kDoubleTolerance) << c.name;
      }
    }
  }
}

TEST(LinearLogprobs, TiedWeightGetsBothGradients) {
  auto c = head_cases().front();
  const auto ids = at::tensor({3, 1, 3, 28, 0, 7, 7}, at::kLong);
  const auto run = [&](auto fn) {
    const auto weight = c.head.weight.detach().clone().requires_grad_();
    const auto rows = fn(weight.index_select(0, ids), Head{weight}, c.targets, LogprobOptions{});
    (c["g"] * rows.logprobs).sum().backward();
    return weight.grad();
  };
  EXPECT_LT(difference(run(&linear_logprobs), run(&reference::linear_logprobs)), kDoubleTolerance);
}

TEST(LinearLogprobs, RowsThatAreNotSelectedChangeNothing) {
  auto c = head_cases(at::kFloat).front();
  const auto selected = at::tensor({0, 2, 5}, at::kLong);
  const auto run = [&](double planted) {
    auto rows = c.hidden.detach().clone();
    for (const int64_t row : {1, 3, 4, 6}) {
      rows[row].fill_(planted);
    }
    rows.requires_grad_();
    const auto out = linear_logprobs(rows.index_select(0, selected), c.head,
                                     c.targets.index_select(0, selected));
    out.logprobs.sum().backward();
    return at::cat({out.logprobs.detach(), rows.grad().view(-1)});
  };
  const auto clean = run(0.0);
  EXPECT_TRUE(at::equal(run(std::numeric_limits<double>::quiet_NaN()), clean));
  EXPECT_TRUE(at::equal(run(-std::numeric_limits<double>::infinity()), clean));
}

TEST(LinearLogprobs, NaNInARowIsSeenInThatRowAlone) {
  for (const double planted :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    auto data = wide_case(/*rows=*/3, /*vocab=*/5003, at::kFloat);
    data.hidden[1][4] = planted;
    const auto rows =
        linear_logprobs(data.hidden, Head{data.weight}, data.targets, {.entropy = true});
    EXPECT_EQ(rows.logprobs.isnan().to(at::kInt).sum().item<int>(), 1);
    EXPECT_TRUE(rows.logprobs[1].isnan().item<bool>());
    EXPECT_TRUE(rows.entropy[1].isnan().item<bool>());
  }
}

// One token's logit is NaN, far from every target: no row may hide it.
TEST(LinearLogprobs, NaNInTheWeightIsSeenInEveryRow) {
  auto data = wide_case(/*rows=*/3, /*vocab=*/5003, at::kFloat);
  data.weight[4999].fill_(std::numeric_limits<double>::quiet_NaN());
  const auto targets = at::zeros({3}, at::kLong);
  EXPECT_TRUE(
      linear_logprobs(data.hidden, Head{data.weight}, targets).logprobs.isnan().all().item<bool>());
  const auto hidden = data.hidden.clone().requires_grad_();
  EXPECT_TRUE(
      linear_logprobs(hidden, Head{data.weight}, targets).logprobs.isnan().all().item<bool>());
}

// z = ±1e4 by a weight of one column: token 2 is certain, others impossible; log p = z_t − max
// exactly.
TEST(LinearLogprobs, ExtremeLogits) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto weight = at::tensor({-1e4, 0.0, 1e4, 5e3}, type).unsqueeze(1).requires_grad_();
    const auto hidden = at::ones({4, 1}, type).requires_grad_();
    const auto targets = at::arange(4, at::kLong);
    const auto rows = linear_logprobs(hidden, Head{weight}, targets,
                                      {.entropy = true, .collision = true, .entropy_grad = true});
    EXPECT_TRUE(at::equal(rows.logprobs, at::tensor({-2e4, -1e4, 0.0, -5e3}, type)));
    EXPECT_EQ(rows.log_collision.abs().max().item<double>(), 0.0);
    EXPECT_LT(rows.entropy.abs().max().item<double>(), 1e-30);
    (rows.logprobs.sum() + rows.entropy.sum()).backward();
    // Σ_r (w_t − w_2) = −3.5e4 over the rows; in the weight: 1 each, −4 more on token 2.
    EXPECT_EQ(hidden.grad().sum().item<double>(), -3.5e4);
    EXPECT_TRUE(at::equal(weight.grad().squeeze(1), at::tensor({1.0, 1.0, -3.0, 1.0}, type)));
  }
}

TEST(LinearLogprobs, NeverAboveZero) {
  at::manual_seed(3);
  for (const double scale : {0.01, 1.0, 30.0, 1000.0}) {
    for (const auto type : {at::kFloat, at::kBFloat16}) {
      const auto hidden = (at::randn({64, 16}) * scale).to(type);
      const auto weight = at::randn({4500, 16}).to(type);
      const auto best =
          reference::logits(hidden.to(at::kFloat), Head{weight.to(at::kFloat)}).argmax(1);
      const auto rows = linear_logprobs(hidden, Head{weight}, best);
      EXPECT_EQ(rows.logprobs.scalar_type(), at::kFloat);
      EXPECT_LE(rows.logprobs.max().item<double>(), 0.0) << scale;
    }
  }
}

// bf16 inputs are exact in fp32, so only fp32 rounding is left: against double on the same numbers.
// Plain bf16 logits near 8 would be off by 2^-6.
TEST(LinearLogprobs, HalfPrecisionInputsLoseNothing) {
  const auto data = wide_case(/*rows=*/40, /*vocab=*/5000, at::kBFloat16);
  const auto hidden = data.hidden.clone().requires_grad_();
  const auto weight = data.weight.clone().requires_grad_();
  const auto got = linear_logprobs(hidden, Head{weight}, data.targets);
  got.logprobs.sum().backward();
  const auto wide_hidden = data.hidden.to(at::kDouble).requires_grad_();
  const auto wide_weight = data.weight.to(at::kDouble).requires_grad_();
  const auto want = reference::linear_logprobs(wide_hidden, Head{wide_weight}, data.targets);
  want.logprobs.sum().backward();
  EXPECT_LT(difference(got.logprobs, want.logprobs), 1e-5);
  EXPECT_EQ(hidden.grad().scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::allclose(hidden.grad().to(at::kDouble), wide_hidden.grad(), /*rtol=*/4e-3,
                           /*atol=*/1e-4));
  EXPECT_TRUE(at::allclose(weight.grad().to(at::kDouble), wide_weight.grad(), /*rtol=*/4e-3,
                           /*atol=*/1e-4));
}

TEST(LinearLogprobs, Bfloat16WeightsAreSummedDirectly) {
  const auto data = wide_case(/*rows=*/40, /*vocab=*/5000, at::kBFloat16);
  const auto weight = data.weight.clone().requires_grad_();
  for (int i = 0; i < 3; ++i)
    backward(linear_logprobs(data.hidden, Head{weight}, data.targets).logprobs.sum());
  const auto wide = data.weight.to(at::kDouble).requires_grad_();
  const auto logprobs = at::log_softmax(at::matmul(data.hidden.to(at::kDouble), wide.t()), 1);
  (3 * logprobs.gather(1, data.targets.unsqueeze(1))).sum().backward();
  ASSERT_EQ(weight.grad().scalar_type(), at::kBFloat16);
  // Three equal parts: each is rounded to eight bits (2^-9 of it), and so are the sums of two and of
  // three; beside that fp32 sums of 40 numbers near 1.
  EXPECT_TRUE(at::allclose(weight.grad().to(at::kDouble), wide.grad(), /*rtol=*/4 * 0x1p-9,
                           /*atol=*/3e-4));
}

TEST(LinearLogprobs, NoRows) {
  const auto hidden = at::empty({0, 4}).requires_grad_();
  const auto weight = at::randn({6, 4}).requires_grad_();
  const auto targets = at::empty({0}, at::kLong);
  const LogprobOptions options{.entropy = true, .top1 = true};
  const auto rows = linear_logprobs(hidden, Head{weight}, targets, options);
  EXPECT_EQ(rows.logprobs.numel() + rows.entropy.numel() + rows.top1.numel(), 0);
  rows.logprobs.sum().backward();
  EXPECT_EQ(hidden.grad().numel(), 0);
  EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0.0);
  const auto loss =
      linear_supervised_loss(hidden, Head{weight}, targets, at::empty({0}), RowObjective::nll);
  loss.loss.backward();
  EXPECT_EQ(loss.loss.item<double>(), 0.0);
  EXPECT_EQ(weight.grad().abs().sum().item<double>(), 0.0);
  const auto frozen = linear_logprobs(hidden, Head{weight.detach()}, targets, options);
  EXPECT_TRUE(frozen.logprobs.requires_grad());
}

// Three logits tie for the best; as with torch.argmax the lowest index counts.
TEST(LinearLogprobs, TiesGoToTheLowestIndex) {
  auto logits = at::zeros({6000});
  for (const int64_t v : {70, 1500, 5999}) {
    logits[v] = 2.0;
  }
  const auto targets = at::tensor({70, 1500, 5999, 0}, at::kLong);
  const auto rows =
      linear_logprobs(at::ones({4, 1}), Head{logits.unsqueeze(1)}, targets, {.top1 = true});
  EXPECT_TRUE(at::equal(rows.top1, at::tensor({1, 0, 0, 0}).to(at::kBool)));
}

TEST(LinearLogprobs, RepeatsBitForBit) {
  const auto data = wide_case(/*rows=*/65, /*vocab=*/9001, at::kFloat);
  const auto run = [&] {
    const auto hidden = data.hidden.clone().requires_grad_();
    const auto weight = data.weight.clone().requires_grad_();
    const auto rows = linear_logprobs(hidden, Head{weight}, data.targets,
                                      {.entropy = true, .entropy_grad = true});
    (rows.logprobs.sum() + rows.entropy.sum()).backward();
    return at::cat({rows.logprobs.detach(), rows.entropy.detach(), hidden.grad().view(-1),
                    weight.grad().view(-1)});
  };
  EXPECT_TRUE(at::equal(run(), run()));
}

TEST(LinearLogprobs, RefusesATargetOutsideTheVocabularyByRow) {
  const auto hidden = at::randn({3, 2});
  const Head head{at::randn({5, 2})};
  for (const int64_t bad : {-100, 5}) {
    try {
      linear_logprobs(hidden, head, at::tensor({int64_t{1}, int64_t{4}, bad}, at::kLong));
      FAIL();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(fmt::format("row 2 has {}", bad)), std::string::npos)
          << error.what();
    }
  }
  EXPECT_THROW(linear_logprobs(hidden, head, at::zeros({2}, at::kLong)), Error);
  EXPECT_THROW(linear_logprobs(hidden, head, at::zeros({3}, at::kInt)), Error);
  EXPECT_THROW(linear_logprobs(hidden, head, at::zeros({3}, at::kLong), {.temperature = 0.0}),
               Error);
}

TEST(LinearLogprobs, GraphMayBeWalkedTwice) {
  for (const bool directly : {false, true}) {
    for (const int64_t keep : {int64_t{0}, int64_t{1} << 20}) {
      for (auto& c : head_cases()) {
        c.options.keep_logits_bytes = keep;
        const auto rows = linear_logprobs(c.hidden, c.head, c.targets, c.options);
        const auto half = 0.5 * (c["g"] * rows.logprobs).sum();
        std::optional<DirectGradients> here;
        if (directly) here.emplace();
        half.backward({}, /*retain_graph=*/true);
        half.backward();
        EXPECT_LT(gradient_difference(c, c.json["grads_logprobs"]), kDoubleTolerance)
            << c.name << " " << directly;
      }
    }
  }
}

}  // namespace
}  // namespace rlhf
