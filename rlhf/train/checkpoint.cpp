#include "rlhf/train/checkpoint.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/grad_mode.h>
#include <torch/version.h>

#include <algorithm>
#include <charconv>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/models/adapter.h"
#include "rlhf/models/classifier.h"
#include "rlhf/models/safetensors.h"

namespace rlhf {
namespace {

constexpr int kFormat = 1;
constexpr std::string_view kPrefix = "checkpoint-";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kState = "rlhf_state.json";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr std::string_view kWeight = "weight.";

at::ScalarType stored_type(const Model& model, const SaveOptions& save, const NamedTensor& named) {
  if (save.dtype) return *save.dtype;
  const auto found = model.stored_dtype.find(named.name);
  return found == model.stored_dtype.end() ? named.tensor.scalar_type() : found->second;
}

bool adapted(const CheckpointParts& parts) { return parts.model->decoder.active_adapter() >= 0; }

/// The model's files, or the adapter's where one is trained.
void save_trained(const fs::path& folder, const CheckpointParts& parts) {
  const Decoder& decoder = parts.model->decoder;
  if (adapted(parts)) {
    save_adapter(decoder.adapter(decoder.active_adapter()), decoder.config(), folder);
    if (decoder.config().is_classifier()) save_classifier_keys(parts.model->config, folder);
  } else {
    save_model(*parts.model, folder, parts.save);
  }
}

/// Moments and masters, and the weights that the model file rounds and no master keeps.
std::vector<TensorToStore> optimizer_tensors(const CheckpointParts& parts) {
  std::vector<TensorToStore> tensors;
  const auto state = parts.optimizer->state();
  for (const auto& [name, tensor] : state) tensors.push_back({name, tensor, tensor.scalar_type()});
  if (adapted(parts)) return tensors;  // its files hold every bit
  for (const auto& named : parts.model->decoder.tensors()) {
    const auto type = named.tensor.scalar_type();
    if (type == stored_type(*parts.model, parts.save, named) ||
        state.contains("master." + named.name))
      continue;
    tensors.push_back({std::string(kWeight) + named.name, named.tensor, type});
  }
  return tensors;
}

uint64_t bytes_needed(const CheckpointParts& parts) {
  uint64_t bytes = 1'000'000;
  for (const auto& named : parts.model->decoder.trainable()) {
    bytes += static_cast<uint64_t>(named.tensor.numel()) *
             at::elementSize(stored_type(*parts.model, parts.save, named));
  }
  if (parts.optimizer != nullptr) {
    for (const auto& tensor : optimizer_tensors(parts)) bytes += tensor.bytes();
  }
  for (const auto& [file, tensors] : parts.tensors) {
    for (const auto& named : tensors) bytes += named.tensor.nbytes();
  }
  return bytes;
}

void write_manifest(const fs::path& folder) {
  Json files = Json::object();
  std::vector<fs::path> paths;
  for (const auto& entry : fs::directory_iterator(folder)) paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const auto& path : paths) {
    files[path.filename().string()] = {{"bytes", fs::file_size(path)},
                                       {"xxh3_128", content_hash_of_file(path)}};
  }
  write_file(folder / kManifest, Json{{"format", kFormat}, {"files", files}}.dump(2));
}

/// What is wrong with a checkpoint against its manifest; nothing when it is whole.
void check_manifest(const fs::path& folder, bool hashes, Problems& problems) {
  const fs::path path = folder / kManifest;
  if (!fs::exists(path)) {
    problems.add(folder.string(), "a whole checkpoint was expected, there is no manifest.json.",
                 "name a folder checkpoint-N of a run, this or another.");
    return;
  }
  const Json manifest = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!manifest.is_object() || !manifest.contains("files") || !manifest["files"].is_object()) {
    problems.add(path.string(), "it cannot be read.", "resume from another checkpoint.");
    return;
  }
  if (manifest.value("format", 0) > kFormat) {
    problems.add(path.string(),
                 fmt::format("format {} is newer than this program's {}.",
                             manifest.value("format", 0), kFormat),
                 "use the version that wrote it.");
    return;
  }
  for (const auto& [name, entry] : manifest["files"].items()) {
    const fs::path file = folder / name;
    std::error_code error;
    const auto bytes = fs::file_size(file, error);
    if (error) {
      problems.add(file.string(), "it is named in the manifest and missing.",
                   "resume from another checkpoint.");
    } else if (bytes != entry.value("bytes", uint64_t{0})) {
      problems.add(
          file.string(),
          fmt::format("{} bytes were expected, got {}.", entry.value("bytes", uint64_t{0}), bytes),
          "resume from another checkpoint.");
    } else if (hashes && content_hash_of_file(file) != entry.value("xxh3_128", std::string())) {
      problems.add(file.string(), "its content is not what was saved.",
                   "resume from another checkpoint.");
    }
  }
}

}  // namespace

