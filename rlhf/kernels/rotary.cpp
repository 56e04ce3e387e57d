#include "rlhf/kernels/rotary.h"

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

template <class T>
void turn_tokens(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                 RotaryPairs pairs, double sign, const at::Tensor& out) {
  const simd::RotaryArgs<T> args{x.data_ptr<T>(),   x.stride(0),
                                 x.stride(1),       cos.data_ptr<T>(),
                                 sin.data_ptr<T>(), static_cast<T>(sign),
                                 x.size(1),         x.size(2),
                                 cos.size(1),       pairs == RotaryPairs::interleaved,
                                 out.data_ptr<T>()};
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, x.size(1) * x.size(2)));
  at::parallel_for(0, x.size(0), grain,
                   [&](int64_t begin, int64_t end) { simd::rotary(args, begin, end); });
}

at::Tensor turn(const at::Tensor& x_in, const at::Tensor& cos, const at::Tensor& sin,
                RotaryPairs pairs, double sign) {
  const auto x = x_in.stride(2) == 1 ? x_in : x_in.contiguous();
  auto out = at::empty(x.sizes(), x.options());
  if (x.scalar_type() == at::kFloat) {
    turn_tokens<float>(x, cos, sin, pairs, sign, out);
  } else {
    turn_tokens<double>(x, cos, sin, pairs, sign, out);
  }
  return out;
}

class Rotary : public torch::autograd::Function<Rotary> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x, const at::Tensor& cos,
                          const at::Tensor& sin, RotaryPairs pairs) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["interleaved"] = pairs == RotaryPairs::interleaved;
    return turn(x, cos, sin, pairs, /*sign=*/1.0);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto pairs = ctx->saved_data["interleaved"].toBool() ? RotaryPairs::interleaved
                                                               : RotaryPairs::half_split;
    return {turn(grads[0], saved[0], saved[1], pairs, /*sign=*/-1.0), {}, {}, {}};
  }
};

bool fused(const at::Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

}  // namespace

namespace reference {

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  RotaryPairs pairs) {
  const int64_t half = cos.size(1);
  const auto c = cos.unsqueeze(1).to(x.scalar_type());  // (T, 1, Dr / 2)
  const auto s = sin.unsqueeze(1).to(x.scalar_type());
  const auto turned = x.narrow(-1, 0, 2 * half);
  const auto rest = x.narrow(-1, 2 * half, x.size(-1) - 2 * half);
  if (pairs == RotaryPairs::half_split) {
    const auto a = turned.narrow(-1, 0, half);
    const auto b = turned.narrow(-1, half, half);
    return at::cat({a * c - b * s, b * c + a * s, rest}, -1);
  }
  const auto split = turned.unflatten(-1, {half, 2});
  const auto a = split.select(-1, 0);
  const auto b = split.select(-1, 1);
  const auto out = at::stack({a * c - b * s, b * c + a * s}, -1).flatten(-2);
  return at::cat({out, rest}, -1);
}

}  // namespace reference

at::Tensor rotary(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                  RotaryPairs pairs) {
  check(x.dim() == 3 && cos.dim() == 2 && cos.sizes() == sin.sizes() && cos.size(0) == x.size(0) &&
            2 * cos.size(1) <= x.size(2),
        "rotary",
        "x (T, H, D), cos and sin (T, Dr / 2) with Dr <= D were expected, got ({}), ({}) and ({}).",
        fmt::join(x.sizes(), ", "), fmt::join(cos.sizes(), ", "), fmt::join(sin.sizes(), ", "));
  if (!fused(x)) {
    return reference::rotary(x, cos, sin, pairs);
  }
  const auto type = x.scalar_type();
  return Rotary::apply(x, cos.detach().to(type).contiguous(), sin.detach().to(type).contiguous(),
                       pairs);
}

}  // namespace rlhf
