#include "rlhf/nn/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace rlhf {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct KeptBlock final : torch::CustomClassHolder {
  explicit KeptBlock(Block kept) : block(std::move(kept)) {}
  Block block;
};

class Checkpoint : public torch::autograd::Function<Checkpoint> {
 public:
  /// inputs: x, then the parameters.
  static at::Tensor forward(AutogradContext* ctx, const Block& block, at::TensorList inputs) {
    ctx->save_for_backward(inputs.vec());
    ctx->saved_data["block"] = at::IValue::make_capsule(c10::make_intrusive<KeptBlock>(block));
    const at::NoGradGuard no_grad;
    return block(inputs[0]);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    auto inputs = ctx->get_saved_variables();
    const auto kept =
        c10::static_intrusive_pointer_cast<KeptBlock>(ctx->saved_data["block"].toCapsule());
    // x leaves the outer graph; the parameters are leaves already, or end this inner graph as
    // given.
    inputs[0] = inputs[0].detach().requires_grad_(inputs[0].requires_grad());
    variable_list wanted;
    for (const auto& input : inputs) {
      if (input.requires_grad()) wanted.push_back(input);
    }
    const at::AutoGradMode with_grad(true);
    const auto y = kept->block(inputs[0]);
    const auto found = torch::autograd::grad({y}, wanted, grad, /*retain_graph=*/std::nullopt,
                                             /*create_graph=*/false, /*allow_unused=*/true);
    variable_list result(inputs.size() + 1);
    size_t next = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].requires_grad()) result[i + 1] = found[next++];
    }
    return result;
  }
};

}  // namespace

at::Tensor checkpointed(const Block& block, const at::Tensor& x,
                        const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> inputs{x};
  for (const auto& parameter : parameters) {
    if (parameter.requires_grad()) inputs.push_back(parameter);
  }
  const bool needed = x.requires_grad() || inputs.size() > 1;
  if (!needed || !at::GradMode::is_enabled()) return block(x);
  return Checkpoint::apply(block, at::TensorList(inputs));
}

}  // namespace rlhf
