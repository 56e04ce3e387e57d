#include "rlhf/models/decoder.h"

#include <ATen/Parallel.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scalar_tensor.h>

#include "rlhf/kernels/rotary.h"
#include "rlhf/models/tensor_specs.h"
#include "rlhf/nn/checkpoint.h"
#include "rlhf/nn/layers.h"
#include "rlhf/nn/rope.h"

namespace rlhf {
namespace {

/// One layer's parts; undefined where the family has none. `tensors` are all of them, for
/// checkpointing.
struct Layer {
  LayerConfig config;
  Norm attention_norm, attention_post_norm;
  Linear q, k, v, qkv, attention_out;
  Norm q_norm, k_norm;
  Norm mlp_norm, mlp_post_norm;
  Mlp mlp;
  std::vector<torch::Tensor> tensors;
};

struct Qkv {
  torch::Tensor q;  ///< (T, H, D)
  torch::Tensor k;  ///< (T, K, D)
  torch::Tensor v;  ///< (T, K, D)
};

/// Finds the parts of a model by name. Everything named is there: match_tensors has seen to it.
class Builder {
 public:
  Builder(const DecoderConfig& config, const std::vector<NamedTensor>& tensors) : config_(config) {
    for (const auto& [name, tensor] : tensors) by_name_[name] = tensor;
  }

  void enter(std::string prefix) { prefix_ = std::move(prefix); }

  torch::Tensor find(const char* module, const char* kind) const {
    const auto it = by_name_.find(prefix_ + module + kind);
    return it == by_name_.end() ? torch::Tensor() : it->second;
  }

  Linear linear(const char* module) const {
    return {find(module, ".weight"), find(module, ".bias"), config_.row->transposed};
  }

  Norm norm(const char* module) const {
    return {config_.row->norm, find(module, ".weight"), find(module, ".bias"), config_.norm_eps,
            config_.row->norm_offset};
  }

  Layer layer(size_t i, const std::string& base) {
    const auto& names = config_.row->names;
    enter(fmt::format("{}{}{}.", base, names.layer, i));
    Layer layer{.config = config_.layer[i],
                .attention_norm = norm(names.attention_norm),
                .attention_post_norm = norm(names.attention_post_norm),
                .q = linear(names.q),
                .k = linear(names.k),
                .v = linear(names.v),
                .qkv = linear(names.qkv),
                .attention_out = linear(names.attention_out),
                .q_norm = norm(names.q_norm),
                .k_norm = norm(names.k_norm),
                .mlp_norm = norm(names.mlp_norm),
                .mlp_post_norm = norm(names.mlp_post_norm),
                .mlp = {.gate = linear(names.gate),
                        .gate_up = linear(names.gate_up),
                        .up = linear(names.up),
                        .down = linear(names.down),
                        .activation = config_.activation},
                .tensors = {}};
    for (auto it = by_name_.lower_bound(prefix_);
         it != by_name_.end() && it->first.starts_with(prefix_); ++it) {
      layer.tensors.push_back(it->second);
    }
    return layer;
  }

 private:
  const DecoderConfig& config_;
  std::map<std::string, torch::Tensor> by_name_;
  std::string prefix_;
};

}  // namespace

struct Decoder::Impl {
  DecoderConfig config;
  std::vector<NamedTensor> tensors;
  torch::Tensor embedding;  // (V, C)
  torch::Tensor positions;  // (context, C) or undefined
  std::vector<Layer> layers;
  Norm final_norm;
  torch::Tensor head;          // (V, C); undefined in a classifier
  torch::Tensor score_weight;  // (labels, C); undefined in a language model
  torch::Tensor score_bias;    // (labels) or undefined
  double embedding_scale = 1.0;

