#include "rlhf/kernels/norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/elementwise_simd.h"

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr int64_t kGradRows = 256;  // rows whose part of the weight's gradient is summed at a time

int64_t grain(int64_t width) { return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, width)); }

template <class T>
void forward_rows(const at::Tensor& x, const at::Tensor& weight, double eps, double offset,
                  const at::Tensor& out, const at::Tensor& inverse) {
  const simd::NormArgs<T> args{x.data_ptr<T>(),      weight.data_ptr<T>(), static_cast<T>(offset),
                               static_cast<T>(eps),  x.size(-1),           out.data_ptr<T>(),
                               inverse.data_ptr<T>()};
  at::parallel_for(0, inverse.numel(), grain(x.size(-1)),
                   [&](int64_t begin, int64_t end) { simd::rms_norm(args, begin, end); });
}

// Returns the weight's gradient, or nothing where it is not wanted.
template <class T>
at::Tensor backward_rows(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& inverse, double offset, bool want_weight,
                         const at::Tensor& dx) {
  const int64_t rows = inverse.numel();
  const int64_t width = x.size(-1);
  const simd::NormGradArgs<T> args{
      gradient.data_ptr<T>(), x.data_ptr<T>(), weight.data_ptr<T>(), inverse.data_ptr<T>(),
      static_cast<T>(offset), width,           dx.data_ptr<T>()};
  if (!want_weight) {
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      simd::rms_norm_grad(args, static_cast<T*>(nullptr), begin, end);
    });
    return {};
  }
  const int64_t blocks = (rows + kGradRows - 1) / kGradRows;
  const auto parts = at::zeros({blocks, width}, x.options());
  T* data = parts.data_ptr<T>();
  at::parallel_for(0, blocks, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      simd::rms_norm_grad(args, data + b * width, b * kGradRows,
                          std::min(rows, (b + 1) * kGradRows));
    }
  });
  return parts.sum(0);
}

class RmsNorm : public torch::autograd::Function<RmsNorm> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& weight,
                          double eps, double offset) {
    auto [y, inverse] = rms_norm_forward(x, weight, eps, offset);
    ctx->save_for_backward({x, weight, inverse});
    ctx->saved_data["offset"] = offset;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    auto [dx, dw] =
        rms_norm_backward(grads[0], saved[0], saved[1], saved[2],
                          ctx->saved_data["offset"].toDouble(), ctx->needs_input_grad(1));
    return {dx, dw, {}, {}};
  }
};

}  // namespace

bool has_norm_kernel(const at::Tensor& x, const at::Tensor& weight) {
  return x.device().is_cpu() && weight.device().is_cpu() &&
         x.scalar_type() == weight.scalar_type() &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

Normed rms_norm_forward(const at::Tensor& x_in, const at::Tensor& weight_in, double eps,
                        double weight_offset) {
  const auto x = x_in.contiguous();
  const auto weight = weight_in.contiguous();
  Normed out{at::empty_like(x),
             at::empty(x.sizes().slice(0, static_cast<size_t>(x.dim() - 1)), x.options())};
  if (x.scalar_type() == at::kFloat) {
    forward_rows<float>(x, weight, eps, weight_offset, out.y, out.inverse);
  } else {
    forward_rows<double>(x, weight, eps, weight_offset, out.y, out.inverse);
  }
  return out;
}

NormGradients rms_norm_backward(const at::Tensor& gradient_in, const at::Tensor& x_in,
                                const at::Tensor& weight_in, const at::Tensor& inverse,
                                double weight_offset, bool want_weight) {
  const auto x = x_in.contiguous();
  const auto weight = weight_in.contiguous();
  const auto gradient = gradient_in.contiguous();
  NormGradients out{at::empty_like(x), {}};
  out.weight =
      x.scalar_type() == at::kFloat
          ? backward_rows<float>(gradient, x, weight, inverse, weight_offset, want_weight, out.x)
          : backward_rows<double>(gradient, x, weight, inverse, weight_offset, want_weight, out.x);
  return out;
}

namespace reference {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    double weight_offset) {
  const auto wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto wide_x = x.to(wide);
  const auto normed = wide_x * at::rsqrt(wide_x.square().mean(-1, /*keepdim=*/true) + eps);
  if (weight_offset == 0.0) {
    return normed.to(x.scalar_type()) * weight;
  }
  return (normed * (weight.to(wide) + weight_offset)).to(x.scalar_type());
}

}  // namespace reference

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps,
                    double weight_offset) {
  check(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0), "rms_norm",
        "x (..., C) and weight (C) were expected, got ({}) and ({}).", fmt::join(x.sizes(), ", "),
        fmt::join(weight.sizes(), ", "));
  return has_norm_kernel(x, weight) ? RmsNorm::apply(x, weight, eps, weight_offset)
                                    : reference::rms_norm(x, weight, eps, weight_offset);
}

}  // namespace rlhf
