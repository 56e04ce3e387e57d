#include "rlhf/train/memory_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "rlhf/core/error.h"
#include "rlhf/kernels/quantise.h"
#include "rlhf/models/adapter_targets.h"
#include "rlhf/models/tensor_specs.h"
#include "rlhf/train/optimizer.h"

namespace rlhf {
namespace {

constexpr int64_t kFloat = 4;

int64_t numbers_of(at::IntArrayRef shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

/// Row and column sums of a matrix; a vector has its own.
int64_t factored_numbers(at::IntArrayRef shape) {
  const int64_t count = numbers_of(shape);
  if (shape.size() < 2) return count;
  return count / shape.back() + count / shape[shape.size() - 2];
}

/// Counts what the moments of a trained tensor would be.
void note_moments(const std::string& name, at::IntArrayRef shape, ModelMemory& model) {
  const int64_t count = numbers_of(shape);
  model.factored += factored_numbers(shape);
  if (!quantises_moments(name, count)) return;
  model.quantised += count;
  model.quantised_blocks += quantised_blocks(count);
}

/// The decoder without memory behind its tensors: names and shapes.
Decoder shapes_of(const DecoderConfig& config) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& spec : tensor_specs(config))
    tensors[spec.name] = at::empty(spec.shape, at::TensorOptions(at::kFloat).device(at::kMeta));
  return {config, std::move(tensors)};
}

bool any_of_names(const std::string& module, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* name) {
    return *name != '\0' && module.ends_with(std::string(".") + name);
  });
}

/// Notes what the adapter of one matrix keeps.
void note_module(const std::string& module, int64_t r, int64_t dora, ModelMemory& model) {
  const auto& names = model.config.row->names;
  const auto layers = std::string(names.base) + names.layer;
  const auto number =
      static_cast<size_t>(std::strtoll(module.c_str() + layers.size(), nullptr, 10));
  LayerTraining& layer = model.layers.at(number);
  layer.adapter_numbers += r + dora;
  if (any_of_names(module, {names.q, names.k, names.v, names.qkv})) layer.attention_in = true;
  if (any_of_names(module, {names.attention_out})) layer.attention_out = true;
  if (any_of_names(module, {names.gate, names.up, names.gate_up})) layer.mlp_in = true;
  if (any_of_names(module, {names.down})) layer.mlp_out = true;
}

/// Counts of a pass in numbers of the model's type and in fp32.
struct Numbers {
  int64_t own = 0;
  int64_t wide = 0;

  int64_t bytes(int64_t element) const { return own * element + wide * kFloat; }
};

struct Widths {
  explicit Widths(const DecoderConfig& config)
      : hidden(config.width),
        queries(config.heads * config.head_dim),
        keys(config.key_heads * config.head_dim),
        inner(config.inner) {}

  int64_t hidden, queries, keys, inner;
};

bool present(const char* name) { return *name != '\0'; }

bool is_gated(const DecoderConfig& config) {
  return present(config.row->names.gate) || present(config.row->names.gate_up);
}

/// A norm over `width` numbers: its input, and what the plain form keeps beside.
Numbers norm_keeps(const DecoderConfig& config, int64_t width, bool narrow, bool trains) {
  if (!narrow || config.row->norm == NormKind::layer) return {.own = width};
  if (config.row->norm_offset != 0.0) return {.own = 0, .wide = trains ? 2 * width : width};
  return {.own = trains ? width : 0, .wide = width};
}

void add(Numbers& sum, const Numbers& more) {
  sum.own += more.own;
  sum.wide += more.wide;
}

Numbers attention_keeps(const ModelMemory& model, const LayerTraining& layer, bool narrow) {
  const DecoderConfig& config = model.config;
  const Widths width(config);
  const auto& names = config.row->names;
  const bool trains = model.trained > 0;
  Numbers kept;
  if (present(names.attention_norm)) {
    add(kept, norm_keeps(config, width.hidden, narrow, trains));
    if (layer.attention_in) kept.own += width.hidden;
  } else {
    kept.own += width.hidden;
  }
  if (config.row->qk_norm != QkNorm::none)
    add(kept, norm_keeps(config, width.queries + width.keys, narrow, trains));
  const int64_t seen = width.queries + 2 * width.keys;
  // Values of a fused projection are a view that holds all of it.
  if (present(names.qkv) && config.rope.width > 0 && !narrow)
    kept.own += width.queries + width.keys;
  if (narrow) {
    kept.wide += seen + width.queries;
    if (layer.attention_out) kept.own += width.queries;
  } else {
    kept.own += seen + width.queries;
  }
  kept.wide += config.heads + (narrow || layer.attention_in ? 1 : 0);
  if (present(names.attention_post_norm))
    add(kept, norm_keeps(config, width.hidden, narrow, trains));
  return kept;
}

