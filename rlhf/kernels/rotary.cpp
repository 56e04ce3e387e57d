#include "rlhf/kernels/rotary.h"

#include "rlhf/core/error.h"

namespace rlhf {
namespace reference {

torch::Tensor rotary(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                     RotaryPairs pairs) {
  const int64_t half = cos.size(1);
  const auto c = cos.unsqueeze(1).to(x.scalar_type());  // (T, 1, Dr / 2)
  const auto s = sin.unsqueeze(1).to(x.scalar_type());
  const auto turned = x.narrow(-1, 0, 2 * half);
  const auto rest = x.narrow(-1, 2 * half, x.size(-1) - 2 * half);
  if (pairs == RotaryPairs::half_split) {
    const auto a = turned.narrow(-1, 0, half);
    const auto b = turned.narrow(-1, half, half);
    return torch::cat({a * c - b * s, b * c + a * s, rest}, -1);
  }
  const auto split = turned.unflatten(-1, {half, 2});
  const auto a = split.select(-1, 0);
  const auto b = split.select(-1, 1);
  const auto out = torch::stack({a * c - b * s, b * c + a * s}, -1).flatten(-2);
  return torch::cat({out, rest}, -1);
}

}  // namespace reference

torch::Tensor rotary(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin,
                     RotaryPairs pairs) {
  check(x.dim() == 3 && cos.dim() == 2 && cos.sizes() == sin.sizes() && cos.size(0) == x.size(0) &&
            2 * cos.size(1) <= x.size(2),
        "rotary",
        "x (T, H, D), cos and sin (T, Dr / 2) with Dr <= D were expected, got ({}), ({}) and ({}).",
        fmt::join(x.sizes(), ", "), fmt::join(cos.sizes(), ", "), fmt::join(sin.sizes(), ", "));
  return reference::rotary(x, cos, sin, pairs);
}

}  // namespace rlhf
