// What the tests of losses share.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <functional>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/losses/dpo.h"

namespace rlhf::testing {

/// Every pairwise loss that dpo_loss computes.
inline std::vector<DpoLoss> pair_losses() {
  std::vector<DpoLoss> losses;
  for (size_t i = 0; i < EnumNames<DpoLoss>::names.size(); ++i) {
    if (const auto loss = static_cast<DpoLoss>(i); loss != DpoLoss::sft) {
      losses.push_back(loss);
    }
  }
  return losses;
}

inline at::Tensor numbers(std::vector<double> values, at::ScalarType type = at::kDouble) {
  return at::tensor(values, at::kDouble).to(type);
}

/// Numbers of a recorded case.
inline at::Tensor recorded(const Json& json, at::ScalarType type = at::kDouble) {
  return numbers(json.get<std::vector<double>>(), type);
}

inline double difference(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() ? (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>()
                                : INFINITY;
}

inline bool finite(const at::Tensor& t) { return t.isfinite().all().item<bool>(); }

/// Largest difference between the gradient of Σ fn() in `leaf` (double) and central differences.
inline double gradient_error(at::Tensor leaf, const std::function<at::Tensor()>& fn) {
  constexpr double kStep = 1e-5;
  leaf.mutable_grad().reset();
  fn().sum().backward();
  const auto gradient = leaf.grad().clone();
  const at::NoGradGuard no_grad;
  double worst = 0.0;
  for (int64_t i = 0; i < leaf.numel(); ++i) {
    leaf[i] += kStep;
    const double up = fn().sum().item<double>();
    leaf[i] -= 2 * kStep;
    const double down = fn().sum().item<double>();
    leaf[i] += kStep;
    worst = std::max(worst, std::abs(gradient[i].item<double>() - (up - down) / (2 * kStep)));
  }
  return worst;
}

}  // namespace rlhf::testing
