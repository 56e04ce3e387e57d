#include <ATen/core/grad_mode.h>

#include "rlhf/models/adapter.h"
#include "rlhf/models/adapter_targets.h"
#include "rlhf/models/tensor_specs.h"

namespace rlhf {
namespace {

/// What the adapter makes of one of the model's tensors; undefined where it leaves it alone.
at::Tensor merged_tensor(const std::string& name, const Adapter& adapter,
                         const std::map<std::string, at::Tensor>& tensors,
                         const DecoderConfig& config) {
  if (const auto saved = adapter.saved.find(name); saved != adapter.saved.end()) {
    return saved->second;
  }
  constexpr std::string_view kWeight = ".weight";
  if (!name.ends_with(kWeight)) return {};
  const auto module = name.substr(0, name.size() - kWeight.size());
  const auto lora = adapter.modules.find(module);
  if (lora == adapter.modules.end()) return {};
  return merged_weight(linear_of_module(tensors, config, module), *lora->second);
}

}  // namespace

Model merge_adapter(const Model& model, int number, std::optional<at::ScalarType> dtype) {
  const at::NoGradGuard no_grad;
  const auto& decoder = model.decoder;
  const auto& adapter = decoder.adapter(number);
  const auto& names = decoder.config().row->names;
  const auto by_name = tensors_by_transformers_name(decoder);
  auto stored_dtype = model.stored_dtype;
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : decoder.tensors()) {
    const auto full = transformers_name(decoder.config(), name);
    auto merged = merged_tensor(full, adapter, by_name, decoder.config());
    auto& stored = stored_dtype.try_emplace(name, tensor.scalar_type()).first->second;
    if (dtype) stored = *dtype;
    if (!merged.defined() && dtype) merged = tensor;
    tensors[name] =
        merged.defined() ? merged.detach().to(stored).to(tensor.scalar_type()) : tensor.detach();
  }
  auto json = model.config;
  const auto head = std::string(head_module(decoder.config())) + ".weight";
  const auto embedding = fmt::format("{}{}.weight", names.base, names.embedding);
  const bool parted = decoder.config().tied && !decoder.config().is_classifier() &&
                      (adapter.saved.contains(head) ||
                       (adapter.saved.contains(embedding) && !adapter.config.ensure_weight_tying));
  if (parted) {
    const auto& own = adapter.saved.contains(head) ? adapter.saved.at(head) : by_name.at(embedding);
    const auto name = fmt::format("{}.weight", names.head);
    const auto stored = stored_dtype.at(decoder.tensors().front().name);
    stored_dtype[name] = stored;
    tensors[name] = own.detach().to(stored).to(decoder.dtype());
    json["tie_word_embeddings"] = false;
  }
  Problems problems;
  auto config = read_config(json, "config.json", problems);
  problems.throw_if_any();
  return {.decoder = Decoder(std::move(config), std::move(tensors)),
          .config = std::move(json),
          .stored_dtype = std::move(stored_dtype),
          .folder = model.folder,
          .generation_config = model.generation_config};
}

}  // namespace rlhf