  Impl(DecoderConfig given, const std::map<std::string, torch::Tensor>& by_name)
      : config(std::move(given)) {
    const auto style = name_style(config, by_name);
    tensors = match_tensors(config, tensor_specs(config, style), by_name);
    const auto& names = config.row->names;
    const std::string base = style.with_base ? names.base : "";
    Builder builder(config, tensors);
    builder.enter(base);
    embedding = builder.find(names.embedding, ".weight");
    positions = builder.find(names.positions, ".weight");
    final_norm = builder.norm(names.final_norm);
    builder.enter("");
    if (config.is_classifier()) {
      score_weight = builder.find(score_module(config), ".weight");
      score_bias = builder.find(score_module(config), ".bias");
    } else {
      head = config.tied
                 ? embedding
                 : builder.find(style.with_head_alias ? names.head_alias : names.head, ".weight");
    }
    for (size_t i = 0; i < config.layer.size(); ++i) layers.push_back(builder.layer(i, base));
    embedding_scale = config.embedding_scale;
    if (config.row->scales_embedding) {  // transformers rounds √C to the weights' type
      embedding_scale = at::scalar_tensor(embedding_scale, embedding.scalar_type()).item<double>();
    }
  }

  torch::Tensor embed(const torch::Tensor& ids, const torch::Tensor& at,
                      const ForwardOptions& options) const {
    auto hidden = at::embedding(embedding, ids, config.pad_id);
    // gemma's factor belongs to its embedding, so noise comes after it; granite's belongs to the
    // model.
    const bool own_scale = config.row->scales_embedding;
    if (own_scale) hidden = hidden * embedding_scale;
    if (options.on_embeddings) hidden = options.on_embeddings(hidden);
    if (!own_scale && embedding_scale != 1.0) hidden = hidden * embedding_scale;
    if (positions.defined()) hidden = hidden + at::embedding(positions, at);
    return hidden;
  }

  Qkv project(const Layer& layer, const torch::Tensor& x) const {
    const int64_t tokens = x.size(0);
    const int64_t dim = config.head_dim;
    const auto by_head = [&](const torch::Tensor& t) {
      return t.view({tokens, t.size(1) / dim, dim});
    };
    if (!layer.qkv.defined()) {
      const bool wide = config.row->qk_norm == QkNorm::width;
      auto q = layer.q(x);
      auto k = layer.k(x);
      if (wide) q = layer.q_norm(q), k = layer.k_norm(k);
      Qkv out{by_head(q), by_head(k), by_head(layer.v(x))};
      if (config.row->qk_norm == QkNorm::head)
        out.q = layer.q_norm(out.q), out.k = layer.k_norm(out.k);
      return out;
    }
    const auto fused = layer.qkv(x);
    if (config.row->fused_qkv == FusedQkv::interleaved) {
      const auto parts = fused.view({tokens, config.heads, 3, dim}).unbind(2);
      return {parts[0], parts[1], parts[2]};
    }
    const auto heads = fused.view({tokens, config.heads + 2 * config.key_heads, dim});
    const auto parts =
        heads.split_with_sizes({config.heads, config.key_heads, config.key_heads}, 1);
    return {parts[0], parts[1], parts[2]};
  }

  torch::Tensor attend(size_t i, const torch::Tensor& x, const RopeTables& rope,
                       AttentionBackend& attention) const {
    const auto& layer = layers[i];
    auto [q, k, v] = project(layer, x);
    if (rope.cos.defined()) {
      q = rotary(q, rope.cos, rope.sin);
      k = rotary(k, rope.cos, rope.sin);
    }
    const AttentionOptions options{.scale = layer.config.attention_scale,
                                   .window = layer.config.window,
                                   .softcap = config.attention_softcap};
    const auto seen = attention.attend(static_cast<int64_t>(i), q, k, v, options);
    return layer.attention_out(seen.reshape({x.size(0), config.heads * config.head_dim}));
  }

