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
                          GluActivation activation) {
    ctx->save_for_backward({gate, up});
    ctx->saved_data["activation"] = static_cast<int64_t>(activation);
    return glu_forward(gate, up, activation);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto activation = static_cast<GluActivation>(ctx->saved_data["activation"].toInt());
    auto [d_gate, d_up] = glu_backward(grads[0], saved[0], saved[1], activation);
    return {d_gate, d_up, {}};
  }
};

simd::Gate gate_of(GluActivation activation) {
  return activation == GluActivation::silu ? simd::Gate::silu : simd::Gate::gelu_tanh;
}

}  // namespace

bool has_glu_kernel(const at::Tensor& gate, GluActivation activation) {
  return activation != GluActivation::gelu && gate.device().is_cpu() &&
         (gate.scalar_type() == at::kFloat || gate.scalar_type() == at::kDouble);
}

at::Tensor glu_forward(const at::Tensor& gate, const at::Tensor& up, GluActivation activation) {
  auto out = at::empty(gate.sizes(), gate.options());
  run_typed(gate_of(activation), {}, gate, up, out, {});
  return out;
}

GluGradients glu_backward(const at::Tensor& gradient, const at::Tensor& gate, const at::Tensor& up,
                          GluActivation activation) {
  GluGradients out{at::empty(gate.sizes(), gate.options()), at::empty(up.sizes(), up.options())};
  run_typed(gate_of(activation), gradient.contiguous(), gate, up, out.gate, out.up);
  return out;
}

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
  if (!has_glu_kernel(gate, activation)) return reference::glu(gate, up, activation);
  return Glu::apply(gate, up, activation);
}

}  // namespace rlhf
