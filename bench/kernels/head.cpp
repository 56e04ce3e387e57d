// The head: hidden rows to log-probabilities over a vocabulary, and back.
#include <ATen/ATen.h>

#include "bench/kernels/bench.h"
#include "rlhf/math/linear_logprobs.h"

namespace rlhf::bench {
namespace {

constexpr int64_t kRows = 512;     // R
constexpr int64_t kWidth = 576;    // C
constexpr int64_t kVocab = 49152;  // V
constexpr double kProduct = 2.0 * kRows * kWidth * kVocab;

// Logits near 10 carry 1e-6 each; gradients sum products of some thousands of them in two orders.
constexpr double kTolerance = 1e-5;

Differentiable head_case(const char* name, size_t leaves) {
  return {
      .name = name,
      .forward = {},
      .backward = {},
      .both = {},
      .tolerance = kTolerance,
      .leaves = leaves,
      .inputs =
          [] {
            return Tensors{at::randn({kRows, kWidth}), at::randn({kVocab, kWidth}) * 0.1,
                           at::randint(kVocab, {kRows}, at::kLong)};
          },
      .kernel = [](const Tensors& in) { return linear_logprobs(in[0], {in[1]}, in[2]).logprobs; },
      .torch =
          [](const Tensors& in) {
            return reference::linear_logprobs(in[0], {in[1]}, in[2]).logprobs;
          }};
}

template <class Loss>
auto supervised(Loss loss) {
  return [loss](const Tensors& in) {
    const auto coefficients = at::full({kRows}, 1.0 / kRows);
    return loss(in[0], {in[1]}, in[2], coefficients, RowObjective::nll, /*label_smoothing=*/0.0, {})
        .loss;
  };
}

}  // namespace

// Products counted: the logits, the gradient of the rows, the gradient of the matrix. What is
// computed again is not.
void add_head() {
  Differentiable trained = head_case("head/logprobs", /*leaves=*/2);
  trained.forward = operations(kProduct);
  trained.backward = operations(2 * kProduct);
  add(trained);
  Differentiable frozen = head_case("head/frozen", /*leaves=*/1);
  frozen.both = operations(2 * kProduct);
  add(frozen);
  Differentiable loss = head_case("head/supervised", /*leaves=*/2);
  loss.both = operations(3 * kProduct);
  loss.kernel = supervised(&linear_supervised_loss);
  loss.torch = supervised(&reference::linear_supervised_loss);
  add(loss);
}

}  // namespace rlhf::bench
