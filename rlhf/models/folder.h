// Hugging Face model folders: config.json and (sharded) safetensors in, the same layout out.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/models/decoder.h"

namespace rlhf {

struct LoadOptions {
  std::optional<at::ScalarType> dtype;  ///< unset: the stored type
  at::Device device = at::kCPU;
  bool trainable =
      false;  ///< trained tensors are copied into memory; else mapped where no conversion is needed
  bool from_scratch = false;  ///< random weights from config.json; the folder need not hold any
  uint64_t seed = 0;          ///< of the random weights
  /// What the model must be. A language model's folder opened as a classifier loses its lm_head and
  /// gets a score head, normal(0, initializer_range) from `seed`; log_info says so. A classifier's
  /// folder is taken as it is: its head must be there. Unset: what config.json says.
  std::optional<ModelTask> task = std::nullopt;
  int64_t labels = 1;  ///< of a classifier that `task` asks for; another number is an error
  /// `pad_token_id` for config.json, from choose_pad_token. Set before the model is built: the
  /// embedding of that id takes no gradient, now as after saving.
  std::optional<int64_t> pad_id = std::nullopt;
};

/// A model with what its folder said, enough to write the same layout again.
struct Model {
  Decoder decoder;
  Json config;  ///< config.json as it will be written: as read but for task, ids and additions
  std::map<std::string, at::ScalarType> stored_dtype;  ///< per tensor name
  fs::path folder;
  /// generation_config.json as it was read but for align_eos, empty without one: kept, since a
  /// checkpoint that a run goes on from may be gone when it is written.
  std::string generation_config{};
  /// Its tensors are what `folder` holds and stay so: other models may stand on them.
  bool frozen = false;
  /// The folder's files, as long as tensors lie in their maps.
  std::vector<std::weak_ptr<const MappedFile>> maps{};
};

/// Whether every tensor of the model lies in a map of its folder's files.
bool is_mapped(const Model& model);

/// A mapped model in memory, in `dtype`; its files leave this process's memory as they are read. For
/// a model that is asked now and then: between, it takes nothing.
Decoder read_from_maps(const Model& model, at::ScalarType dtype);

/// UserError where `folder` is none: what a path that was not downloaded gets.
void require_model_folder(const fs::path& folder);

/// Reads a folder. Where one of `held` is frozen and has the folder's weights in memory, in the type
/// and on the device asked for, the new model stands on those tensors, with a score head of its own
/// where the folder has none: nothing is read or converted twice, and every value is the same. They
/// live as long as any model that has them. UserError with everything wrong: config.json missing or
/// broken, architecture unsupported (lists the supported), tensors missing, unexpected or
/// mis-shaped, files truncated or hostile.
Model load_model(const fs::path& folder, const LoadOptions& options = {},
                 std::span<const Model* const> held = {});

/// generation_config.json as an object, empty without one. UserError where it is none.
Json generation_settings(const Model& model);

/// Lets `id`, the EOS of the tokenizer written beside the model, end what the model generates:
/// `eos_token_id` of config.json becomes it, or has it in front where that is a list; the one of
/// generation_config.json gets it in front of those it has. Files that name it stay as they are. So
/// does transformers' Trainer (align_special_tokens).
void align_eos(Model& model, int64_t id);

/// Only config.json, checked.
DecoderConfig load_decoder_config(const fs::path& folder);

struct SaveOptions {
  std::optional<at::ScalarType> dtype;  ///< unset: each tensor's stored type
  uint64_t max_shard_bytes =
      5'000'000'000;  ///< files are split above it, with model.safetensors.index.json
};

/// Writes config.json, the weights and `generation_config` into an existing folder (as a rule an
/// AtomicFolder's); tokenizer files are the caller's.
void save_model(const Model& model, const fs::path& folder, const SaveOptions& options = {});

}  // namespace rlhf
