#include "rlhf/models/folder.h"

#include <algorithm>
#include <set>

#include "rlhf/core/json_text.h"
#include "rlhf/core/log.h"
#include "rlhf/models/classifier.h"
#include "rlhf/models/safetensors.h"
#include "rlhf/models/tensor_specs.h"

namespace rlhf {
namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kGenerationConfig = "generation_config.json";
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kEos = "eos_token_id";

struct DtypeName {
  const char* name;
  at::ScalarType dtype;
};
constexpr DtypeName kDtypes[] = {{"float32", at::kFloat},
                                 {"float16", at::kHalf},
                                 {"bfloat16", at::kBFloat16},
                                 {"float64", at::kDouble}};

Json parse_json_file(const fs::path& path) { return parse_json(read_file(path), path.string()); }

struct ParsedConfig {
  Json json;
  DecoderConfig config;
  ModelTask stored_task = ModelTask::language_model;  ///< before LoadOptions::task

  bool needs_score_head() const { return config.task != stored_task; }
};

ParsedConfig parse_config(const fs::path& folder, const LoadOptions& options) {
  const auto path = folder / kConfig;
  require_model_folder(folder);
  ParsedConfig parsed;
  parsed.json = parse_json_file(path);
  if (options.pad_id && parsed.json.is_object()) parsed.json["pad_token_id"] = *options.pad_id;
  Problems problems;
  parsed.config = read_config(parsed.json, path.string(), problems);
  problems.throw_if_any();
  parsed.stored_task = parsed.config.task;
  if (options.task)
    set_task(parsed.json, parsed.config, *options.task, options.labels, path.string());
  return parsed;
}

/// Version 5 says `dtype`, version 4 `torch_dtype`.
const char* dtype_key(const Json& config) {
  return config.contains("torch_dtype") ? "torch_dtype" : "dtype";
}

at::ScalarType dtype_of_config(const Json& config, const std::string& where) {
  const auto it = config.find(dtype_key(config));
  if (it == config.end() || it->is_null()) return at::kFloat;
  for (const auto& [name, dtype] : kDtypes) {
    if (*it == name) return dtype;
  }
  throw UserError(
      fmt::format("{}: {}", where, dtype_key(config)),
      fmt::format("float32, bfloat16, float16 or float64 was expected, got {}.", it->dump()));
}

/// File names of a sharded folder, checked against its index.
std::vector<fs::path> shards_of_index(const fs::path& folder,
                                      std::map<std::string, std::string>& file_of) {
  const auto path = folder / kIndex;
  const auto index = parse_json_file(path);
  Problems problems;
  std::set<std::string> files;
  const bool usable =
      index.is_object() && index.contains("weight_map") && index["weight_map"].is_object();
  if (!usable) throw UserError(path.string(), "an object with a weight_map was expected.");
  for (const auto& [name, file] : index["weight_map"].items()) {
    const auto text = file.is_string() ? file.get<std::string>() : std::string();
    if (text.empty() || text != fs::path(text).filename() || text == "." || text == "..") {
      problems.add(fmt::format("{}: {}", path.string(), name),
                   "the name of a file in the same folder was expected.");
      continue;
    }
    file_of[name] = text;
    files.insert(text);
  }
  problems.throw_if_any();
  std::vector<fs::path> shards;
  for (const auto& file : files) shards.push_back(folder / file);
  return shards;
}

/// What a model is built from.
struct Weights {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, at::ScalarType> stored;       ///< their types in the folder
  std::vector<std::weak_ptr<const MappedFile>> maps;  ///< that tensors lie in
};

/// Every tensor of the folder as a view into its file.
Weights weights_in(const fs::path& folder) {
  std::map<std::string, std::string> file_of;
  std::vector<fs::path> files{folder / kWeights};
  if (!fs::exists(files.front())) {
    if (!fs::exists(folder / kIndex)) {
      const bool pickled = fs::exists(folder / "pytorch_model.bin") ||
                           fs::exists(folder / "pytorch_model.bin.index.json");
      throw UserError(
          folder.string(),
          fmt::format("{} or {} was expected, neither is there.", kWeights, kIndex),
          pickled ? "pytorch_model.bin is not read: convert it with transformers' save_pretrained."
                  : "use from_scratch to start from random weights.");
    }
    files = shards_of_index(folder, file_of);
  }
  Problems problems;
  Weights weights;
  for (const auto& path : files) {
    try {
      const SafetensorsFile file(path);
      weights.maps.push_back(file.map());
      for (const auto& stored : file.tensors()) {
        const auto listed = file_of.find(stored.name);
        if (!file_of.empty() && (listed == file_of.end() || listed->second != path.filename())) {
          problems.add(
              fmt::format("{}: {}", path.string(), stored.name),
              fmt::format("it was expected {} by {}.",
                          listed == file_of.end() ? "in no file" : "in " + listed->second, kIndex));
        }
        weights.tensors[stored.name] = file.view(stored);
        weights.stored[stored.name] = stored.dtype;
      }
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  if (problems.empty()) {
    for (const auto& [name, file] : file_of) {
      if (!weights.tensors.contains(name))
        problems.add(fmt::format("{}: {}", kIndex, name),
                     fmt::format("{} has no such tensor.", file));
    }
  }
  problems.throw_if_any();
  return weights;
}

std::string generation_config_of(const fs::path& folder) {
  const fs::path file = folder / kGenerationConfig;
  return fs::exists(file) ? read_file(file) : std::string();
}

Model from_scratch(const fs::path& folder, ParsedConfig parsed, const LoadOptions& options) {
  const auto stored = dtype_of_config(parsed.json, (folder / kConfig).string());
  Model model{.decoder = Decoder::random(std::move(parsed.config), options.seed,
                                         options.dtype.value_or(stored), options.device),
              .config = std::move(parsed.json),
              .stored_dtype = {},
              .folder = folder,
              .generation_config = generation_config_of(folder)};
  for (const auto& [name, tensor] : model.decoder.tensors()) model.stored_dtype[name] = stored;
  return model;
}

void say_new_head(const fs::path& folder, const DecoderConfig& config) {
  log_info("[{}] a language model as {}: {} is new, {} label{}, normal(0, {}).", folder.string(),
           config.row->class_for(config.task), score_module(config), config.labels,
           config.labels == 1 ? "" : "s", config.initializer_range);
}

bool is_score_head(const DecoderConfig& config, const std::string& name) {
  return config.is_classifier() && name.starts_with(score_module(config));
}

/// What `folder` holds, from a model in memory; nothing where that has not all of it, or not so.
std::optional<Weights> weights_of(const Model& held, const fs::path& folder,
                                  const ParsedConfig& parsed, const LoadOptions& options) {
  const Decoder& decoder = held.decoder;
  std::error_code gone;
  if (!held.frozen || options.trainable || !fs::equivalent(held.folder, folder, gone)) return {};
  Weights weights;
  const bool own_head = decoder.config().task == parsed.stored_task;
  for (const auto& [name, tensor] : decoder.tensors()) {
    if (!own_head && is_score_head(decoder.config(), name)) continue;
    weights.tensors[name] = tensor;
    weights.stored[name] = held.stored_dtype.at(name);
  }
  const auto specs = tensor_specs(parsed.config, name_style(parsed.config, weights.tensors));
  for (const auto& spec : specs) {
    const bool made = parsed.needs_score_head() && is_score_head(parsed.config, spec.name);
    if (!made && !weights.tensors.contains(spec.name)) return {};
  }
  const auto type = options.dtype.value_or(weights.stored.at(specs.front().name));
  const bool there = options.device.has_index() ? decoder.device() == options.device
                                                : decoder.device().type() == options.device.type();
  if (decoder.dtype() != type || !there) return {};
  return weights;
}

/// From the first of `held` that has them, or from the folder.
Weights find_weights(const fs::path& folder, const ParsedConfig& parsed, const LoadOptions& options,
                     std::span<const Model* const> held) {
  for (const Model* model : held) {
    if (auto weights = weights_of(*model, folder, parsed, options)) return std::move(*weights);
  }
  return weights_in(folder);
}

/// The language model's head out, a new score head of the embedding's type in.
void replace_head(const DecoderConfig& config, const std::vector<TensorSpec>& specs, uint64_t seed,
                  Weights& weights) {
  const auto& names = config.row->names;
  for (const char* head : {names.head, names.head_alias})
    weights.tensors.erase(std::string(head) + ".weight");
  const auto embedding = weights.stored.find(specs.front().name);
  const auto dtype = embedding == weights.stored.end() ? at::kFloat : embedding->second;
  for (const auto& spec : specs) {
    if (!is_score_head(config, spec.name)) continue;
    weights.tensors[spec.name] = initial_tensor(spec, seed).to(dtype);
    weights.stored[spec.name] = dtype;
  }
}

/// config.json for what is written: as read, but for what changed.
Json config_to_write(const Model& model, const std::optional<at::ScalarType>& dtype) {
  Json config = model.config;
  if (dtype && *dtype != dtype_of_config(config, kConfig)) {
    for (const auto& [name, value] : kDtypes) {
      if (value == *dtype) config[dtype_key(config)] = name;
    }
  }
  const int64_t rows = model.decoder.config().vocab_size;
  if (config.value("vocab_size", int64_t{0}) != rows) config["vocab_size"] = rows;
  return config;
}

/// Runs of tensors for one file each: full at `most` bytes; a larger tensor stands alone.
std::vector<std::vector<TensorToStore>> cut_into_shards(std::vector<TensorToStore> tensors,
                                                        uint64_t most) {
  std::vector<std::vector<TensorToStore>> shards(1);
  uint64_t bytes = 0;
  for (auto& tensor : tensors) {
    if (bytes > 0 && bytes + tensor.bytes() > most) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.bytes();
    shards.back().push_back(std::move(tensor));
  }
  return shards;
}

void write_shards(const fs::path& folder, std::vector<std::vector<TensorToStore>> shards) {
  std::map<std::string, std::string> weight_map;
  uint64_t bytes = 0;
  int64_t parameters = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const auto name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    for (const auto& tensor : shards[i]) {
      weight_map[tensor.name] = name;
      bytes += tensor.bytes();
      parameters += tensor.tensor.numel();
    }
    write_safetensors(folder / name, std::move(shards[i]));
  }
  Json index;
  index["metadata"] = {{"total_parameters", parameters}, {"total_size", bytes}};
  index["weight_map"] = weight_map;
  write_file(folder / kIndex, index.dump(2) + "\n");
}

/// A list of ids that has `id`: as it is where it does, else with it in front. `ids`: a list, a
/// number or nothing.
Json with_in_front(int64_t id, const Json& ids) {
  Json list = ids.is_array() ? ids : ids.is_null() ? Json::array() : Json::array({ids});
  if (std::find(list.begin(), list.end(), Json(id)) == list.end()) list.insert(list.begin(), id);
  return list;
}

}  // namespace

void require_model_folder(const fs::path& folder) {
  if (fs::is_directory(folder)) return;
  throw UserError(
      folder.string(), "a model folder was expected, it does not exist.",
      "give the path of a folder with config.json and safetensors; nothing is downloaded.");
}

DecoderConfig load_decoder_config(const fs::path& folder) {
  return parse_config(folder, {}).config;
}

Json generation_settings(const Model& model) {
  if (model.generation_config.empty()) return Json::object();
  Json settings = Json::parse(model.generation_config, nullptr, /*allow_exceptions=*/false);
  if (!settings.is_object())
    throw UserError((model.folder / kGenerationConfig).string(), "a JSON object was expected.");
  return settings;
}

void align_eos(Model& model, int64_t id) {
  Json& stored = model.config[kEos];
  stored = stored.is_array() ? with_in_front(id, stored) : Json(id);
  if (model.generation_config.empty()) return;
  Json settings = generation_settings(model);
  Json& ends = settings[kEos];
  const Json aligned = with_in_front(id, ends);
  if (ends == aligned || ends == Json(id)) return;
  ends = aligned;
  model.generation_config = settings.dump(2) + "\n";
}

Model load_model(const fs::path& folder, const LoadOptions& options,
                 std::span<const Model* const> held) {
  auto parsed = parse_config(folder, options);
  if (parsed.needs_score_head()) say_new_head(folder, parsed.config);
  if (options.from_scratch) return from_scratch(folder, std::move(parsed), options);
  auto weights = find_weights(folder, parsed, options, held);
  // Checked before anything is copied.
  const auto specs = tensor_specs(parsed.config, name_style(parsed.config, weights.tensors));
  if (parsed.needs_score_head()) replace_head(parsed.config, specs, options.seed, weights);
  const auto matched = match_tensors(parsed.config, specs, weights.tensors);
  // One type for the whole model: the embedding's, unless asked for.
  const auto common = options.dtype.value_or(weights.stored.at(matched.front().name));
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, at::ScalarType> stored_dtype;
  for (const auto& [name, tensor] : matched) {
    stored_dtype[name] = weights.stored.at(name);
    const auto ready = tensor.to(options.device, common);
    tensors[name] = options.trainable && ready.is_same(tensor) ? tensor.clone() : ready;
  }
  return {.decoder = Decoder(std::move(parsed.config), std::move(tensors)),
          .config = std::move(parsed.json),
          .stored_dtype = std::move(stored_dtype),
          .folder = folder,
          .generation_config = generation_config_of(folder),
          .frozen = !options.trainable,
          .maps = std::move(weights.maps)};
}

bool is_mapped(const Model& model) {
  const auto lies_in = [&](const at::Tensor& tensor) {
    return std::any_of(model.maps.begin(), model.maps.end(), [&](const auto& map) {
      const auto file = map.lock();
      if (file == nullptr) return false;
      const auto* begin = static_cast<const std::byte*>(tensor.const_data_ptr());
      const auto bytes = file->bytes();
      return begin >= bytes.data() && begin + tensor.nbytes() <= bytes.data() + bytes.size();
    });
  };
  return std::all_of(model.decoder.tensors().begin(), model.decoder.tensors().end(),
                     [&](const auto& named) { return lies_in(named.tensor); });
}

Decoder read_from_maps(const Model& model, at::ScalarType dtype) {
  constexpr int64_t kAtOnce = int64_t{16} << 20;  // of a file's pages in memory
  std::map<std::string, at::Tensor> tensors;
  int64_t read = 0;
  const auto let_go = [&] {
    for (const auto& map : model.maps) {
      if (const auto file = map.lock()) file->let_go();
    }
    read = 0;
  };
  for (const auto& [name, tensor] : model.decoder.tensors()) {
    at::Tensor& copy = tensors[name] = at::empty(tensor.sizes(), tensor.options().dtype(dtype));
    const int64_t row_bytes = static_cast<int64_t>(tensor.nbytes()) / tensor.size(0);
    const int64_t rows = std::max<int64_t>(1, kAtOnce / row_bytes);
    for (int64_t row = 0; row < tensor.size(0); row += rows) {
      const int64_t count = std::min(rows, tensor.size(0) - row);
      copy.narrow(0, row, count).copy_(tensor.narrow(0, row, count));
      read += count * row_bytes;
      if (read >= kAtOnce) let_go();
    }
  }
  let_go();
  return Decoder(model.decoder.config(), std::move(tensors));
}

void save_model(const Model& model, const fs::path& folder, const SaveOptions& options) {
  std::vector<TensorToStore> tensors;
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : model.decoder.tensors()) {
    const auto stored = model.stored_dtype.find(name);
    const auto kept = stored == model.stored_dtype.end() ? tensor.scalar_type() : stored->second;
    tensors.push_back({name, tensor, options.dtype.value_or(kept)});
    bytes += tensors.back().bytes();
  }
  require_space(folder, bytes, "the model");
  write_file(folder / kConfig, config_to_write(model, options.dtype).dump(2) + "\n");
  if (!model.generation_config.empty())
    write_file(folder / kGenerationConfig, model.generation_config);
  auto shards = cut_into_shards(std::move(tensors), options.max_shard_bytes);
  if (shards.size() == 1) {
    write_safetensors(folder / kWeights, std::move(shards.front()));
  } else {
    write_shards(folder, std::move(shards));
  }
}

}  // namespace rlhf
