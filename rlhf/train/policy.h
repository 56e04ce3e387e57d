// The model that is trained: from a model folder, from nothing, with an adapter or without, or from
// the checkpoint that a run goes on from.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "rlhf/config/common_config.h"
#include "rlhf/models/adapter.h"
#include "rlhf/models/folder.h"
#include "rlhf/train/checkpoint.h"

namespace rlhf {

/// What a method needs its model to be.
struct PolicyRequest {
  ModelTask task = ModelTask::language_model;
  int64_t labels = 1;                  ///< of a classifier
  std::optional<int64_t> pad_id = {};  ///< of a classifier (text/pad_token.h)
  double adapter_dropout = 0.0;        ///< config/lora_options.h
  bool keeps_start_adapter = false;    ///< a frozen copy of a start adapter is a reference
  /// Models of other roles; an adapter's base stands on their weights where it can (load_model).
  std::vector<const Model*> held = {};
};

struct Policy {
  Model model;
  SaveOptions save;
  at::Device device = at::kCPU;
  std::optional<fs::path> resumed_from;    ///< the checkpoint's folder
  std::optional<CheckpointState> resumed;  ///< what it held beside the model
  /// The adapter that is the reference of a trained adapter: the frozen copy of the one it started
  /// from, or -1, the base model.
  int reference_adapter = -1;

  Decoder& decoder() { return model.decoder; }
  const Decoder& decoder() const { return model.decoder; }
  const DecoderConfig& config() const { return model.decoder.config(); }
  /// An adapter is trained, and the base model is not.
  bool adapted() const { return model.decoder.active_adapter() >= 0; }

  /// How a pass of training runs. `first_token` is the number of its first token in the step.
  ForwardOptions training_pass(const TrainingOptions& training, int64_t step,
                               int64_t first_token) const;
  /// Gives the trained tensors the values that a checkpoint of this run holds.
  void restore(const fs::path& checkpoint);
};

/// The folder that holds the tokenizer: the model's own, or the base's where `model` is an adapter
/// folder without one.
fs::path text_folder(const fs::path& model);

/// Loads the model with its trained tensors ready for gradients. Where `model_name_or_path` is an
/// adapter folder its training goes on; `config` then names base and adapter apart.
/// `config.model.dtype` is set to what was chosen, so that a resumed run does not choose anew.
/// UserError with everything wrong with the folders or the checkpoint.
Policy load_policy(CommonConfig& config, const PolicyRequest& request, at::Device device,
                   const std::optional<fs::path>& checkpoint);

/// The model that the policy was before its first step: `model_name_or_path` once more, without
/// adapters. Mapped where it can be, unless it is to change (`moves`).
Model load_start_model(const CommonConfig& config, const Policy& policy, bool moves = false);

/// What ids and lengths of the encoded rows ask of the model.
struct RowLimits {
  int32_t least_id = 0;
  int32_t largest_id = 0;
  int64_t longest = 0;  ///< tokens of the longest run that sees itself

  void widen(int32_t least, int32_t largest) {
    least_id = std::min(least_id, least);
    largest_id = std::max(largest_id, largest);
  }
};

/// UserError when an id lies outside the vocabulary, or a row is longer than a table of positions;
/// a warning when a row is longer than the model was made for. `key`: what sets the length.
void check_rows_fit(const RowLimits& rows, const DecoderConfig& model,
                    const char* key = "max_length");

}  // namespace rlhf
