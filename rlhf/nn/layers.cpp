#include "rlhf/nn/layers.h"

#include <ATen/ATen.h>

#include "rlhf/core/error.h"
#include "rlhf/kernels/norm.h"
#include "rlhf/kernels/thin_product.h"

namespace rlhf {
namespace {

at::Tensor activate(const at::Tensor& x, GluActivation activation) {
  switch (activation) {
    case GluActivation::silu:
      return at::silu(x);
    case GluActivation::gelu_tanh:
      return at::gelu(x, "tanh");
    case GluActivation::gelu:
      return at::gelu(x);
  }
  fail("Mlp", "an unknown activation.");
}

}  // namespace

at::Tensor linear(const Linear& layer, const at::Tensor& x, bool with_bias) {
  return linear_product(x, layer.transposed ? layer.weight.t() : layer.weight,
                        with_bias ? layer.bias : at::Tensor());
}

std::vector<at::Tensor> apply_together(std::initializer_list<const Linear*> layers,
                                       const at::Tensor& x, const DropoutKey* dropout) {
  std::vector<at::Tensor> out;
  std::vector<LinearPart> parts;
  for (const Linear* layer : layers) {
    if (layer->lora) break;
    parts.push_back({layer->transposed ? layer->weight.t() : layer->weight, layer->bias});
  }
  if (parts.size() == layers.size()) return linear_products(x, parts);
  for (const Linear* layer : layers) out.push_back((*layer)(x, dropout));
  return out;
}

at::Tensor Linear::operator()(const at::Tensor& x, const DropoutKey* dropout) const {
  if (lora) return lora_linear(*this, *lora, x, dropout);
  return linear(*this, x);
}

at::Tensor Norm::operator()(const at::Tensor& x) const {
  if (kind == NormKind::rms) return rms_norm(x, weight, eps, offset);
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

at::Tensor Mlp::operator()(const at::Tensor& x, const DropoutKey* dropout) const {
  if (gate_up.defined()) {
    const auto both = gate_up(x, dropout).chunk(2, -1);
    return down(glu(both[0], both[1], activation), dropout);
  }
  if (gate.defined()) {
    const auto both = apply_together({&gate, &up}, x, dropout);
    return down(glu(both[0], both[1], activation), dropout);
  }
  return down(activate(up(x, dropout), activation), dropout);
}

}  // namespace rlhf
