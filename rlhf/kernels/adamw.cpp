#include "rlhf/kernels/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/kernels/adamw_args.h"

namespace rlhf {
namespace {

constexpr int64_t kBlock = 1 << 16;

int64_t blocks_of(int64_t numbers) { return (numbers + kBlock - 1) / kBlock; }

bool is_wide(at::ScalarType type) { return type == at::kFloat || type == at::kDouble; }

bool fused(const at::Tensor& t) {
  return t.device().is_cpu() && t.is_contiguous() && is_wide(t.scalar_type());
}

/// Numbers of a tensor as T, block by block: where they lie, or widened into a buffer of one block.
template <class T>
class Blocks {
 public:
  explicit Blocks(const at::Tensor& numbers) : flat_(numbers.detach().view(-1)) {}

  const T* read(int64_t first, int64_t count) {
    constexpr auto kType = c10::CppTypeToScalarType<T>::value;
    if (flat_.scalar_type() == kType) return flat_.const_data_ptr<T>() + first;
    if (!buffer_.defined()) buffer_ = at::empty({kBlock}, kType);
    buffer_.narrow(0, 0, count).copy_(flat_.narrow(0, first, count));
    return buffer_.const_data_ptr<T>();
  }

 private:
  at::Tensor flat_;
  at::Tensor buffer_;
};

void check_arguments(const at::Tensor& parameter, const at::Tensor& gradient,
                     const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq,
                     const at::Tensor& target) {
  check(gradient.sizes() == parameter.sizes() && exp_avg.sizes() == parameter.sizes() &&
            exp_avg_sq.sizes() == parameter.sizes() && target.sizes() == parameter.sizes(),
        "adamw_step", "gradient, state and master of the parameter's shape ({}) were expected.",
        fmt::join(parameter.sizes(), ", "));
  check(exp_avg.scalar_type() == target.scalar_type() &&
            exp_avg_sq.scalar_type() == target.scalar_type(),
        "adamw_step", "state of the type {} was expected, got {} and {}.",
        toString(target.scalar_type()), toString(exp_avg.scalar_type()),
        toString(exp_avg_sq.scalar_type()));
}

template <class T>
void adamw_fused(const at::Tensor& target, const at::Tensor& gradient, const at::Tensor& exp_avg,
                 const at::Tensor& exp_avg_sq, const AdamWStep& step) {
  const auto numbers = gradient.contiguous();
  const int64_t n = target.numel();
  at::parallel_for(0, blocks_of(n), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    Blocks<T> gradients(numbers);
    auto args = adamw_args<T>(step);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = b * kBlock;
      const int64_t count = std::min(kBlock, n - first);
      args.parameter = target.data_ptr<T>() + first;
      args.gradient = gradients.read(first, count);
      args.exp_avg = exp_avg.data_ptr<T>() + first;
      args.exp_avg_sq = exp_avg_sq.data_ptr<T>() + first;
      simd::adamw(args, 0, count);
    }
  });
}

template <class T>
double squares_fused(const at::Tensor& x) {
  const int64_t n = x.numel();
  std::vector<double> blocks(static_cast<size_t>(blocks_of(n)));
  at::parallel_for(0, blocks_of(n), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    Blocks<T> numbers(x);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t count = std::min(kBlock, n - b * kBlock);
      blocks[static_cast<size_t>(b)] = simd::sum_of_squares(numbers.read(b * kBlock, count), count);
    }
  });
  double sum = 0.0;
  for (const double block : blocks) {
    sum += block;
  }
  return sum;
}

}  // namespace

namespace reference {

void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& exp_avg,
                const at::Tensor& exp_avg_sq, const AdamWStep& step, const at::Tensor& master) {
  const at::NoGradGuard no_grad;
  const auto target = master.defined() ? master : parameter;
  const auto g = gradient.to(target.scalar_type()) * step.grad_scale;
  target.mul_(1.0 - step.lr * step.weight_decay);
  exp_avg.lerp_(g, 1.0 - step.beta1);
  exp_avg_sq.mul_(step.beta2).addcmul_(g, g, 1.0 - step.beta2);
  const auto denominator = (exp_avg_sq.sqrt() / std::sqrt(step.bias_correction2)).add_(step.eps);
  target.addcdiv_(exp_avg, denominator, -step.lr / step.bias_correction1);
  if (master.defined()) {
    parameter.copy_(master);
  }
}

double sum_of_squares(const at::Tensor& x) {
  return x.defined() ? x.detach().to(at::kDouble).square().sum().item<double>() : 0.0;
}

}  // namespace reference

void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient, const at::Tensor& exp_avg,
                const at::Tensor& exp_avg_sq, const AdamWStep& step, const at::Tensor& master) {
  const at::NoGradGuard no_grad;
  const auto target = master.defined() ? master : parameter;
  check_arguments(parameter, gradient, exp_avg, exp_avg_sq, target);
  if (!fused(target) || !fused(exp_avg) || !fused(exp_avg_sq) || !gradient.device().is_cpu()) {
    reference::adamw_step(parameter, gradient, exp_avg, exp_avg_sq, step, master);
    return;
  }
  if (target.scalar_type() == at::kFloat) {
    adamw_fused<float>(target, gradient, exp_avg, exp_avg_sq, step);
  } else {
    adamw_fused<double>(target, gradient, exp_avg, exp_avg_sq, step);
  }
  target.unsafeGetTensorImpl()->bump_version();
  exp_avg.unsafeGetTensorImpl()->bump_version();
  exp_avg_sq.unsafeGetTensorImpl()->bump_version();
  if (master.defined()) {
    parameter.copy_(master);
  }
}

double sum_of_squares(const at::Tensor& x) {
  if (!x.defined() || !x.device().is_cpu() || !x.is_contiguous()) {
    return reference::sum_of_squares(x);
  }
  return x.scalar_type() == at::kDouble ? squares_fused<double>(x) : squares_fused<float>(x);
}

}  // namespace rlhf
