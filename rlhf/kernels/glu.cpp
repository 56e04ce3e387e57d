#include "rlhf/kernels/glu.h"

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

// As rows of contiguous numbers at one stride, without a copy where the strides allow it.
at::Tensor as_rows(const at::Tensor& t) {
  if (t.dim() == 2 && t.stride(1) == 1) {
    return t;
  }
  const auto whole = t.contiguous();
  return whole.dim() == 0
             ? whole.view({1, 1})
             : whole.view({whole.numel() / std::max<int64_t>(1, t.size(-1)), t.size(-1)});
}

// The forward where `gradient` is undefined, else the backward: out is d gate, out_up d up.
template <class T>
void run(simd::Gate kind, const at::Tensor& gradient, const at::Tensor& gate, const at::Tensor& up,
         const at::Tensor& out, const at::Tensor& out_up) {
  const simd::GluArgs<T> args{kind,
                              gradient.defined() ? gradient.data_ptr<T>() : nullptr,
                              gate.data_ptr<T>(),
                              up.data_ptr<T>(),
                              gate.stride(0),
                              up.stride(0),
                              gate.size(1),
                              out.data_ptr<T>(),
                              out_up.defined() ? out_up.data_ptr<T>() : nullptr};
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, gate.size(1)));
  at::parallel_for(0, gate.size(0), grain,
                   [&](int64_t begin, int64_t end) { simd::glu(args, begin, end); });
}

void run_typed(simd::Gate kind, const at::Tensor& gradient, const at::Tensor& gate,
               const at::Tensor& up, const at::Tensor& out, const at::Tensor& out_up) {
  const auto gate_rows = as_rows(gate);
  const auto up_rows = as_rows(up);
  if (gate.scalar_type() == at::kFloat) {
    run<float>(kind, gradient, gate_rows, up_rows, out, out_up);
  } else {
    run<double>(kind, gradient, gate_rows, up_rows, out, out_up);
  }
}

class Glu : public torch::autograd::Function<Glu> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& gate, const Variable& up,
                          simd::Gate kind) {
    auto out = at::empty(gate.sizes(), gate.options());
    run_typed(kind, {}, gate, up, out, {});
    ctx->save_for_backward({gate, up});
    ctx->saved_data["silu"] = kind == simd::Gate::silu;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto kind = ctx->saved_data["silu"].toBool() ? simd::Gate::silu : simd::Gate::gelu_tanh;
    const auto d_gate = at::empty(saved[0].sizes(), saved[0].options());
    const auto d_up = at::empty(saved[0].sizes(), saved[0].options());
    run_typed(kind, grads[0].contiguous(), saved[0], saved[1], d_gate, d_up);
    return {d_gate, d_up, {}};
  }
};

bool fused(const at::Tensor& t, GluActivation activation) {
  return activation != GluActivation::gelu && t.device().is_cpu() &&
         (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble);
}

}  // namespace

namespace reference {

at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, GluActivation activation) {
  switch (activation) {
    case GluActivation::silu:
      return at::silu(gate) * up;
    case GluActivation::gelu_tanh:
      return at::gelu(gate, "tanh") * up;
    case GluActivation::gelu:
      return at::gelu(gate) * up;
  }
  fail("glu", "an activation was expected.");
}

}  // namespace reference

at::Tensor glu(const at::Tensor& gate, const at::Tensor& up, GluActivation activation) {
  check(gate.sizes() == up.sizes() && gate.scalar_type() == up.scalar_type(), "glu",
        "gate and up of one shape and type were expected, got {} ({}) and {} ({}).",
        toString(gate.scalar_type()), fmt::join(gate.sizes(), ", "), toString(up.scalar_type()),
        fmt::join(up.sizes(), ", "));
  if (!fused(gate, activation)) {
    return reference::glu(gate, up, activation);
  }
  return Glu::apply(gate, up,
                    activation == GluActivation::silu ? simd::Gate::silu : simd::Gate::gelu_tanh);
}

}  // namespace rlhf
