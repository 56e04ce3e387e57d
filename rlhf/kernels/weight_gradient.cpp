#include "rlhf/kernels/weight_gradient.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Variable;
using torch::autograd::variable_list;

thread_local bool direct = false;

class LinearMap : public torch::autograd::Function<LinearMap> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& x, const Variable& weight,
                          const std::optional<Variable>& bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["biased"] = bias.has_value();
    return at::linear(x, weight, bias);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& gradient = grads[0];
    variable_list out(3);
    if (ctx->needs_input_grad(0)) out[0] = at::mm(gradient, saved[1]);
    if (ctx->needs_input_grad(1)) out[1] = product_gradient(saved[1], gradient, saved[0]);
    if (ctx->saved_data["biased"].toBool() && ctx->needs_input_grad(2)) out[2] = gradient.sum(0);
    return out;
  }
};

class EmbeddingRows : public torch::autograd::Function<EmbeddingRows> {
 public:
  static Variable forward(AutogradContext* ctx, const Variable& weight, const at::Tensor& ids,
                          int64_t padding) {
    ctx->save_for_backward({weight, ids});
    ctx->saved_data["padding"] = padding;
    return at::embedding(weight, ids, padding);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& weight = saved[0];
    const auto& ids = saved[1];
    const int64_t padding = ctx->saved_data["padding"].toInt();
    if (!sums_directly(weight) || !weight.grad().defined()) {
      return {weight_gradient(weight,
                              at::embedding_dense_backward(grads[0], ids, weight.size(0), padding,
                                                           /*scale_grad_by_freq=*/false)),
              {},
              {}};
    }
    const auto rows =
        padding < 0 ? grads[0] : grads[0].masked_fill((ids == padding).unsqueeze(-1), 0.0);
    weight.grad().index_add_(0, ids, rows);
    return {{}, {}, {}};
  }
};

}  // namespace

DirectGradients::DirectGradients() : before_(direct) { direct = true; }
DirectGradients::~DirectGradients() { direct = before_; }

void backward(const at::Tensor& loss) {
  const DirectGradients here;
  loss.backward();
}

bool sums_directly(const at::Tensor& weight) {
  return direct && weight.is_cpu() && weight.is_leaf() && weight.requires_grad();
}

at::Tensor weight_gradient(const at::Tensor& weight, const at::Tensor& gradient) {
  if (!gradient.defined() || !sums_directly(weight)) return gradient;
  at::Tensor leaf = weight;
  at::Tensor& sum = leaf.mutable_grad();
  if (!sum.defined()) {
    sum = gradient;
  } else {
    sum.add_(gradient);
  }
  return {};
}

at::Tensor product_gradient(const at::Tensor& weight, const at::Tensor& dy, const at::Tensor& x) {
  if (!sums_directly(weight) || !weight.grad().defined())
    return weight_gradient(weight, at::mm(dy.t(), x));
  weight.grad().addmm_(dy.t(), x);
  return {};
}

std::optional<at::Tensor> as_optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!at::GradMode::is_enabled() || !weight.requires_grad() || x.dim() != 2)
    return at::linear(x, weight, as_optional(bias));
  return LinearMap::apply(x, weight, as_optional(bias));
}

at::Tensor embedding_rows(const at::Tensor& weight, const at::Tensor& ids, int64_t padding) {
  if (!at::GradMode::is_enabled() || !weight.requires_grad())
    return at::embedding(weight, ids, padding);
  return EmbeddingRows::apply(weight, ids, padding);
}

}  // namespace rlhf
