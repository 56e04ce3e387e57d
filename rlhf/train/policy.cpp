#include "rlhf/train/policy.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/train/setup.h"

namespace rlhf {
namespace {

LoraConfig lora_config(const CommonConfig& config, const PolicyRequest& request) {
  const LoraOptions& lora = config.lora;
  LoraConfig made;
  made.r = lora.lora_r;
  made.alpha = lora.lora_alpha;
  made.dropout = lora.lora_dropout;
  made.rslora = lora.use_rslora;
  made.dora = lora.use_dora;
  made.task = request.task;
  made.base_model = *config.model.model_name_or_path;
  made.target_pattern = target_pattern(lora);
  if (made.target_pattern.empty() && lora.lora_target_modules) {
    made.target_modules = *lora.lora_target_modules;
  }
  made.layers_to_transform = lora.lora_layers_to_transform.value_or(std::vector<int64_t>{});
  made.modules_to_save = lora.lora_modules_to_save.value_or(std::vector<std::string>{});
  return made;
}

/// Attaches the adapter to be trained, from wherever it comes, and switches to it.
void attach_adapter(const CommonConfig& config, const PolicyRequest& request,
                    const std::optional<fs::path>& checkpoint, Policy& policy) {
  const auto& start = config.lora.adapter_name_or_path;
  const auto seed = static_cast<uint64_t>(config.training.seed);
  Adapter adapter = checkpoint ? load_adapter(*checkpoint, policy.model, {.allow_unchanged = true})
                    : start    ? load_adapter(*start, policy.model, {.allow_unchanged = true})
                               : make_adapter(policy.decoder(), lora_config(config, request), seed);
  if (start && request.keeps_start_adapter) {
    policy.reference_adapter = policy.decoder().add_adapter(clone_adapter(
        checkpoint ? load_adapter(*start, policy.model, {.allow_unchanged = true}) : adapter));
  }
  const double dropout =
      request.adapter_dropout > 0.0 && start ? adapter.config.dropout : request.adapter_dropout;
  for (const auto& [name, module] : adapter.modules) module->dropout = dropout;
  policy.decoder().use_adapter(policy.decoder().add_adapter(std::move(adapter)));
}

}  // namespace

fs::path text_folder(const fs::path& model) {
  const bool own = fs::exists(model / "tokenizer.json") || fs::exists(model / "tokenizer.json.gz");
  return own || !is_adapter_folder(model) ? model : base_of_adapter(model);
}

Policy load_policy(CommonConfig& config, const PolicyRequest& request, at::Device device,
                   const std::optional<fs::path>& checkpoint) {
  auto& model = config.model;
  if (is_adapter_folder(*model.model_name_or_path)) {
    const fs::path folder = *model.model_name_or_path;
    if (!config.lora.adapter_name_or_path) config.lora.adapter_name_or_path = folder.string();
    config.lora.use_peft = true;
    model.model_name_or_path = base_of_adapter(folder).string();
  }
  const auto dtype = choose_dtype(model, config.training.bf16, device);
  model.dtype = dtype == at::kBFloat16 ? Dtype::bfloat16 : Dtype::float32;
  const bool adapted = config.lora.use_peft;
  if (adapted && model.from_scratch) {
    log_warning(
        "[from_scratch] the random base of the adapter is not saved with it: only runs with the "
        "same seed and config.json have that base.");
  }
  SaveOptions save{.dtype = torch_dtype(model.save_dtype)};
  if (model.from_scratch && !save.dtype) save.dtype = dtype;
  const LoadOptions load{.dtype = dtype,
                         .device = device,
                         .trainable = !adapted,
                         .from_scratch = model.from_scratch && (adapted || !checkpoint),
                         .seed = static_cast<uint64_t>(config.training.seed),
                         .task = request.task,
                         .labels = request.labels,
                         .pad_id = request.pad_id};
  std::optional<CheckpointState> resumed;
  if (checkpoint) resumed = load_checkpoint_state(*checkpoint);
  const fs::path folder =
      checkpoint && !adapted ? *checkpoint : fs::path(*model.model_name_or_path);
  Policy policy{.model = load_model(folder, load, request.held),
                .save = save,
                .device = device,
                .resumed_from = checkpoint,
                .resumed = std::move(resumed)};
  if (adapted) {
    attach_adapter(config, request, checkpoint, policy);
  } else if (policy.resumed) {
    restore_exact_weights(*policy.resumed, policy.model);
  }
  policy.decoder().set_requires_grad(true);
  return policy;
}

Model load_start_model(const CommonConfig& config, const Policy& policy, bool moves) {
  return load_model(*config.model.model_name_or_path,
                    {.dtype = policy.decoder().dtype(),
                     .device = policy.device,
                     .trainable = moves,
                     .from_scratch = config.model.from_scratch,
                     .seed = static_cast<uint64_t>(config.training.seed)});
}

ForwardOptions Policy::training_pass(const TrainingOptions& training, int64_t step,
                                     int64_t first_token) const {
  return {.checkpoint_layers = training.gradient_checkpointing,
          .on_embeddings = {},
          .dropout = DropoutKey{.seed = static_cast<uint64_t>(training.seed),
                                .step = static_cast<uint64_t>(step),
                                .first_token = first_token}};
}

void Policy::restore(const fs::path& checkpoint) {
  const at::NoGradGuard no_grad;
  std::vector<NamedTensor> stored;
  if (adapted()) {
    stored = load_adapter(checkpoint, model, {.allow_unchanged = true}).tensors();
  } else {
    stored =
        load_model(checkpoint, {.dtype = decoder().dtype(), .device = device}).decoder.tensors();
  }
  const auto trained = decoder().trainable();
  check(stored.size() == trained.size(), "restore", "{} tensors were expected, got {}.",
        trained.size(), stored.size());
  for (size_t i = 0; i < stored.size(); ++i) at::Tensor(trained[i].tensor).copy_(stored[i].tensor);
}

void check_rows_fit(const RowLimits& rows, const DecoderConfig& model, const char* key) {
  if (rows.least_id < 0 || rows.largest_id >= model.vocab_size) {
    throw UserError(
        "data",
        fmt::format("ids below the model's vocabulary of {} were expected, got {}.",
                    model.vocab_size, rows.least_id < 0 ? rows.least_id : rows.largest_id),
        "the tokenizer and the model must belong together.");
  }
  if (rows.longest <= model.context) return;
  const std::string what =
      fmt::format("rows of up to {} tokens for a model made for {}.", rows.longest, model.context);
  // A table of positions ends; rotary positions go on, at the price of what the model has not seen.
  if (model.rope.width == 0) {
    throw UserError(key, what, fmt::format("set {} to {} or less.", key, model.context));
  }
  log_warning("[{}] {}", key, what);
}

}  // namespace rlhf
