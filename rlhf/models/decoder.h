// A decoder-only transformer that builds itself from a row of the architecture table.
//
// One class serves every family: which norms, which biases, which rotary form, how projections are
// laid out on disk are all fields of DecoderConfig (rlhf/models/arch.h). It takes a flat run of
// tokens; who sees whom is the attention backend's affair.
#pragma once

#include <torch/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rlhf/math/linear_logprobs.h"
#include "rlhf/models/arch.h"
#include "rlhf/nn/attention_backend.h"

namespace rlhf {

/// A tensor of the model with its name in the model folder.
struct NamedTensor {
  std::string name;
  torch::Tensor tensor;
};

/// What a forward pass may be asked to do beside the mathematics.
struct ForwardOptions {
  /// Keep only each layer's input and recompute the rest in the backward (rlhf/nn/checkpoint.h).
  /// The decoder must then outlive the backward. Error with a backend that cannot replay.
  bool checkpoint_layers = false;
  /// Applied to the token embeddings (T, C) when set: NEFTune's noise.
  std::function<torch::Tensor(const torch::Tensor&)> on_embeddings;
};

class Decoder {
 public:
  /// Takes the tensors by their names in the model folder (the table's names, with or without the
  /// base prefix such as `model.`); every missing, unexpected or mis-shaped one is listed in one
  /// UserError. Tensors are used as they are: no copy. Buffers that old versions stored (masks,
  /// rotary frequencies) are dropped, and so is a stored head equal to the embedding it is tied to.
  Decoder(DecoderConfig config, std::map<std::string, torch::Tensor> tensors);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  /// Random initial weights as transformers makes them: normal(0, initializer_range) for matrices
  /// and embeddings, ones or zeros (the family's neutral value) for norms, zeros for biases. Each
  /// tensor has its own random stream, keyed by name. `config` comes from read_config.
  static Decoder random(DecoderConfig config, uint64_t seed, torch::Dtype dtype,
                        torch::Device device);

  const DecoderConfig& config() const;

  /// ids and positions: (T) int64. Returns the hidden rows after the last norm, (T, C). `rows` (R),
  /// when defined, keeps only those rows from the last layer's output on: (R, C).
  torch::Tensor forward(const torch::Tensor& ids, const torch::Tensor& positions,
                        AttentionBackend& attention, const torch::Tensor& rows = {},
                        const ForwardOptions& options = {}) const;

  /// The head: weight (tied or own), bias, scale, soft-cap. UserError for a classifier.
  Head head() const;

  /// The scores of hidden rows (R, C), of forward(): (R, labels), in fp32 whatever the model's type
  /// (double in a double model). Differentiable. UserError for a language model.
  torch::Tensor score(const torch::Tensor& hidden) const;

  /// Every tensor in a fixed order, by its name in the folder; tied weights once. The tensors are
  /// the model's own.
  const std::vector<NamedTensor>& tensors() const;

  /// Switches gradients on or off for all tensors.
  void set_requires_grad(bool on);

  int64_t layers() const;
  torch::Dtype dtype() const;
  torch::Device device() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rlhf