  torch::Tensor run_layer(size_t i, const torch::Tensor& hidden, const RopeTables& rope,
                          AttentionBackend& attention) const {
    const auto& layer = layers[i];
    const auto normed = [](const Norm& norm, const torch::Tensor& x) {
      return norm.defined() ? norm(x) : x;
    };
    const auto joined = [&](const torch::Tensor& x, const torch::Tensor& y) {
      return config.residual_scale == 1.0 ? x + y : x + y * config.residual_scale;
    };
    const auto seen = normed(layer.attention_post_norm,
                             attend(i, normed(layer.attention_norm, hidden), rope, attention));
    if (config.parallel_residual) return layer.mlp(normed(layer.mlp_norm, hidden)) + seen + hidden;
    const auto middle = joined(hidden, seen);
    return joined(middle, normed(layer.mlp_post_norm, layer.mlp(normed(layer.mlp_norm, middle))));
  }
};

Decoder::Decoder(DecoderConfig config, std::map<std::string, torch::Tensor> tensors)
    : impl_(std::make_unique<Impl>(std::move(config), tensors)) {}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

Decoder Decoder::random(DecoderConfig config, uint64_t seed, torch::Dtype dtype,
                        torch::Device device) {
  const auto specs = tensor_specs(config);
  std::vector<torch::Tensor> made(specs.size());
  at::parallel_for(0, std::ssize(specs), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      made[i] = initial_tensor(specs[i], seed);
  });
  std::map<std::string, torch::Tensor> tensors;
  for (size_t i = 0; i < specs.size(); ++i) tensors[specs[i].name] = made[i].to(device, dtype);
  return {std::move(config), std::move(tensors)};
}

const DecoderConfig& Decoder::config() const { return impl_->config; }

torch::Tensor Decoder::forward(const torch::Tensor& ids, const torch::Tensor& positions,
                               AttentionBackend& attention, const torch::Tensor& rows,
                               const ForwardOptions& options) const {
  const auto& config = impl_->config;
  RopeTables rope;
  RopeTables local_rope;
  if (config.rope.width > 0) rope = rope_tables(config.rope, positions, dtype());
  if (config.local_rope.width > 0) local_rope = rope_tables(config.local_rope, positions, dtype());

  std::shared_ptr<AttentionBackend> replay;
  if (options.checkpoint_layers) {
    replay = attention.replay();
    check(replay != nullptr, "Decoder::forward",
          "checkpoint_layers needs attention that can be recomputed, got a cache.");
  }
  auto hidden = impl_->embed(ids, positions, options);
  for (size_t i = 0; i < impl_->layers.size(); ++i) {
    const auto& tables = impl_->layers[i].config.local_rope ? local_rope : rope;
    if (!replay) {
      hidden = impl_->run_layer(i, hidden, tables, attention);
      continue;
    }
    const auto block = [impl = impl_.get(), i, tables, replay](const torch::Tensor& x) {
      return impl->run_layer(i, x, tables, *replay);
    };
    hidden = checkpointed(block, hidden, impl_->layers[i].tensors);
  }
  if (rows.defined()) hidden = hidden.index_select(0, rows);
  return impl_->final_norm(hidden);
}

Head Decoder::head() const {
  const auto& config = impl_->config;
  if (config.is_classifier()) {
    throw UserError("model", fmt::format("a language model was expected, got {}.",
                                         config.row->class_for(config.task)));
  }
  return {.weight = impl_->head,
          .bias = {},
          .logit_scale = config.logit_scale,
          .softcap = config.final_softcap};
}

torch::Tensor Decoder::score(const torch::Tensor& hidden) const {
  const auto& config = impl_->config;
  if (!config.is_classifier()) {
    throw UserError("model", fmt::format("a model with a score head was expected, got {}.",
                                         config.row->class_name));
  }
  const auto type = hidden.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
  const auto& bias = impl_->score_bias;
  return at::linear(hidden.to(type), impl_->score_weight.to(type),
                    bias.defined() ? bias.to(type) : bias);
}

const std::vector<NamedTensor>& Decoder::tensors() const { return impl_->tensors; }

void Decoder::set_requires_grad(bool on) {
  for (const auto& [name, tensor] : impl_->tensors) tensor.set_requires_grad(on);
}

int64_t Decoder::layers() const { return impl_->config.layers; }
torch::Dtype Decoder::dtype() const { return impl_->embedding.scalar_type(); }
torch::Device Decoder::device() const { return impl_->embedding.device(); }

}  // namespace rlhf
