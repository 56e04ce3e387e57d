#include "rlhf/models/adapter_folder.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <set>

#include "rlhf/core/log.h"
#include "rlhf/models/adapter_targets.h"
#include "rlhf/models/classifier.h"
#include "rlhf/models/safetensors.h"
#include "rlhf/models/tensor_specs.h"

namespace rlhf {
namespace {

/// Where a path of adapter_config.json leads; nothing where there is no such folder.
std::optional<fs::path> find_base(const fs::path& adapter, const std::string& name) {
  if (name.empty()) return std::nullopt;
  for (const auto& path : {adapter / name, fs::path(name)}) {
    if (fs::is_directory(path)) return path;
  }
  return std::nullopt;
}

std::string weights_hash(const fs::path& folder) {
  std::set<std::string> hashes;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") {
      hashes.insert(content_hash_of_file(entry.path()));
    }
  }
  std::string text;
  for (const auto& hash : hashes) text += hash;
  return text;
}

/// The base that the adapter names, where it is at hand, must hold the model's weights.
void check_base(const fs::path& folder, const LoraConfig& config, const Model& model,
                Problems& problems) {
  const auto base = find_base(folder, config.base_model);
  if (model.folder.empty() || config.base_model.empty()) return;
  if (!base) {
    if (fs::path(config.base_model).filename() != fs::absolute(model.folder).filename()) {
      log_warning("{} was made for {}, which is not here; it is used with {}.", folder.string(),
                  config.base_model, model.folder.string());
    }
    return;
  }
  if (fs::equivalent(*base, model.folder) || weights_hash(*base) == weights_hash(model.folder)) {
    return;
  }
  problems.add(folder.string(),
               fmt::format("an adapter for {} was expected, it was made for {}, whose weights are "
                           "others.",
                           model.folder.string(), base->string()),
               "use the base that the adapter names.");
}

/// The tensors of one adapter file against what the configuration asks for.
class AdapterFile {
 public:
  AdapterFile(const fs::path& folder, const DecoderConfig& config)
      : where_((folder / kAdapterWeights).string()), file_(folder / kAdapterWeights) {
    for (const auto& stored : file_.tensors()) {
      const bool prefixed = stored.name.starts_with(kAdapterPrefix);
      const auto name =
          prefixed ? transformers_name(config, stored.name.substr(kPrefixSize)) : stored.name;
      left_[name] = &stored;
    }
  }

  /// The tensor of this name, or undefined with a problem.
  at::Tensor take(const std::string& name, at::IntArrayRef shape, const at::TensorOptions& as,
                  Problems& problems) {
    const auto where = fmt::format("{}: {}{}", where_, kAdapterPrefix, name);
    const auto it = left_.find(name);
    if (it == left_.end()) {
      problems.add(where,
                   fmt::format("a tensor {} was expected, there is none.", shape_text(shape)));
      return {};
    }
    const auto& stored = *it->second;
    left_.erase(it);
    if (at::IntArrayRef(stored.shape) != shape) {
      problems.add(where, fmt::format("the shape {} was expected, got {}.", shape_text(shape),
                                      shape_text(stored.shape)));
      return {};
    }
    if (!c10::isFloatingType(stored.dtype)) {
      problems.add(where, fmt::format("a floating-point type was expected, got {}.",
                                      c10::toString(stored.dtype)));
      return {};
    }
    const auto tensor = file_.view(stored).to(as, /*non_blocking=*/false, /*copy=*/true);
    if (!at::isfinite(tensor).all().item<bool>()) {
      problems.add(where, "finite numbers were expected, it holds NaN or infinity.");
    }
    return tensor;
  }

  bool has(const std::string& name) const { return left_.contains(name); }

  void report_unexpected(Problems& problems) const {
    for (const auto& [name, stored] : left_) {
      const bool whole = name.find(".lora_") == std::string::npos;
      problems.add(fmt::format("{}: {}", where_, stored->name),
                   "no such tensor was expected by adapter_config.json.",
                   whole ? "a tensor that was trained as a whole belongs into modules_to_save; a "
                           "resized vocabulary into a base of that size."
                         : "");
    }
  }

