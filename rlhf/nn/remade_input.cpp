#include "rlhf/nn/remade_input.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "rlhf/kernels/norm.h"
#include "rlhf/kernels/weight_gradient.h"

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

class NormLinears : public torch::autograd::Function<NormLinears> {
 public:
  static variable_list forward(AutogradContext* ctx, const Variable& x, const Variable& norm,
                               at::TensorList weights, at::TensorList biases, double eps,
                               double offset) {
    const auto normed = rms_norm_forward(x, norm, eps, offset).y;
    variable_list out;
    for (size_t i = 0; i < weights.size(); ++i) {
      out.push_back(
          at::linear(normed, weights[i], biases.empty() ? std::nullopt : std::optional(biases[i])));
    }
    variable_list kept = {x, norm};
    kept.insert(kept.end(), weights.begin(), weights.end());
    ctx->save_for_backward(std::move(kept));
    ctx->set_materialize_grads(false);
    ctx->saved_data["biases"] = static_cast<int64_t>(biases.size());
    ctx->saved_data["eps"] = eps;
    ctx->saved_data["offset"] = offset;
    return out;
  }

  // Inputs: x, norm, weights, biases, and two numbers.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& x = saved[0];
    const auto& norm = saved[1];
    const double offset = ctx->saved_data["offset"].toDouble();
    const bool biased = ctx->saved_data["biases"].toInt() > 0;
    const size_t first = 2;
    const size_t count = grads.size();
    const bool passes_on = ctx->needs_input_grad(0) || ctx->needs_input_grad(1);
    auto [normed, inverse] = rms_norm_forward(x, norm, ctx->saved_data["eps"].toDouble(), offset);
    variable_list out(first + (biased ? 2 : 1) * count + 2);
    at::Tensor d_normed;
    for (size_t i = 0; i < count; ++i) {
      const auto& gradient = grads[i];
      if (!gradient.defined()) continue;
      const auto& weight = saved[first + i];
      if (ctx->needs_input_grad(first + i))
        out[first + i] = product_gradient(weight, gradient, normed);
      if (biased && ctx->needs_input_grad(first + count + i))
        out[first + count + i] = gradient.sum(0);
      if (!passes_on) continue;
      d_normed = d_normed.defined() ? d_normed.addmm_(gradient, weight) : at::mm(gradient, weight);
    }
    normed.reset();
    if (!d_normed.defined()) return out;
    auto [dx, d_norm] =
        rms_norm_backward(d_normed, x, norm, inverse, offset, ctx->needs_input_grad(1));
    out[0] = dx;
    out[1] = d_norm;
    return out;
  }
};

class GluLinear : public torch::autograd::Function<GluLinear> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& gate, const Variable& up,
                          const Variable& weight, const std::optional<Variable>& bias,
                          GluActivation activation) {
    ctx->save_for_backward({gate, up, weight});
    ctx->saved_data["activation"] = static_cast<int64_t>(activation);
    ctx->saved_data["biased"] = bias.has_value();
    return at::linear(glu_forward(gate, up, activation), weight, bias);
  }

  // Inputs: gate, up, weight, bias, and the activation.
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& gate = saved[0];
    const auto& up = saved[1];
    const auto activation = static_cast<GluActivation>(ctx->saved_data["activation"].toInt());
    const auto& gradient = grads[0];
    variable_list out(5);
    if (ctx->needs_input_grad(2))
      out[2] = product_gradient(saved[2], gradient, glu_forward(gate, up, activation));
    if (ctx->saved_data["biased"].toBool() && ctx->needs_input_grad(3)) out[3] = gradient.sum(0);
    if (!ctx->needs_input_grad(0) && !ctx->needs_input_grad(1)) return out;
    auto [d_gate, d_up] = glu_backward(at::mm(gradient, saved[2]), gate, up, activation);
    out[0] = d_gate;
    out[1] = d_up;
    return out;
  }
};

}  // namespace

std::vector<at::Tensor> norm_linears(const at::Tensor& x, const NormStep& norm,
                                     at::TensorList weights, at::TensorList biases) {
  return NormLinears::apply(x, norm.weight, weights, biases, norm.eps, norm.offset);
}

at::Tensor glu_linear(const at::Tensor& gate, const at::Tensor& up, GluActivation activation,
                      const at::Tensor& weight, const at::Tensor& bias) {
  return GluLinear::apply(gate, up, weight, as_optional(bias), activation);
}

}  // namespace rlhf
