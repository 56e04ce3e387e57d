#include "rlhf/config/ref_model_options.h"

namespace rlhf {
namespace {

void check_sync(const RefModelOptions& options, const LoraOptions& lora, Problems& problems) {
  const RefModelOptions unset;
  if (!options.sync_ref_model) {
    constexpr const char* kUnused = "it moves the reference, and sync_ref_model is false.";
    constexpr const char* kHint = "set sync_ref_model: true, or remove the key.";
    if (options.ref_model_mixup_alpha != unset.ref_model_mixup_alpha)
      problems.add("ref_model_mixup_alpha", kUnused, kHint);
    if (options.ref_model_sync_steps != unset.ref_model_sync_steps)
      problems.add("ref_model_sync_steps", kUnused, kHint);
    return;
  }
  if (lora.use_peft) {
    problems.add("sync_ref_model", "with an adapter the reference is the model without it.",
                 "train all weights, or set sync_ref_model: false.");
  }
  if (options.precompute_ref_log_probs.value_or(false)) {
    problems.add("precompute_ref_log_probs", "sync_ref_model moves the reference.",
                 "keep one of the two.");
  }
}

}  // namespace

void declare_live(OptionSet& set, RefModelOptions& options) {
  set.group("Reference");
  set.add("ref_model_name_or_path", options.ref_model_name_or_path,
          "Model folder of the reference; null: the policy as it starts.");
  set.add("sync_ref_model", options.sync_ref_model,
          "TR-DPO (arXiv 2404.09656): move the reference towards the policy.");
  set.add("ref_model_mixup_alpha", options.ref_model_mixup_alpha,
          "Share of the policy in the new reference: π_ref ← α π + (1 − α) π_ref.")
      .between(0, 1)
      .written("α");
  set.add("ref_model_sync_steps", options.ref_model_sync_steps, "Steps between two such moves.")
      .at_least(1)
      .written("τ");
  set.add_inert({InertKey::Status::accepted, "force_use_ref_model", false,
                 "ref_model_name_or_path is used wherever it is given."});
  set.add_inert({InertKey::Status::refused, "ref_model_init_kwargs", nullptr,
                 "remove it; the reference computes in the policy's dtype."});
  set.add_inert({InertKey::Status::refused, "model_adapter_name", nullptr,
                 "name the adapter's folder as adapter_name_or_path."});
  set.add_inert({InertKey::Status::refused, "ref_adapter_name", nullptr,
                 "remove it; the reference of a start adapter is a copy of that adapter."});
}

void declare(OptionSet& set, RefModelOptions& options) {
  declare_live(set, options);
  set.add(
      "precompute_ref_log_probs", options.precompute_ref_log_probs,
      "Compute the reference's log-probabilities once, before the first step, into a cache on "
      "disk, and hold no reference in memory; null: where it is fixed and no adapter gives it.");
  set.add_inert({InertKey::Status::accepted, "precompute_ref_batch_size", nullptr,
                 "max_tokens_per_microbatch cuts these passes too, and changes no result."});
}

void validate(const RefModelOptions& options, const LoraOptions& lora, const std::string& why_none,
              Problems& problems) {
  if (why_none.empty()) {
    check_sync(options, lora, problems);
    if (options.ref_model_name_or_path && options.ref_model_name_or_path->empty()) {
      problems.add("ref_model_name_or_path", "expected a model folder, got nothing.",
                   "remove the key for the policy as it starts.");
    }
    return;
  }
  const RefModelOptions unset;
  const auto refuse = [&](bool changed, const char* key) {
    if (changed) problems.add(key, why_none, "remove the key.");
  };
  refuse(options.ref_model_name_or_path.has_value(), "ref_model_name_or_path");
  refuse(options.precompute_ref_log_probs.value_or(false), "precompute_ref_log_probs");
  refuse(options.sync_ref_model, "sync_ref_model");
  refuse(options.ref_model_mixup_alpha != unset.ref_model_mixup_alpha, "ref_model_mixup_alpha");
  refuse(options.ref_model_sync_steps != unset.ref_model_sync_steps, "ref_model_sync_steps");
}

bool precomputes_reference(const RefModelOptions& options, bool adapter) {
  if (options.precompute_ref_log_probs) return *options.precompute_ref_log_probs;
  return !options.sync_ref_model && (!adapter || options.ref_model_name_or_path.has_value());
}

}  // namespace rlhf
