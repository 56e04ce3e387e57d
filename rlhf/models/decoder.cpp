#include "rlhf/models/decoder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include "rlhf/kernels/rotary.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/models/adapter.h"
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
  std::vector<at::Tensor> tensors;
};

struct Qkv {
  at::Tensor q;  ///< (T, H, D)
  at::Tensor k;  ///< (T, K, D)
  at::Tensor v;  ///< (T, K, D)
};

/// The parts of the model as one adapter, or none, makes it. Their tensors are shared.
struct View {
  at::Tensor embedding;  // (V, C)
  at::Tensor positions;  // (context, C) or undefined
  std::vector<Layer> layers;
  Norm final_norm;
  at::Tensor head;          // (V, C); undefined in a classifier
  at::Tensor score_weight;  // (labels, C); undefined in a language model
  at::Tensor score_bias;    // (labels) or undefined
};

/// Finds the parts of a model by name. Everything named is there: match_tensors has seen to it.
class Builder {
 public:
  /// `adapter` may be null: the model itself.
  Builder(const DecoderConfig& config, const std::vector<NamedTensor>& tensors,
          const Adapter* adapter)
      : config_(config), adapter_(adapter) {
    for (const auto& [name, tensor] : tensors) {
      by_name_[transformers_name(config, name)].push_back(tensor);
    }
    if (adapter == nullptr) return;
    for (const auto& [name, tensor] : adapter->saved) by_name_[name].push_back(tensor);
  }

  View view() {
    const auto& names = config_.row->names;
    View view;
    prefix_ = names.base;
    view.embedding = find(names.embedding, ".weight");
    view.positions = find(names.positions, ".weight");
    view.final_norm = norm(names.final_norm);
    prefix_.clear();
    if (config_.is_classifier()) {
      view.score_weight = find(score_module(config_), ".weight");
      view.score_bias = find(score_module(config_), ".bias");
    } else {
      view.head = head(view.embedding);
    }
    for (size_t i = 0; i < config_.layer.size(); ++i) view.layers.push_back(layer(i));
    return view;
  }

 private:
  /// The adapter's full copy where it has one, else the model's tensor; undefined where neither.
  at::Tensor find(const std::string& module, const char* kind) const {
    const auto it = by_name_.find(prefix_ + module + kind);
    return it == by_name_.end() ? at::Tensor() : it->second.back();
  }

  at::Tensor head(const at::Tensor& embedding) const {
    const auto own = find(head_module(config_), ".weight");
    if (own.defined()) return own;
    // Tied. An adapter's copy of the embedding leaves the head what it was, as in PEFT, unless it
    // is to stay tied.
    if (adapter_ == nullptr || adapter_->config.ensure_weight_tying) return embedding;
    const auto& names = config_.row->names;
    return by_name_.at(fmt::format("{}{}.weight", names.base, names.embedding)).front();
  }

  Linear linear(const char* module) const {
    Linear linear{find(module, ".weight"), find(module, ".bias"), config_.row->transposed};
    if (adapter_ != nullptr) {
      const auto it = adapter_->modules.find(prefix_ + module);
      if (it != adapter_->modules.end()) linear.lora = it->second;
    }
    return linear;
  }

  Norm norm(const char* module) const {
    return {config_.row->norm, find(module, ".weight"), find(module, ".bias"), config_.norm_eps,
            config_.row->norm_offset};
  }

  Layer layer(size_t i) {
    const auto& names = config_.row->names;
    prefix_ = fmt::format("{}{}{}.", names.base, names.layer, i);
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
    collect(by_name_, [&](const auto& own) { layer.tensors.push_back(own.back()); });
    if (adapter_ != nullptr) {
      collect(adapter_->modules, [&](const auto& lora) {
        for (const auto& tensor : {lora->a, lora->b, lora->magnitude}) {
          if (tensor.defined()) layer.tensors.push_back(tensor);
        }
      });
    }
    return layer;
  }

  /// Whatever `map` holds under the prefix.
  template <class Map, class Take>
  void collect(const Map& map, Take take) const {
    for (auto it = map.lower_bound(prefix_); it != map.end() && it->first.starts_with(prefix_);
         ++it) {
      take(it->second);
    }
  }

  const DecoderConfig& config_;
  const Adapter* adapter_;
  std::map<std::string, std::vector<at::Tensor>> by_name_;  ///< the model's, then the adapter's
  std::string prefix_;
};

}  // namespace

struct Decoder::Impl {
  DecoderConfig config;
  std::vector<NamedTensor> tensors;
  std::vector<std::unique_ptr<const Adapter>> adapters;
  std::vector<std::shared_ptr<const View>> views;  // of the model, then of each adapter
  int active = -1;
  double embedding_scale = 1.0;