Numbers mlp_keeps(const ModelMemory& model, const LayerTraining& layer, bool narrow) {
  const DecoderConfig& config = model.config;
  const Widths width(config);
  const auto& names = config.row->names;
  const bool trains = model.trained > 0;
  Numbers kept;
  if (config.parallel_residual) {
    if (layer.mlp_in) kept.own += width.hidden;
  } else if (present(names.mlp_norm)) {
    add(kept, norm_keeps(config, width.hidden, narrow, trains));
    if (layer.mlp_in) kept.own += width.hidden;
  } else {
    kept.own += width.hidden;
  }
  const bool gated = is_gated(config);
  const bool fused = !narrow && config.activation != GluActivation::gelu;
  kept.own += gated ? (fused ? 2 : 3) * width.inner : width.inner;
  if (layer.mlp_out) kept.own += width.inner;
  if (narrow || layer.mlp_in) kept.wide += 1;
  if (present(names.mlp_post_norm)) add(kept, norm_keeps(config, width.hidden, narrow, trains));
  return kept;
}

}  // namespace

ModelMemory frozen_model(DecoderConfig config, int64_t element) {
  ModelMemory model{.config = std::move(config), .element = element, .layers = {}};
  for (const auto& spec : tensor_specs(model.config)) model.parameters += numbers_of(spec.shape);
  model.layers.resize(static_cast<size_t>(model.config.layers));
  return model;
}

ModelMemory trained_model(DecoderConfig config, int64_t element) {
  ModelMemory model = frozen_model(std::move(config), element);
  for (const auto& spec : tensor_specs(model.config)) note_moments(spec.name, spec.shape, model);
  model.trained = model.parameters;
  model.head_trains = !model.config.is_classifier();
  model.embedding_trains = true;
  // What nn/remade_input.h makes again is not kept.
  const DecoderConfig& kept = model.config;
  const bool kernels = element >= kFloat;
  const bool norms = kernels && kept.row->norm == NormKind::rms;
  const bool products = kernels && is_gated(kept) && kept.activation != GluActivation::gelu;
  for (auto& layer : model.layers) {
    layer = {.attention_in = !norms, .attention_out = true, .mlp_in = !norms, .mlp_out = !products};
  }
  return model;
}

ModelMemory adapted_model(DecoderConfig config, int64_t element, LoraConfig lora) {
  ModelMemory model = frozen_model(std::move(config), element);
  const Decoder shapes = shapes_of(model.config);
  Problems problems;
  const auto targets = find_targets(shapes, lora, /*strict=*/false, "lora", problems);
  problems.throw_if_any();
  const auto tensors = tensors_by_transformers_name(shapes);
  for (const auto& module : targets.modules) {
    const Linear linear = linear_of_module(tensors, model.config, module);
    const int64_t out = linear.weight.size(linear.transposed ? 1 : 0);
    const int64_t in = linear.weight.size(linear.transposed ? 0 : 1);
    const int64_t dora = lora.dora ? out : 0;
    model.adapter += lora.r * (in + out) + dora;
    note_moments(module, {lora.r, in}, model);
    note_moments(module, {out, lora.r}, model);
    note_moments(module, {dora}, model);
    note_module(module, lora.r, dora, model);
  }
  const auto& names = model.config.row->names;
  for (const auto& name : targets.saved) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) continue;
    model.trained += found->second.numel();
    note_moments(name, found->second.sizes(), model);
    if (name == std::string(names.base) + names.embedding + ".weight")
      model.embedding_trains = true;
    if (name == std::string(head_module(model.config)) + ".weight") model.head_trains = true;
  }
  return model;
}

int64_t layer_bytes(const ModelMemory& model, size_t layer) {
  const bool narrow = model.element < kFloat;
  const LayerTraining& training = model.layers.at(layer);
  Numbers kept = attention_keeps(model, training, narrow);
  add(kept, mlp_keeps(model, training, narrow));
  kept.wide += training.adapter_numbers;
  return kept.bytes(model.element);
}

int64_t graph_bytes(const ModelMemory& model) {
  int64_t bytes = 0;
  for (size_t layer = 0; layer < model.layers.size(); ++layer) bytes += layer_bytes(model, layer);
  return bytes;
}

int64_t last_mlp_bytes(const ModelMemory& model) {
  return mlp_keeps(model, model.layers.back(), model.element < kFloat).bytes(model.element);
}

int64_t backward_bytes(const ModelMemory& model) {
  const Widths width(model.config);
  // The residual's gradient and the MLP's, and while gate and up get theirs those of both: down has
  // given its input back by then.
  return (2 * width.inner + 2 * width.hidden) * model.element;
}

int64_t pass_bytes(const ModelMemory& model) {
  const Widths width(model.config);
  const auto& names = model.config.row->names;
  const bool gated = present(names.gate) || present(names.gate_up);
  const bool narrow = model.element < kFloat;
  // Of the MLP: gate, up and their product live until down is done; beside them the layer's input,
  // the sum behind attention, attention's output, the normed input and the result.
  const int64_t mlp =
      ((gated ? (narrow ? 4 : 3) : 2) * width.inner + 5 * width.hidden) * model.element;
  const int64_t attention =
      3 * width.hidden * model.element + (3 * width.queries + 3 * width.keys) * kFloat;
  return std::max(mlp, attention);
}

}  // namespace rlhf
