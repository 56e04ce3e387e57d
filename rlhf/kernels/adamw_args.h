// An AdamWStep as the vector kernel takes it; the caller sets the pointers.
#pragma once

#include <cmath>

#include "rlhf/kernels/adamw.h"
#include "rlhf/kernels/elementwise_simd.h"

namespace rlhf {

template <class T>
simd::AdamWArgs<T> adamw_args(const AdamWStep& step) {
  return {.parameter = nullptr,
          .gradient = nullptr,
          .exp_avg = nullptr,
          .exp_avg_sq = nullptr,
          .grad_scale = static_cast<T>(step.grad_scale),
          .keep = static_cast<T>(1.0 - step.lr * step.weight_decay),
          .one_minus_beta1 = static_cast<T>(1.0 - step.beta1),
          .beta2 = static_cast<T>(step.beta2),
          .one_minus_beta2 = static_cast<T>(1.0 - step.beta2),
          .eps = static_cast<T>(step.eps),
          .step_size = static_cast<T>(step.lr / step.bias_correction1),
          .root_correction = static_cast<T>(std::sqrt(step.bias_correction2))};
}

}  // namespace rlhf