void save_checkpoint(const fs::path& folder, const CheckpointParts& parts) {
  require_space(folder, bytes_needed(parts), "a checkpoint");
  AtomicFolder aside(folder);
  save_trained(aside.path(), parts);
  for (const auto& [file, named] : parts.tensors) {
    std::vector<TensorToStore> tensors;
    for (const auto& [name, tensor] : named)
      tensors.push_back({name, tensor, tensor.scalar_type()});
    write_safetensors(aside.path() / file, std::move(tensors));
  }
  if (parts.optimizer != nullptr)
    write_safetensors(aside.path() / kOptimizer, optimizer_tensors(parts));
  write_file(aside.path() / kState, parts.state.dump(2));
  write_file(aside.path() / "trainer_state.json", parts.trainer_state.dump(2));
  for (const auto& [name, bytes] : parts.files) write_file(aside.path() / name, bytes);
  write_manifest(aside.path());
  aside.commit();
}

void save_final_model(const fs::path& folder, const CheckpointParts& parts) {
  require_space(folder, bytes_needed(CheckpointParts{.model = parts.model, .save = parts.save}),
                "the final model");
  save_trained(folder, parts);
  write_file(folder / "trainer_state.json", parts.trainer_state.dump(2));
  for (const auto& [name, bytes] : parts.files) write_file(folder / name, bytes);
}

CheckpointState load_checkpoint_state(const fs::path& folder) {
  Problems problems;
  check_manifest(folder, /*hashes=*/true, problems);
  problems.throw_if_any();
  CheckpointState loaded{
      .optimizer = {}, .exact = {}, .state = Json::parse(read_file(folder / kState))};
  if (!fs::exists(folder / kOptimizer)) return loaded;
  const SafetensorsFile file(folder / kOptimizer);
  for (const auto& stored : file.tensors()) {
    if (stored.name.starts_with(kWeight)) {
      loaded.exact[stored.name.substr(kWeight.size())] = file.view(stored);
    } else {
      loaded.optimizer[stored.name] = file.view(stored);
    }
  }
  return loaded;
}

void load_tensors_into(const fs::path& file, const std::vector<NamedTensor>& tensors) {
  const at::NoGradGuard no_grad;
  const SafetensorsFile stored(file);
  std::map<std::string, at::Tensor> by_name;
  for (const auto& one : stored.tensors()) by_name[one.name] = stored.view(one);
  for (const auto& named : tensors) {
    const auto found = by_name.find(named.name);
    if (found == by_name.end())
      throw UserError(file.string(), fmt::format("it lacks {}.", named.name));
    at::Tensor(named.tensor).copy_(found->second);
  }
}

void restore_exact_weights(const CheckpointState& checkpoint, const Model& model) {
  const at::NoGradGuard no_grad;
  for (const auto& named : model.decoder.tensors()) {
    if (const auto found = checkpoint.exact.find(named.name); found != checkpoint.exact.end())
      at::Tensor(named.tensor).copy_(found->second);
  }
}

std::vector<std::pair<int64_t, fs::path>> checkpoints_of(const fs::path& run_folder) {
  std::vector<std::pair<int64_t, fs::path>> found;
  if (!fs::is_directory(run_folder)) return found;
  for (const auto& entry : fs::directory_iterator(run_folder)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || !name.starts_with(kPrefix)) continue;
    int64_t step = 0;
    const auto* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end) found.emplace_back(step, entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run_folder) {
  auto all = checkpoints_of(run_folder);
  for (auto at = all.rbegin(); at != all.rend(); ++at) {
    Problems problems;
    check_manifest(at->second, /*hashes=*/true, problems);
    if (problems.empty()) return at->second;
    log_warning("[resume] {} is not whole and is passed over.", at->second.string());
  }
  return std::nullopt;
}

void rotate_checkpoints(const fs::path& run_folder, int64_t limit,
                        const std::optional<fs::path>& keep) {
  auto all = checkpoints_of(run_folder);
  auto excess = std::ssize(all) - std::max<int64_t>(1, limit);
  for (size_t i = 0; i + 1 < all.size() && excess > 0; ++i) {
    if (keep && fs::weakly_canonical(*keep) == fs::weakly_canonical(all[i].second)) continue;
    fs::remove_all(all[i].second);
    --excess;
  }
}

Json machine_fingerprint() {
  return {{"threads", at::get_num_threads()},
          {"instruction_set", at::get_cpu_capability()},
          {"torch", TORCH_VERSION}};
}

void warn_if_machine_differs(const Json& saved) {
  const Json machine = machine_fingerprint();
  for (const auto& [name, now] : machine.items()) {
    if (!saved.contains(name) || saved.at(name) == now) continue;
    log_warning(
        "[resume] {} was {} when the checkpoint was written and is {} now: the run goes on, equal "
        "to a tolerance and not "
        "bit for bit.",
        name, saved.at(name).dump(), now.dump());
  }
}

}  // namespace rlhf