  Impl(DecoderConfig given, const std::map<std::string, at::Tensor>& by_name)
      : config(std::move(given)) {
    tensors = match_tensors(config, tensor_specs(config, name_style(config, by_name)), by_name);
    add_view(/*adapter=*/nullptr);
    embedding_scale = config.embedding_scale;
    if (config.row->scales_embedding) {  // transformers rounds √C to the weights' type
      embedding_scale =
          at::scalar_tensor(embedding_scale, views[0]->embedding.scalar_type()).item<double>();
    }
  }

  void add_view(const Adapter* adapter) {
    views.push_back(std::make_shared<const View>(Builder(config, tensors, adapter).view()));
  }

  const std::shared_ptr<const View>& view() const { return views[static_cast<size_t>(active + 1)]; }

  at::Tensor embed(const View& parts, const at::Tensor& ids, const at::Tensor& at,
                   const ForwardOptions& options) const {
    auto hidden = embedding_rows(parts.embedding, ids, config.pad_id);
    // gemma's factor belongs to its embedding, so noise comes after it; granite's belongs to the
    // model.
    const bool own_scale = config.row->scales_embedding;
    if (own_scale) hidden = hidden * embedding_scale;
    if (options.on_embeddings) hidden = options.on_embeddings(hidden);
    if (!own_scale && embedding_scale != 1.0) hidden = hidden * embedding_scale;
    if (parts.positions.defined())
      hidden = hidden + embedding_rows(parts.positions, at, /*padding=*/-1);
    return hidden;
  }

  /// Queries, keys and values of the normed x.
  Qkv project(const Layer& layer, const at::Tensor& x, const DropoutKey* dropout) const {
    const int64_t tokens = x.size(0);
    const int64_t dim = config.head_dim;
    const auto by_head = [&](const at::Tensor& t) {
      return t.view({tokens, t.size(1) / dim, dim});
    };
    if (!layer.qkv.defined()) {
      const bool wide = config.row->qk_norm == QkNorm::width;
      auto parts = apply_together(layer.attention_norm, {&layer.q, &layer.k, &layer.v}, x, dropout);
      if (wide) parts[0] = layer.q_norm(parts[0]), parts[1] = layer.k_norm(parts[1]);
      Qkv out{by_head(parts[0]), by_head(parts[1]), by_head(parts[2])};
      if (config.row->qk_norm == QkNorm::head)
        out.q = layer.q_norm(out.q), out.k = layer.k_norm(out.k);
      return out;
    }
    const auto fused = apply_together(layer.attention_norm, {&layer.qkv}, x, dropout).front();
    if (config.row->fused_qkv == FusedQkv::interleaved) {
      const auto parts = fused.view({tokens, config.heads, 3, dim}).unbind(2);
      return {parts[0], parts[1], parts[2]};
    }
    const auto heads = fused.view({tokens, config.heads + 2 * config.key_heads, dim});
    const auto parts =
        heads.split_with_sizes({config.heads, config.key_heads, config.key_heads}, 1);
    return {parts[0], parts[1], parts[2]};
  }

  /// What the heads of all rows of x see, (T, H·D).
  at::Tensor attend(const View& parts, size_t i, const at::Tensor& x, const RopeTables& rope,
                    AttentionBackend& attention, const DropoutKey* dropout) const {
    const auto& layer = parts.layers[i];
    auto [q, k, v] = project(layer, x, dropout);
    if (rope.cos.defined()) {
      q = rotary(q, rope.cos, rope.sin);
      k = rotary(k, rope.cos, rope.sin);
    }
    const AttentionOptions options{.scale = layer.config.attention_scale,
                                   .window = layer.config.window,
                                   .softcap = config.attention_softcap};
    const auto seen = attention.attend(static_cast<int64_t>(i), q, k, v, options);
    return seen.reshape({x.size(0), config.heads * config.head_dim});
  }

  /// The output for all rows of `hidden`, or where `rows` is defined for these alone: they see the
  /// others' keys and values all the same.
  at::Tensor run_layer(const View& parts, size_t i, const at::Tensor& hidden,
                       const at::Tensor& rows, const RopeTables& rope, AttentionBackend& attention,
                       const std::optional<DropoutKey>& key) const {
    const auto& layer = parts.layers[i];
    const auto normed = [](const Norm& norm, const at::Tensor& x) {
      return norm.defined() ? norm(x) : x;
    };
    const auto joined = [&](const at::Tensor& x, const at::Tensor& y) {
      return config.residual_scale == 1.0 ? x + y : x + y * config.residual_scale;
    };
    const auto kept = [&](const at::Tensor& x) {
      return rows.defined() ? x.index_select(0, rows) : x;
    };
    auto kept_key = key;
    if (kept_key) kept_key->rows = rows;
    const DropoutKey* dropout = kept_key ? &*kept_key : nullptr;
    const auto seen = kept(attend(parts, i, hidden, rope, attention, key ? &*key : nullptr));
    const auto x = kept(hidden);
    const auto attended = normed(layer.attention_post_norm, layer.attention_out(seen, dropout));
    if (config.parallel_residual) return layer.mlp(layer.mlp_norm, x, dropout) + attended + x;
    const auto middle = joined(x, attended);
    return joined(middle, normed(layer.mlp_post_norm, layer.mlp(layer.mlp_norm, middle, dropout)));
  }
};

