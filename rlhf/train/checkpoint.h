// Checkpoints: complete, whole or absent, and bit for bit what the run was.
//
// `checkpoint-N/` holds the model folder (weights in their stored types, tokenizer files) or, where
// an adapter is trained, the adapter folder,
// `optimizer.safetensors` (moments, fp32 masters, and the weights themselves where the stored type
// is narrower than the one in training), `rlhf_state.json` (counters and windows: everything else a
// run remembers), `trainer_state.json` (Hugging Face's layout) and `manifest.json` (size and hash
// of every file). It is written aside, fsynced and renamed: a kill at any moment leaves the one
// before. No generator state is stored: random streams are functions of the seed and the counters.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/models/folder.h"
#include "rlhf/train/optimizer.h"

namespace rlhf {

/// What goes into a checkpoint: the model, or its active adapter alone, and the rest of the state.
struct CheckpointParts {
  const Model* model = nullptr;
  SaveOptions save{};
  const Optimizer* optimizer = nullptr;  ///< null: `save_only_model`
  Json state{};                          ///< rlhf_state.json
  Json trainer_state{};
  std::vector<std::pair<std::string, std::string>>
      files{};  ///< further files, name and bytes: tokenizer, config.yaml
  /// Further tensors of the method by file name, such as a reference that moves. Not part of the
  /// final model.
  std::vector<std::pair<std::string, std::vector<NamedTensor>>> tensors{};
};

/// Writes `folder`. UserError when the disk is full; then nothing is left behind.
void save_checkpoint(const fs::path& folder, const CheckpointParts& parts);

/// The model's part of a checkpoint alone, at the top of a run folder: whole files, each replaced
/// in one step.
void save_final_model(const fs::path& folder, const CheckpointParts& parts);

/// What a checkpoint holds beside the model folder.
struct CheckpointState {
  std::map<std::string, at::Tensor> optimizer;  ///< empty after `save_only_model`
  std::map<std::string, at::Tensor> exact;      ///< weights that the model's files round
  Json state;                                   ///< rlhf_state.json
};

/// Reads it and checks the whole checkpoint. UserError when a file is missing, of another size or
/// of other content than the manifest says.
CheckpointState load_checkpoint_state(const fs::path& folder);

/// Gives tensors the values that `file` of a checkpoint holds under their names. UserError when one
/// is missing.
void load_tensors_into(const fs::path& file, const std::vector<NamedTensor>& tensors);

/// Gives the weights of a model loaded from the checkpoint's folder the bits they had in training.
void restore_exact_weights(const CheckpointState& checkpoint, const Model& model);

/// The whole checkpoint with the highest number in a run folder, if there is any. Broken ones are
/// passed over with a warning.
std::optional<fs::path> latest_checkpoint(const fs::path& run_folder);

/// Deletes the oldest checkpoints until at most `limit` are left; never `keep` (the best one) nor
/// the newest.
void rotate_checkpoints(const fs::path& run_folder, int64_t limit,
                        const std::optional<fs::path>& keep);

/// Checkpoint folders of a run with their step, in rising order, whole or not.
std::vector<std::pair<int64_t, fs::path>> checkpoints_of(const fs::path& run_folder);

/// Threads, instruction set and torch version: what a bitwise equal continuation needs.
Json machine_fingerprint();
/// One warning for each part in which this machine differs from the one that wrote `saved`.
void warn_if_machine_differs(const Json& saved);

}  // namespace rlhf