 private:
  static constexpr size_t kPrefixSize = std::char_traits<char>::length(kAdapterPrefix);

  std::string where_;
  SafetensorsFile file_;
  std::map<std::string, const StoredTensor*> left_;  ///< by transformers name
};

void take_modules(AdapterFile& file, const Decoder& decoder, const AdapterTargets& targets,
                  Adapter& adapter, Problems& problems) {
  const auto tensors = tensors_by_transformers_name(decoder);
  const auto& config = adapter.config;
  const bool wide = decoder.dtype() == at::kDouble;
  for (const auto& module : targets.modules) {
    const auto frozen = linear_of_module(tensors, decoder.config(), module);
    const int64_t in = frozen.weight.size(frozen.transposed ? 0 : 1);
    const int64_t out = frozen.weight.size(frozen.transposed ? 1 : 0);
    const auto as = frozen.weight.options().dtype(wide ? at::kDouble : at::kFloat);
    auto lora = std::make_shared<Lora>();
    lora->a = file.take(module + ".lora_A.weight", {config.r, in}, as, problems);
    lora->b = file.take(module + ".lora_B.weight", {out, config.r}, as, problems);
    if (config.dora) {
      lora->magnitude = file.take(module + ".lora_magnitude_vector", {out}, as, problems);
    }
    lora->scale = lora_scale(config.alpha, config.r, config.rslora);
    lora->dropout = config.dropout;
    lora->stream = name_hash(module);
    adapter.modules[module] = std::move(lora);
  }
  for (const auto& name : targets.saved) {
    const auto& original = tensors.at(name);
    adapter.saved[name] = file.take(name, original.sizes(), original.options(), problems);
  }
}

/// The module of a tied head that follows the adapter's embedding; empty where none does.
std::string following_head(const Adapter& adapter, const DecoderConfig& config) {
  const auto& names = config.row->names;
  const auto embedding = fmt::format("{}{}.weight", names.base, names.embedding);
  return config.tied && adapter.config.ensure_weight_tying && adapter.saved.contains(embedding)
             ? embedding
             : "";
}

/// PEFT stores a following head too.
void take_following_head(AdapterFile& file, const Adapter& adapter, const DecoderConfig& config,
                         Problems& problems) {
  const auto embedding = following_head(adapter, config);
  const auto head = std::string(head_module(config)) + ".weight";
  if (embedding.empty() || !file.has(head)) return;
  const auto& own = adapter.saved.at(embedding);
  if (!own.defined()) return;
  const auto stored = file.take(head, own.sizes(), own.options(), problems);
  if (stored.defined() && !at::equal(stored, own)) {
    problems.add(head, "the embedding's values were expected, as ensure_weight_tying is true.");
  }
}

/// Rows of the adapter's score head; 1 where it has none.
int64_t labels_of(const fs::path& folder) {
  const SafetensorsFile file(folder / kAdapterWeights);
  for (const char* head : {"score", "classifier"}) {
    const auto name = fmt::format("{}{}.weight", kAdapterPrefix, head);
    for (const auto& stored : file.tensors()) {
      if (stored.name == name && !stored.shape.empty()) return stored.shape[0];
    }
  }
  return 1;
}

}  // namespace

bool is_adapter_folder(const fs::path& folder) {
  std::error_code unread;  // who loads the folder says why
  return fs::exists(folder / kAdapterConfig, unread);
}