Decoder::Decoder(DecoderConfig config, std::map<std::string, at::Tensor> tensors)
    : impl_(std::make_unique<Impl>(std::move(config), tensors)) {}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

Decoder Decoder::random(DecoderConfig config, uint64_t seed, at::ScalarType dtype,
                        at::Device device) {
  const auto specs = tensor_specs(config);
  std::vector<at::Tensor> made(specs.size());
  at::parallel_for(0, std::ssize(specs), /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      made[i] = initial_tensor(specs[i], seed);
  });
  std::map<std::string, at::Tensor> tensors;
  for (size_t i = 0; i < specs.size(); ++i) tensors[specs[i].name] = made[i].to(device, dtype);
  return {std::move(config), std::move(tensors)};
}

const DecoderConfig& Decoder::config() const { return impl_->config; }

at::Tensor Decoder::forward(const at::Tensor& ids, const at::Tensor& positions,
                            AttentionBackend& attention, const at::Tensor& rows,
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
  const auto view = impl_->view();
  auto hidden = impl_->embed(*view, ids, positions, options);
  for (size_t i = 0; i < view->layers.size(); ++i) {
    const auto& tables = view->layers[i].config.local_rope ? local_rope : rope;
    const auto asked = i + 1 == view->layers.size() ? rows : at::Tensor();
    if (!replay) {
      hidden = impl_->run_layer(*view, i, hidden, asked, tables, attention, options.dropout);
      continue;
    }
    const auto block = [impl = impl_.get(), view, i, asked, tables, replay,
                        dropout = options.dropout](const at::Tensor& x) {
      return impl->run_layer(*view, i, x, asked, tables, *replay, dropout);
    };
    hidden = checkpointed(block, hidden, view->layers[i].tensors);
  }
  return view->final_norm(hidden);
}

Head Decoder::head() const {
  const auto& config = impl_->config;
  if (config.is_classifier()) {
    throw UserError("model", fmt::format("a language model was expected, got {}.",
                                         config.row->class_for(config.task)));
  }
  return {.weight = impl_->view()->head,
          .bias = {},
          .logit_scale = config.logit_scale,
          .softcap = config.final_softcap};
}

at::Tensor Decoder::score(const at::Tensor& hidden) const {
  const auto& config = impl_->config;
  if (!config.is_classifier()) {
    throw UserError("model", fmt::format("a model with a score head was expected, got {}.",
                                         config.row->class_name));
  }
  const auto type = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto& bias = impl_->view()->score_bias;
  return at::linear(hidden.to(type), impl_->view()->score_weight.to(type),
                    bias.defined() ? bias.to(type) : bias);
}

const std::vector<NamedTensor>& Decoder::tensors() const { return impl_->tensors; }

int Decoder::add_adapter(Adapter adapter) {
  for (const auto& [name, tensor] : impl_->tensors) tensor.set_requires_grad(false);
  impl_->adapters.push_back(std::make_unique<const Adapter>(std::move(adapter)));
  impl_->add_view(impl_->adapters.back().get());
  return adapters() - 1;
}

void Decoder::use_adapter(int number) {
  check(number >= -1 && number < adapters(), "Decoder::use_adapter",
        "an adapter below {} was expected, got {}.", adapters(), number);
  impl_->active = number;
}

int Decoder::active_adapter() const { return impl_->active; }
int Decoder::adapters() const { return static_cast<int>(impl_->adapters.size()); }

const Adapter& Decoder::adapter(int number) const {
  check(number >= 0 && number < adapters(), "Decoder::adapter",
        "an adapter below {} was expected, got {}.", adapters(), number);
  return *impl_->adapters[static_cast<size_t>(number)];
}

std::vector<NamedTensor> Decoder::trainable() const {
  return impl_->active < 0 ? impl_->tensors : adapter(impl_->active).tensors();
}

void Decoder::set_requires_grad(bool on) {
  for (const auto& [name, tensor] : trainable()) tensor.set_requires_grad(on);
}

int64_t Decoder::layers() const { return impl_->config.layers; }
at::ScalarType Decoder::dtype() const { return impl_->views[0]->embedding.scalar_type(); }
at::Device Decoder::device() const { return impl_->views[0]->embedding.device(); }

}  // namespace rlhf
