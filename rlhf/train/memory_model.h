// What one model asks of memory, from its configuration alone: numbers of weights, and bytes that a
// pass over a token takes. Nothing is allocated.
//
// Letters as in CONTRIBUTING.md. What a layer's graph keeps of a token between forward and backward,
// in numbers of the model's type where every matrix is trained (fp32, gated MLP, rotary):
//
//   C + (H + 2 K)·D + H·D + H + C + 2 F
//   |   |             |     |   |   '- gate and up                                      (kernels/glu)
//   |   |             |     |   '- input of the MLP's norm                          (nn/remade_input)
//   |   |             |     '- log-sum-exp                                        (kernels/attention)
//   |   |             '- output of attention, which is the input of its last matrix
//   |   '- rotated queries and keys, and values                                   (kernels/attention)
//   '- input of the layer                                                         (nn/remade_input)
//
// Both norms and the product of gate and up are made again in the backward. Where a matrix has an
// adapter its input is kept, with r numbers (nn/lora) and the norm's inverse. In bfloat16 norm, gate
// and rotation are plain torch operations: their intermediates are kept, and attention runs in fp32.
#pragma once

#include <cstdint>
#include <vector>

#include "rlhf/models/adapter.h"
#include "rlhf/models/arch.h"

namespace rlhf {

/// Which inputs of a layer's matrices are kept for the backward, and what its adapters add.
struct LayerTraining {
  bool attention_in = false;    ///< of q, k, v
  bool attention_out = false;   ///< of the matrix behind attention
  bool mlp_in = false;          ///< of gate and up
  bool mlp_out = false;         ///< of down
  int64_t adapter_numbers = 0;  ///< fp32 numbers a token: A x, for DoRA also the directed output
};

/// One model as memory sees it. Counts are numbers, not bytes.
struct ModelMemory {
  DecoderConfig config;
  int64_t element = 4;           ///< bytes of a number: 4 in fp32, 2 in bfloat16
  int64_t parameters = 0;        ///< of all tensors, tied ones once
  int64_t factored = 0;          ///< row and column sums of all trained tensors (Adafactor's state)
  int64_t quantised = 0;         ///< of the trained tensors that AdamW in 8 bits keeps as codes
  int64_t quantised_blocks = 0;  ///< of those, 256 numbers each
  int64_t trained = 0;           ///< of the model's own type
  int64_t adapter = 0;           ///< trained in fp32, beside the model's own
  bool head_trains = false;
  bool embedding_trains = false;
  std::vector<LayerTraining> layers;  ///< (L)

  bool trains() const { return trained + adapter > 0; }
  int64_t vocabulary_numbers() const { return config.vocab_size * config.width; }
};

/// A frozen model; `element` is the type it is held in.
ModelMemory frozen_model(DecoderConfig config, int64_t element);
/// The same with every tensor trained.
ModelMemory trained_model(DecoderConfig config, int64_t element);
/// The same with an adapter as make_adapter() would make it. UserError where targets match nothing.
ModelMemory adapted_model(DecoderConfig config, int64_t element, LoraConfig lora);

/// Bytes a token that the graph of layer `layer` keeps.
int64_t layer_bytes(const ModelMemory& model, size_t layer);
/// The same summed over all layers.
int64_t graph_bytes(const ModelMemory& model);
/// What of the last layer's is kept only for rows that are scored.
int64_t last_mlp_bytes(const ModelMemory& model);
/// Bytes a token of the gradients that pass through the widest place of a layer's backward, beside
/// what its graph keeps.
int64_t backward_bytes(const ModelMemory& model);
/// Bytes a token of a pass without gradients, at the widest place of a layer.
int64_t pass_bytes(const ModelMemory& model);

}  // namespace rlhf
