#include "rlhf/nn/layers.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/norm.h"
#include "rlhf/kernels/thin_product.h"
#include "rlhf/nn/remade_input.h"

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

/// Whether norm(x) is made again in the backward of these products: with a graph, by the kernels.
bool is_remade(const Norm& norm, const std::vector<LinearPart>& parts, const at::Tensor& x) {
  const auto biased = [](const LinearPart& part) { return part.bias.defined(); };
  return at::GradMode::is_enabled() && norm.defined() && norm.kind == NormKind::rms &&
         x.dim() == 2 && has_norm_kernel(x, norm.weight) &&
         (std::all_of(parts.begin(), parts.end(), biased) ||
          std::none_of(parts.begin(), parts.end(), biased));
}

std::vector<at::Tensor> remade(const Norm& norm, const std::vector<LinearPart>& parts,
                               const at::Tensor& x) {
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  for (const auto& part : parts) {
    weights.push_back(part.weight);
    if (part.bias.defined()) biases.push_back(part.bias);
  }
  return norm_linears(x, {.weight = norm.weight, .eps = norm.eps, .offset = norm.offset}, weights,
                      biases);
}

/// down(act(gate) · up).
at::Tensor gated(const Mlp& mlp, const at::Tensor& gate, const at::Tensor& up,
                 const DropoutKey* dropout) {
  if (at::GradMode::is_enabled() && !mlp.down.lora && gate.dim() == 2 &&
      has_glu_kernel(gate, mlp.activation)) {
    return glu_linear(gate, up, mlp.activation, mlp.down.matrix(), mlp.down.bias);
  }
  return mlp.down(glu(gate, up, mlp.activation), dropout);
}

}  // namespace

at::Tensor Linear::matrix() const { return transposed ? weight.t() : weight; }

at::Tensor linear(const Linear& layer, const at::Tensor& x, bool with_bias) {
  return linear_product(x, layer.matrix(), with_bias ? layer.bias : at::Tensor());
}

at::Tensor Linear::operator()(const at::Tensor& x, const DropoutKey* dropout) const {
  if (lora) return lora_linear(*this, *lora, x, dropout);
  return linear(*this, x);
}

at::Tensor Norm::operator()(const at::Tensor& x) const {
  if (kind == NormKind::rms) return rms_norm(x, weight, eps, offset);
  return at::layer_norm(x, weight.sizes(), weight, bias, eps);
}

std::vector<at::Tensor> apply_together(const Norm& norm,
                                       std::initializer_list<const Linear*> layers,
                                       const at::Tensor& x, const DropoutKey* dropout) {
  const bool plain = std::none_of(layers.begin(), layers.end(),
                                  [](const Linear* layer) { return layer->lora != nullptr; });
  std::vector<LinearPart> parts;
  for (const Linear* layer : layers) parts.push_back({layer->matrix(), layer->bias});
  if (plain && is_remade(norm, parts, x)) return remade(norm, parts, x);
  const auto normed = norm.defined() ? norm(x) : x;
  if (plain) return linear_products(normed, parts);
  std::vector<at::Tensor> out;
  for (const Linear* layer : layers) out.push_back((*layer)(normed, dropout));
  return out;
}

at::Tensor Mlp::operator()(const Norm& norm, const at::Tensor& x, const DropoutKey* dropout) const {
  if (gate_up.defined()) {
    const auto both = apply_together(norm, {&gate_up}, x, dropout).front().chunk(2, -1);
    return gated(*this, both[0], both[1], dropout);
  }
  if (gate.defined()) {
    const auto both = apply_together(norm, {&gate, &up}, x, dropout);
    return gated(*this, both[0], both[1], dropout);
  }
  const auto inner = apply_together(norm, {&up}, x, dropout).front();
  return down(activate(inner, activation), dropout);
}

}  // namespace rlhf
