#include "rlhf/kernels/softmax_rows.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

namespace rlhf {
namespace {

constexpr double kDoubleTolerance = 1e-12;  // sums of some 3000 numbers near 1
constexpr double kFloatTolerance = 2e-5;    // logits near 10 carry 1e-6 each

double difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

struct Tiles {
  at::Tensor z;        // (N, V), a part of a wider buffer: the stride is not the width
  at::Tensor targets;  // one below, one in and one above every tile edge
  std::vector<int64_t> edges;
};

Tiles tiles_of(at::ScalarType type) {
  at::manual_seed(2);
  const auto buffer = (at::randn({9, 3200}, at::kDouble) * 3).to(type);
  return {buffer.narrow(1, 5, 3100),
          at::tensor({0, 1023, 1024, 1499, 1500, 2047, 2048, 3098, 3099}, at::kLong),
          {0, 1500, 1507, 3100}};
}

RowStats run(const Tiles& t, bool plain) {
  const auto stats = RowStats::make(
      t.z.size(0), {.entropy = true, .collision = true, .total = true, .argmax = true}, at::kCPU);
  for (size_t i = 0; i + 1 < t.edges.size(); ++i) {
    const auto tile = t.z.narrow(1, t.edges[i], t.edges[i + 1] - t.edges[i]);
    (plain ? reference::softmax_update : softmax_update)(tile, t.edges[i], t.targets, stats);
  }
  return stats;
}

TEST(SoftmaxRows, StatisticsOverTilesAreThoseOfTheRow) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kDoubleTolerance : kFloatTolerance;
    const auto t = tiles_of(type);
    const auto log_p = t.z.to(at::kDouble).log_softmax(1);
    for (const bool plain : {false, true}) {
      const auto stats = run(t, plain);
      EXPECT_LT(difference(stats.logprobs(), log_p.gather(1, t.targets.unsqueeze(1)).squeeze(1)),
                tolerance);
      EXPECT_LT(difference(stats.entropy(), -(log_p.exp() * log_p).sum(1)), tolerance);
      EXPECT_LT(difference(stats.log_collision(), (2 * log_p).logsumexp(1)), tolerance);
      EXPECT_LT(difference(stats.total, t.z.to(at::kDouble).sum(1)),
                10 * tolerance);  // sums up to some 500
      EXPECT_TRUE(at::equal(stats.argmax, t.z.argmax(1)));
    }
  }
}

TEST(SoftmaxRows, ThreadsDoNotChangeABit) {
  const auto t = tiles_of(at::kFloat);
  const int threads = at::get_num_threads();
  const auto many = run(t, /*plain=*/false);
  at::set_num_threads(1);
  const auto one = run(t, /*plain=*/false);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(many.sum, one.sum) && at::equal(many.centred, one.centred));
  EXPECT_TRUE(at::equal(many.squares, one.squares) && at::equal(many.total, one.total));
}

TEST(SoftmaxRows, GradientOfEveryTermEqualsPlain) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto t = tiles_of(type);
    const auto stats = run(t, /*plain=*/true);
    const auto row = [] { return at::randn({9}, at::kDouble); };
    const RowGradient gradient{row(), row(), row(), row()};
    for (const double softcap : {0.0, 20.0}) {
      const LogitTransform transform{
          .bias = {}, .scale = 0.7, .softcap = softcap, .temperature = 1.3};
      for (const bool all : {true, false}) {
        const RowGradient asked =
            all ? gradient : RowGradient{gradient.onehot, gradient.prob, {}, {}};
        const auto want = at::empty_like(t.z);
        reference::softmax_gradient(t.z, 0, t.targets, stats, asked, transform, want);
        const auto got = at::empty_like(t.z);
        softmax_gradient(t.z, 0, t.targets, stats, asked, transform, got);
        EXPECT_LT(difference(got, want), type == at::kDouble ? kDoubleTolerance : kFloatTolerance);
        const auto in_place = t.z.clone();
        softmax_gradient(in_place, 0, t.targets, stats, asked, transform, in_place);
        EXPECT_TRUE(at::equal(in_place, got));
      }
    }
  }
}

TEST(SoftmaxRows, WeightsEqualPlain) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const double tolerance = type == at::kDouble ? kDoubleTolerance : kFloatTolerance;
    for (const double cap_inverse : {0.0, 0.05}) {
      const auto t = tiles_of(type);
      const auto a = RowStats::make(9, {.entropy = true, .collision = true}, at::kCPU);
      const auto b = RowStats::make(9, {.entropy = true, .collision = true}, at::kCPU);
      for (size_t i = 0; i + 1 < t.edges.size(); ++i) {
        const auto fused = t.z.narrow(1, t.edges[i], t.edges[i + 1] - t.edges[i]).clone();
        const auto plain = fused.clone();
        const auto rescale = softmax_weights(fused, t.edges[i], t.targets, a, cap_inverse);
        EXPECT_LT(difference(rescale, reference::softmax_weights(plain, t.edges[i], t.targets, b,
                                                                 cap_inverse)),
                  tolerance);
        EXPECT_LT(difference(fused, plain), tolerance);
      }
      EXPECT_LT(difference(a.logprobs(), b.logprobs()), tolerance);
      EXPECT_LT(difference(a.entropy(), b.entropy()), tolerance);
      EXPECT_LT(difference(a.log_collision(), b.log_collision()), tolerance);
    }
  }
}

TEST(SoftmaxRows, TransformEqualsPlain) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const double softcap : {0.0, 4.0}) {
      const auto t = tiles_of(type);
      const LogitTransform transform{
          .bias = at::randn({3200}).to(type), .scale = 0.7, .softcap = softcap, .temperature = 1.3};
      const auto got = t.z.clone();
      const auto want = t.z.clone();
      transform_logits(got, 50, transform);
      reference::transform_logits(want, 50, transform);
      EXPECT_LT(difference(got, want), type == at::kDouble ? kDoubleTolerance : kFloatTolerance);
    }
  }
}

// One token at 0, the rest at −1000: their terms are below every float and must neither show nor be
// denormal.
TEST(SoftmaxRows, FarTokensCountForNothing) {
  auto z = at::full({1, 2000}, -1000.0F);
  z[0][7] = 0.0;
  const auto target = at::tensor({7}, at::kLong);
  const auto stats = RowStats::make(1, {.entropy = true, .collision = true}, at::kCPU);
  softmax_weights(z, 0, target, stats, /*cap_inverse=*/0.0);
  EXPECT_EQ(stats.logprobs().item<double>(), 0.0);
  EXPECT_EQ(stats.log_collision().item<double>(), 0.0);
  EXPECT_EQ((z != 0).sum().item<int>(), 1);
}

}  // namespace
}  // namespace rlhf
