#include "rlhf/models/adapter.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "rlhf/models/adapter_folder.h"
#include "rlhf/models/adapter_targets.h"
#include "rlhf/models/tensor_specs.h"

namespace rlhf {
namespace {

at::ScalarType adapter_type(const Decoder& decoder) {
  return decoder.dtype() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

std::vector<NamedTensor> Adapter::tensors() const {
  std::map<std::string, at::Tensor> sorted;
  for (const auto& [module, lora] : modules) {
    sorted[kAdapterPrefix + module + ".lora_A.weight"] = lora->a;
    sorted[kAdapterPrefix + module + ".lora_B.weight"] = lora->b;
    if (lora->magnitude.defined()) {
      sorted[kAdapterPrefix + module + ".lora_magnitude_vector"] = lora->magnitude;
    }
  }
  for (const auto& [name, tensor] : saved) sorted[kAdapterPrefix + name] = tensor;
  std::vector<NamedTensor> named;
  for (const auto& [name, tensor] : sorted) named.push_back({name, tensor});
  return named;
}

Adapter make_adapter(const Decoder& decoder, LoraConfig config, uint64_t seed) {
  const at::NoGradGuard no_grad;
  Problems problems;
  check_lora_config(config, "lora", problems);
  config.task = decoder.config().task;
  const auto targets = find_targets(decoder, config, /*strict=*/true, "lora", problems);
  problems.throw_if_any();
  const auto tensors = tensors_by_transformers_name(decoder);
  const auto type = adapter_type(decoder);
  const double scale = lora_scale(config.alpha, config.r, config.rslora);
  Adapter adapter{.config = std::move(config), .modules = {}, .saved = {}};
  for (const auto& module : targets.modules) {
    const auto frozen = linear_of_module(tensors, decoder.config(), module);
    const int64_t in = frozen.weight.size(frozen.transposed ? 0 : 1);
    const int64_t out = frozen.weight.size(frozen.transposed ? 1 : 0);
    const auto stream = name_hash(module);
    const auto options = frozen.weight.options().dtype(type);
    auto lora = std::make_shared<Lora>(
        Lora{.a = initial_lora_a(adapter.config.r, in, seed, stream).to(options),
             .b = at::zeros({out, adapter.config.r}, options),
             .magnitude = {},
             .scale = scale,
             .dropout = adapter.config.dropout,
             .stream = stream});
    if (adapter.config.dora) lora->magnitude = lora_weight_norm(frozen, *lora);
    adapter.modules[module] = std::move(lora);
  }
  for (const auto& name : targets.saved) adapter.saved[name] = tensors.at(name).detach().clone();
  return adapter;
}

Adapter clone_adapter(const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  Adapter copy{.config = adapter.config, .modules = {}, .saved = {}};
  for (const auto& [module, lora] : adapter.modules) {
    auto& own = copy.modules[module] = std::make_shared<Lora>(*lora);
    own->a = lora->a.detach().clone();
    own->b = lora->b.detach().clone();
    if (lora->magnitude.defined()) own->magnitude = lora->magnitude.detach().clone();
  }
  for (const auto& [name, tensor] : adapter.saved) copy.saved[name] = tensor.detach().clone();
  return copy;
}

bool changes_nothing(const Decoder& decoder, const Adapter& adapter) {
  constexpr double kRounding = 1e-5;  // of a norm stored in fp32, or in bfloat16 and back
  const at::NoGradGuard no_grad;
  const auto tensors = tensors_by_transformers_name(decoder);
  for (const auto& [module, lora] : adapter.modules) {
    if (lora->b.any().item<bool>()) return false;
    if (!lora->magnitude.defined()) continue;
    const auto frozen = linear_of_module(tensors, decoder.config(), module);
    const auto norm = lora_weight_norm(frozen, *lora);
    if (!at::allclose(lora->magnitude, norm, kRounding, /*atol=*/0.0)) return false;
  }
  for (const auto& [name, tensor] : adapter.saved) {
    if (!at::equal(tensor, tensors.at(name))) return false;
  }
  return true;
}

}  // namespace rlhf
