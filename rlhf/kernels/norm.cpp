#include "rlhf/kernels/norm.h"

#include "rlhf/core/error.h"

namespace rlhf {
namespace reference {

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                       double weight_offset) {
  const auto wide = x.scalar_type() == torch::kDouble ? torch::kDouble : torch::kFloat;
  const auto wide_x = x.to(wide);
  const auto normed = wide_x * torch::rsqrt(wide_x.square().mean(-1, /*keepdim=*/true) + eps);
  if (weight_offset == 0.0) {
    return normed.to(x.scalar_type()) * weight;
  }
  return (normed * (weight.to(wide) + weight_offset)).to(x.scalar_type());
}

}  // namespace reference

torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double eps,
                       double weight_offset) {
  check(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0), "rms_norm",
        "x (..., C) and weight (C) were expected, got ({}) and ({}).", fmt::join(x.sizes(), ", "),
        fmt::join(weight.sizes(), ", "));
  return reference::rms_norm(x, weight, eps, weight_offset);
}

}  // namespace rlhf
