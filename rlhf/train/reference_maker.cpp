#include "rlhf/train/reference_maker.h"

#include <algorithm>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr const char* kMovingFile = "reference.safetensors";

int64_t weight_bytes(const Model& model) {
  int64_t bytes = 0;
  for (const auto& named : model.decoder.tensors())
    bytes += static_cast<int64_t>(named.tensor.nbytes());
  return bytes;
}

}  // namespace

void References::follow(const Policy& policy, const RefModelOptions& options, int64_t step) const {
  if (moving != nullptr && step % options.ref_model_sync_steps == 0)
    mix_into_reference(*moving, policy.decoder(), options.ref_model_mixup_alpha);
}

void check_reference_folder(const RefModelOptions& options, const Policy& policy) {
  if (!options.ref_model_name_or_path) return;
  if (is_adapter_folder(*options.ref_model_name_or_path)) {
    throw UserError("ref_model_name_or_path",
                    fmt::format("a model folder was expected, {} is an adapter.",
                                *options.ref_model_name_or_path),
                    "fold it into its base with rlhf merge, or start from it with "
                    "adapter_name_or_path: a start adapter is its own reference.");
  }
  const auto reference = load_decoder_config(*options.ref_model_name_or_path);
  if (reference.vocab_size != policy.config().vocab_size ||
      reference.task != ModelTask::language_model) {
    throw UserError(
        "ref_model_name_or_path",
        fmt::format("a language model with the policy's vocabulary of {} was expected, got {} with "
                    "{}.",
                    policy.config().vocab_size, reference.row->class_name, reference.vocab_size),
        "log-probabilities of the same ids must mean the same text.");
  }
  const DecoderConfig& policy_config = policy.config();
  if (options.sync_ref_model &&
      (reference.row != policy_config.row || reference.layers != policy_config.layers ||
       reference.width != policy_config.width)) {
    throw UserError("sync_ref_model",
                    "a reference of the policy's architecture and size was expected: its weights "
                    "are mixed with the policy's.",
                    "name another ref_model_name_or_path, or none.");
  }
}

std::string fingerprint_of_rows(const std::string& fingerprint, const std::vector<int64_t>& rows) {
  const std::string_view bytes(reinterpret_cast<const char*>(rows.data()),
                               rows.size() * sizeof(int64_t));
  return content_hash(fmt::format("{} {}", fingerprint, content_hash(bytes)));
}

bool ReferenceMaker::tabulates() const {
  return precomputes_reference(options_, policy_.adapted());
}

Model ReferenceMaker::load_reference() const {
  if (!options_.ref_model_name_or_path)
    return load_start_model(config_, policy_, options_.sync_ref_model);
  return load_model(*options_.ref_model_name_or_path,
                    {.dtype = policy_.decoder().dtype(),
                     .device = policy_.device,
                     .trainable = options_.sync_ref_model,  // else mapped: it never changes
                     .task = ModelTask::language_model});
}

std::optional<Model> ReferenceMaker::map_reference() const {
  if (options_.sync_ref_model || config_.model.from_scratch || !policy_.device.is_cpu()) return {};
  Model model =
      load_model(options_.ref_model_name_or_path.value_or(*config_.model.model_name_or_path),
                 {.dtype = {}, .task = ModelTask::language_model});
  if (weight_bytes(model) < kLeastRead || !is_mapped(model)) return {};
  return model;
}

std::optional<int> ReferenceMaker::adapter() const {
  if (!policy_.adapted()) return std::nullopt;
  if (!options_.ref_model_name_or_path) return policy_.reference_adapter;
  const Model& model = policy_.model;
  std::error_code gone;
  const bool base = model.frozen && !options_.sync_ref_model &&
                    fs::equivalent(*options_.ref_model_name_or_path, model.folder, gone);
  return base ? std::optional(-1) : std::nullopt;
}

template <class Use>
void ReferenceMaker::with_model(Use use) {
  if (const auto number = adapter()) {
    const AdapterScope scope(policy_.decoder(), *number);
    use(policy_.model);
  } else if (!options_.ref_model_name_or_path && run_.step() == 0) {
    use(policy_.model);  // not yet moved: the reference itself
  } else {
    use(load_reference());
  }
}

bool ReferenceMaker::tabulate(const ReferenceItems& items, const std::vector<int64_t>& rows,
                              std::optional<Reference>& reference) {
  std::optional<ReferenceTable> table;
  with_model([&](const Model& model) {
    table = ReferenceTable::make(model, items, cache_folder(config_.data),
                                 microbatch_tokens(config_.training), hooks_);
  });
  if (!table) return false;
  reference = Reference::from_table(std::move(*table), [rows](int64_t row) {
    return std::lower_bound(rows.begin(), rows.end(), row) - rows.begin();
  });
  return true;
}

References ReferenceMaker::live(double temperature) {
  References references;
  if (const auto number = adapter()) {
    references.train = Reference::from_adapter(policy_.decoder(), *number, temperature);
  } else if (auto mapped = map_reference()) {
    references.train = Reference::from_maps(std::make_shared<Model>(std::move(*mapped)),
                                            policy_.decoder().dtype(), temperature);
  } else {
    auto model = std::make_shared<Model>(load_reference());
    if (options_.sync_ref_model) {
      if (policy_.resumed_from && run_.step() > 0)
        load_tensors_into(*policy_.resumed_from / kMovingFile, model->decoder.tensors());
      run_.add_tensors(kMovingFile, [model] { return model->decoder.tensors(); });
      references.moving = model;
    }
    references.train = Reference::from_model(std::move(model), temperature);
  }
  references.eval = references.train;
  return references;
}

}  // namespace rlhf
