// Softmax statistics, weights and gradient of rows of logits, the whole vocabulary as one tile.
#include "rlhf/kernels/softmax_rows.h"

#include <ATen/ATen.h>

#include "bench/kernels/bench.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kRows = 512;     // R
constexpr int64_t kVocab = 49152;  // V
constexpr double kSize = kRows * kVocab;

// Logits up to 15 carry 1e-6 each, which exp turns into as much of its result.
constexpr double kTolerance = 1e-5;

struct Rows {
  at::Tensor z;        // (R, V)
  at::Tensor targets;  // (R)
};

Rows make_rows() {
  return {at::randn({kRows, kVocab}) * 3, at::randint(kVocab, {kRows}, at::kLong)};
}

RowStats statistics(const Rows& rows, bool entropy) {
  const auto stats = RowStats::make(kRows, {.entropy = entropy}, at::kCPU);
  softmax_update(rows.z, /*first=*/0, rows.targets, stats);
  return stats;
}

at::Tensor pick(const at::Tensor& log_p, const at::Tensor& targets) {
  return log_p.gather(1, targets.unsqueeze(1)).squeeze(1);
}

Pair logprobs_pair() {
  const Rows rows = make_rows();
  return {[=] { return Tensors{statistics(rows, /*entropy=*/false).logprobs()}; },
          [=] { return Tensors{pick(at::log_softmax(rows.z, 1), rows.targets)}; }};
}

Pair entropy_pair() {
  const Rows rows = make_rows();
  return {[=] {
            const auto stats = statistics(rows, /*entropy=*/true);
            return Tensors{stats.logprobs(), stats.entropy()};
          },
          [=] {
            const auto log_p = at::log_softmax(rows.z, 1);
            return Tensors{pick(log_p, rows.targets), -(log_p.exp() * log_p).sum(1)};
          }};
}

// In place, so only the first call, which is the checked one, meets the logits. Later ones meet
// numbers between 0 and 1, at the same cost.
Pair weights_pair() {
  const Rows rows = make_rows();
  const auto buffer = rows.z.clone();
  return {[=] {
            const auto stats = RowStats::make(kRows, {}, at::kCPU);
            softmax_weights(buffer, /*first=*/0, rows.targets, stats, /*cap_inverse=*/0.0);
            return Tensors{buffer};
          },
          [=] { return Tensors{(rows.z - rows.z.amax(1, /*keepdim=*/true)).exp_()}; }};
}

// dz = g · (1[v = target] − p)
Pair gradient_pair() {
  const Rows rows = make_rows();
  const auto g = at::randn({kRows}, at::kDouble);
  const auto stats = statistics(rows, /*entropy=*/false);
  const auto out = at::empty_like(rows.z);
  return {[=] {
            softmax_gradient(rows.z, /*first=*/0, rows.targets, stats, {g, -g, {}, {}}, {}, out);
            return Tensors{out};
          },
          [=, column = g.to(at::kFloat).unsqueeze(1)] {
            return Tensors{at::softmax(rows.z, 1).mul_(-column).scatter_add_(
                1, rows.targets.unsqueeze(1), column)};
          }};
}

}  // namespace

void add_softmax_rows() {
  add({"softmax/logprobs", floats_moved(kSize), kTolerance, logprobs_pair});
  add({"softmax/entropy", floats_moved(kSize), kTolerance, entropy_pair});
  add({"softmax/weights", floats_moved(2 * kSize), kTolerance, weights_pair});
  add({"softmax/gradient", floats_moved(2 * kSize), kTolerance, gradient_pair});
}

}  // namespace rlhf::bench
