// LoRA adapters as PEFT keeps them: which matrices they change, their folders, and folding them in.
//
// An adapter folder holds adapter_config.json and adapter_model.safetensors. A tensor's key is
// `base_model.model.` + the module's name in transformers + `.lora_A.weight`, `.lora_B.weight`,
// `.lora_magnitude_vector`, or the plain name of a tensor that is trained as a whole
// (modules_to_save). Names, rules of matching and defaults: PEFT 0.21. The mathematics:
// rlhf/nn/lora.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/models/folder.h"
#include "rlhf/nn/lora.h"

namespace rlhf {

/// What adapter_config.json says, as far as it is supported; PEFT's names in brackets where they
/// differ.
struct LoraConfig {
  int64_t r = 8;
  double alpha = 8.0;    ///< (lora_alpha)
  double dropout = 0.0;  ///< (lora_dropout), in [0, 1)
  bool rslora = false;   ///< (use_rslora)
  bool dora = false;     ///< (use_dora)
  /// Names of matrices, or ends of names behind a dot (`q_proj`); {"all-linear"}: every matrix of
  /// the layers; empty: PEFT's choice for the architecture (queries and values as a rule).
  std::vector<std::string> target_modules;
  /// Where not empty, a regular expression that a whole name must match, in place of the list
  /// (PEFT: target_modules as one text).
  std::string target_pattern;
  /// Numbers of the layers that are adapted; empty: all. With a list only.
  std::vector<int64_t> layers_to_transform;
  /// Ends of names of modules that are trained as a whole (`lm_head`, `embed_tokens`, `norm`). A
  /// classifier's score head always is. They are never adapted by low rank.
  std::vector<std::string> modules_to_save;
  /// What becomes of a head tied to the embedding when the embedding is in modules_to_save: false:
  /// the head stays as it was (PEFT's default), true: it follows. A tied head in modules_to_save is
  /// a matrix of its own from then on.
  bool ensure_weight_tying = false;
  ModelTask task = ModelTask::language_model;  ///< (task_type)
  std::string base_model;                      ///< (base_model_name_or_path)
};

/// An adapter's tensors. Copies share them; clone_adapter does not.
struct Adapter {
  LoraConfig config;
  std::map<std::string, std::shared_ptr<Lora>> modules;  ///< by the module's transformers name
  std::map<std::string, at::Tensor> saved;  ///< trained as a whole, by transformers name

  /// Under PEFT's keys, sorted.
  std::vector<NamedTensor> tensors() const;
};

/// A new adapter for `decoder` with PEFT's initial values, A and B in fp32 (fp64 for a double
/// model), full copies in the model's type: it changes nothing yet. Each tensor has its own random
/// stream, keyed by `seed` and name. UserError with everything wrong: a target that no module has
/// (named with those that exist), embeddings or the head as a target, r, alpha, dropout out of
/// range.
Adapter make_adapter(const Decoder& decoder, LoraConfig config, uint64_t seed);

/// The same values in tensors of their own, without gradients: a frozen copy of a start adapter.
Adapter clone_adapter(const Adapter& adapter);

/// Whether every output is the frozen model's: B all zero, magnitudes the norms they start from
/// (to rounding), full copies equal to the originals.
bool changes_nothing(const Decoder& decoder, const Adapter& adapter);

struct AdapterLoadOptions {
  /// An adapter that changes nothing is an error, unless a run that has just begun is resumed.
  bool allow_unchanged = false;
};

/// Whether a folder holds an adapter rather than a model.
bool is_adapter_folder(const fs::path& folder);

/// adapter_config.json alone, checked. UserError with everything wrong: not LoRA, options that
/// would change the result and are not supported, values out of range.
LoraConfig load_lora_config(const fs::path& folder);

/// Reads an adapter folder for `model`. Strict: every missing, unexpected or mis-shaped tensor is
/// listed by its full key in one UserError, with the base that the adapter names and the model it
/// met; so are numbers that are not finite, and an adapter that changes nothing. An adapter made
/// for another base folder that is at hand and whose weights differ is refused.
Adapter load_adapter(const fs::path& folder, const Model& model,
                     const AdapterLoadOptions& options = {});

/// Writes adapter_config.json and adapter_model.safetensors into an existing folder.
void save_adapter(const Adapter& adapter, const DecoderConfig& config, const fs::path& folder);

/// The model folder an adapter belongs to: `explicit_base` if given, else base_model_name_or_path,
/// looked for from the adapter's folder and then from here. UserError where it is not there.
fs::path base_of_adapter(const fs::path& folder, const std::optional<fs::path>& explicit_base = {});

/// Loads the base of an adapter folder, as a classifier where the adapter is one, and the adapter,
/// which is active in the result. Of a classifier, padding and reward statistics are those of the
/// adapter (models/classifier.h). `held`: as in load_model.
Model load_adapted_model(const fs::path& adapter_folder, const LoadOptions& options = {},
                         const std::optional<fs::path>& explicit_base = {},
                         std::span<const Model* const> held = {});

/// The model that holds what `model` and its adapter `number` compute together. Changed matrices
/// are computed in fp32 and rounded once to the type they will be stored in: `dtype`, or each
/// tensor's stored type. A tied head that the
/// adapter parted from the embedding becomes a matrix of its own (tie_word_embeddings false).
/// Tensors that nothing changes are shared.
Model merge_adapter(const Model& model, int number, std::optional<at::ScalarType> dtype = {});

}  // namespace rlhf