Adapter load_adapter(const fs::path& folder, const Model& model,
                     const AdapterLoadOptions& options) {
  const at::NoGradGuard no_grad;
  const auto& decoder = model.decoder;
  const auto& config = decoder.config();
  Adapter adapter{.config = load_lora_config(folder), .modules = {}, .saved = {}};
  const auto where = (folder / kAdapterConfig).string();
  Problems problems;
  if (adapter.config.task != config.task) {
    problems.add(where + ": task_type",
                 fmt::format("{} was expected for {}, got {}.", task_name(config.task),
                             config.row->class_for(config.task), task_name(adapter.config.task)));
  }
  check_base(folder, adapter.config, model, problems);
  Problems mismatches;
  const auto targets = find_targets(decoder, adapter.config, /*strict=*/false, where, mismatches);
  AdapterFile file(folder, config);
  take_modules(file, decoder, targets, adapter, mismatches);
  take_following_head(file, adapter, config, mismatches);
  file.report_unexpected(mismatches);
  if (!mismatches.empty()) {
    problems.add(
        folder.string(),
        fmt::format("an adapter for {} ({}) was expected, it names '{}' and its tensors do "
                    "not fit.",
                    model.folder.string(), config.row->model_type, adapter.config.base_model));
    try {
      mismatches.throw_if_any();
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  problems.throw_if_any();
  if (!options.allow_unchanged && changes_nothing(decoder, adapter)) {
    throw UserError(folder.string(),
                    "an adapter that changes the model was expected: every lora_B is zero and "
                    "nothing else differs from the base.",
                    "it was saved before its first step, or its training had no effect.");
  }
  return adapter;
}

void save_adapter(const Adapter& adapter, const DecoderConfig& config, const fs::path& folder) {
  std::vector<TensorToStore> tensors;
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : adapter.tensors()) {
    tensors.push_back({name, tensor, tensor.scalar_type()});
    bytes += tensors.back().bytes();
  }
  if (const auto embedding = following_head(adapter, config); !embedding.empty()) {
    const auto& tensor = adapter.saved.at(embedding);
    tensors.push_back({fmt::format("{}{}.weight", kAdapterPrefix, head_module(config)), tensor,
                       tensor.scalar_type()});
    bytes += tensors.back().bytes();
  }
  require_space(folder, bytes, "the adapter");
  write_file(folder / kAdapterConfig, adapter_config_json(adapter.config, config).dump(2) + "\n");
  write_safetensors(folder / kAdapterWeights, std::move(tensors));
}

fs::path base_of_adapter(const fs::path& folder, const std::optional<fs::path>& explicit_base) {
  if (explicit_base) return *explicit_base;
  const auto name = load_lora_config(folder).base_model;
  if (const auto base = find_base(folder, name)) return *base;
  throw UserError(
      (folder / kAdapterConfig).string() + ": base_model_name_or_path",
      fmt::format("a model folder was expected, from {} or from here; there is no '{}'.",
                  folder.string(), name),
      "correct it there, or name the folder with --base_model where a command has it (generate, "
      "chat, score, eval, merge); nothing is downloaded.");
}

Model load_adapted_model(const fs::path& adapter_folder, const LoadOptions& options,
                         const std::optional<fs::path>& explicit_base,
                         std::span<const Model* const> held) {
  const auto config = load_lora_config(adapter_folder);
  if (options.task && *options.task != config.task) {
    throw UserError((adapter_folder / kAdapterConfig).string() + ": task_type",
                    fmt::format("{} was expected here, got {}.", task_name(*options.task),
                                task_name(config.task)));
  }
  auto how = options;
  how.task = config.task;
  Json keys = Json::object();
  if (config.task != ModelTask::language_model) {
    how.labels = labels_of(adapter_folder);
    keys = read_classifier_keys(adapter_folder);
    if (!how.pad_id && keys.contains(kPadKey)) how.pad_id = keys[kPadKey].get<int64_t>();
    keys.erase(kPadKey);
  }
  auto model = load_model(base_of_adapter(adapter_folder, explicit_base), how, held);
  model.config.update(keys);
  model.decoder.use_adapter(model.decoder.add_adapter(load_adapter(adapter_folder, model)));
  return model;
}

}  // namespace rlhf
