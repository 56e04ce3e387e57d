// A decoder-only transformer that builds itself from a row of the architecture table.
//
// One class serves every family: which norms, which biases, which rotary form, how projections are
// laid out on disk are all fields of DecoderConfig (rlhf/models/arch.h). It takes a flat run of
// tokens; who sees whom is the attention backend's affair.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/math/linear_logprobs.h"
#include "rlhf/models/arch.h"
#include "rlhf/nn/attention_backend.h"
#include "rlhf/nn/lora.h"

namespace rlhf {

struct Adapter;

/// A tensor of the model with its name in the model folder.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// What a forward pass may be asked to do beside the mathematics.
struct ForwardOptions {
  /// Keep only each layer's input and recompute the rest in the backward (rlhf/nn/checkpoint.h).
  /// The decoder must then outlive the backward. Error with a backend that cannot replay.
  bool checkpoint_layers = false;
  /// Applied to the token embeddings (T, C) when set: NEFTune's noise.
  std::function<at::Tensor(const at::Tensor&)> on_embeddings;
  /// The adapter's dropout in training; unset: none, whatever the adapter says.
  std::optional<DropoutKey> dropout = std::nullopt;
};

class Decoder {
 public:
  /// Takes the tensors by their names in the model folder (the table's names, with or without the
  /// base prefix such as `model.`); every missing, unexpected or mis-shaped one is listed in one
  /// UserError. Tensors are used as they are: no copy. Buffers that old versions stored (masks,
  /// rotary frequencies) are dropped, and so is a stored head equal to the embedding it is tied to.
  Decoder(DecoderConfig config, std::map<std::string, at::Tensor> tensors);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  /// Random initial weights as transformers makes them: normal(0, initializer_range) for matrices
  /// and embeddings, ones or zeros (the family's neutral value) for norms, zeros for biases. Each
  /// tensor has its own random stream, keyed by name. `config` comes from read_config.
  static Decoder random(DecoderConfig config, uint64_t seed, at::ScalarType dtype,
                        at::Device device);

  const DecoderConfig& config() const;

  /// ids and positions: (T) int64. Returns the hidden rows after the last norm, (T, C). `rows` (R)
  /// int64, when defined, asks for those alone: (R, C). Behind its attention, which all rows pass, the
  /// last layer computes no others then.
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& positions,
                     AttentionBackend& attention, const at::Tensor& rows = {},
                     const ForwardOptions& options = {}) const;

  /// The head: weight (tied or own), bias, scale, soft-cap. UserError for a classifier.
  Head head() const;

  /// The scores of hidden rows (R, C), of forward(): (R, labels), in fp32 whatever the model's type
  /// (double in a double model). Differentiable. UserError for a language model.
  at::Tensor score(const at::Tensor& hidden) const;

  /// Every tensor in a fixed order, by its name in the folder; tied weights once. The tensors are
  /// the model's own, not an adapter's.
  const std::vector<NamedTensor>& tensors() const;

  /// Attaches an adapter (rlhf/models/adapter.h) and returns its number, from 0. Nothing is
  /// switched. The model's own tensors stop requiring gradients.
  int add_adapter(Adapter adapter);

  /// Which adapter forward(), head() and score() go through from now on; -1: none, the model as it
  /// was loaded, bit for bit. A pass that has run already keeps its adapter in its backward.
  void use_adapter(int number);
  int active_adapter() const;
  int adapters() const;
  const Adapter& adapter(int number) const;

  /// What training changes: the active adapter's tensors under their names in its folder, or
  /// without one the model's.
  std::vector<NamedTensor> trainable() const;

  /// Switches gradients on or off for trainable().
  void set_requires_grad(bool on);

  int64_t layers() const;
  at::ScalarType dtype() const;
  at::Device device() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Switches to an adapter (-1: none) for as long as it lives.
class AdapterScope {
 public:
  AdapterScope(Decoder& decoder, int number)
      : decoder_(decoder), before_(decoder.active_adapter()) {
    decoder_.use_adapter(number);
  }
  ~AdapterScope() { decoder_.use_adapter(before_); }
  AdapterScope(const AdapterScope&) = delete;
  AdapterScope& operator=(const AdapterScope&) = delete;

 private:
  Decoder& decoder_;
  int before_;
};

}  // namespace rlhf
