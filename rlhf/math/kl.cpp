#include "rlhf/math/kl.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {

at::Tensor bounded_exp(const at::Tensor& x) {
  const auto inside = x.clamp_max(kLogRatioBound);
  const auto edge = inside.exp();
  // Beyond the bound `inside` is constant: the second term alone carries the value's growth and the
  // gradient.
  return edge + edge.detach() * (x - inside);
}

at::Tensor kl_estimate(KlEstimator estimator, const at::Tensor& logprobs,
                       const at::Tensor& ref_logprobs) {
  check(logprobs.sizes() == ref_logprobs.sizes(), "kl_estimate",
        "log-probabilities of one shape were expected, got ({}) and ({}).",
        fmt::join(logprobs.sizes(), ", "), fmt::join(ref_logprobs.sizes(), ", "));
  const auto q = ref_logprobs - logprobs;
  switch (estimator) {
    case KlEstimator::k1:
      return -q;
    case KlEstimator::k2:
      return q.square() / 2;
    case KlEstimator::k3:
      return bounded_exp(q) - q - 1;
  }
  fail("kl_estimate", "a known estimator was expected.");
}

double kl_estimate(KlEstimator estimator, double logprob, double ref_logprob) {
  const double q = ref_logprob - logprob;
  const double inside = std::min(q, kLogRatioBound);
  switch (estimator) {
    case KlEstimator::k1:
      return -q;
    case KlEstimator::k2:
      return q * q / 2;
    case KlEstimator::k3:
      return std::exp(inside) * (1 + (q - inside)) - q - 1;
  }
  fail("kl_estimate", "a known estimator was expected.");
}

}  // namespace rlhf
