#include "rlhf/config/kto_config.h"

#include "rlhf/config/command.h"
#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

constexpr MethodTraits kKto = {.name = "kto", .label_smoothing_hint = "remove the key."};

}  // namespace

void declare(OptionSet& set, KtoOptions& options) {
  set.group("KTO");
  set.add("loss_type", options.loss_type,
          "kto (arXiv 2402.01306), apo_zero_unpaired (arXiv 2408.06266) or bco (arXiv "
          "2404.04656).");
  set.add("beta", options.loss.beta, "Strength of the pull to the reference.")
      .above(0)
      .written("β");
  set.add("desirable_weight", options.loss.desirable_weight, "Weight of desirable rows.")
      .at_least(0)
      .written("λ_D");
  set.add("undesirable_weight", options.loss.undesirable_weight, "Weight of undesirable rows.")
      .at_least(0)
      .written("λ_U");
  set.add("max_length", options.max_length,
          "Longest prompt and answer in tokens, cut at the end; rows whose prompt fills it are "
          "dropped; null: no limit.")
      .at_least(1);
  set.add("unpair", options.unpair,
          "Take rows of a chosen and a rejected answer too, as one desirable and one undesirable "
          "row.");
  declare_disable_dropout(set, options.disable_dropout);
  declare(set, options.reference);
  declare_inert_preference_keys(set);
  for (const auto& [name, harmless] :
       {std::pair("prompt_sample_size", Json(1024)), std::pair("min_density_ratio", Json(0.5)),
        std::pair("max_density_ratio", Json(10.0))}) {
    set.add_inert({InertKey::Status::refused, name, harmless,
                   "remove it; BCO's density ratios need a second model that embeds prompts, which "
                   "is not offered."});
  }
}

void declare(OptionSet& set, KtoConfig& config) {
  declare_command(set, config, &KtoConfig::kto, kKto);
}

void resolve(KtoConfig& config, std::vector<std::string>* notes) {
  resolve_common(config, notes);
  note_dropout(config.lora, config.kto.disable_dropout, notes);
}

void validate(const KtoConfig& config, Problems& problems) {
  validate_common(config, kKto, problems);
  const KtoOptions& kto = config.kto;
  const TrainingOptions& training = config.training;
  validate(kto.reference, config.lora, /*why_none=*/"", problems);
  if (needs_mismatched_answers(kto.loss_type)) {
    if (training.train_sampling_strategy != SamplingStrategy::sequential) {
      problems.add("train_sampling_strategy",
                   fmt::format("loss_type kto pairs each prompt with its neighbour's answer, so "
                               "batches must not change from epoch to epoch; got {}.",
                               enum_text(training.train_sampling_strategy)),
                   "use sequential and shuffle the file, or another loss_type.");
    }
    if (training.per_device_train_batch_size * training.gradient_accumulation_steps < 2) {
      problems.add("per_device_train_batch_size",
                   "loss_type kto pairs the rows of a step with each other, got a step of one row.",
                   "use at least 2 rows a step, or loss_type: apo_zero_unpaired.");
    }
  }
}

KtoConfig read_kto_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<KtoConfig>(args, notes);
}

std::string kto_help() {
  return config_help<KtoConfig>(
      "kto", "Trains on answers that are marked desirable or undesirable, one by one.");
}

std::string resolved_yaml(const KtoConfig& config) { return config_yaml(config); }
std::string resolved_table(const KtoConfig& config) { return config_table(config); }

}  // namespace rlhf
