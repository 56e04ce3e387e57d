#include "rlhf/config/sft_config.h"

#include "rlhf/config/command.h"

namespace rlhf {
namespace {

constexpr MethodTraits kSft = {.name = "sft", .adds_noise = true};

}  // namespace

void declare(OptionSet& set, SftOptions& options) {
  set.group("Supervised fine-tuning");
  set.add("max_length", options.max_length,
          "Longest sequence in tokens, and the size of a pack; null: no limit.")
      .at_least(1)
      .old_name("max_seq_length");
  set.add("truncation_mode", options.truncation_mode, "Which end of a longer sequence is kept.");
  set.add("shuffle_dataset", options.shuffle_dataset, "Shuffle rows once before they are packed.");
  set.add("packing", options.packing,
          "Fill sequences of max_length with several rows; rows never see each other.");
  set.add("packing_strategy", options.packing_strategy,
          "bfd: best fit, longer rows are cut; bfd_split: longer rows are split; wrapped: cut at "
          "every max_length.")
      .spelling("ffd", "bfd");
  set.add("eval_packing", options.eval_packing, "Pack the evaluation rows; null: as packing.");
  set.add("completion_only_loss", options.completion_only_loss,
          "Train on completions alone; null: where rows have a prompt and a completion.");
  set.add("assistant_only_loss", options.assistant_only_loss,
          "Train on the assistant's turns alone.");
  set.add("loss_type", options.loss_type,
          "nll: mean of -log p; dft: mean of -sg(p) log p (arXiv 2508.05629).")
      .spelling("chunked_nll", "nll");
}

void declare(OptionSet& set, SftConfig& config) {
  declare_command(set, config, &SftConfig::sft, kSft);
}

void resolve(SftConfig& config, std::vector<std::string>* notes) {
  resolve_common(config, notes);
  if (!config.sft.eval_packing) config.sft.eval_packing = config.sft.packing;
}

void validate(const SftConfig& config, Problems& problems) {
  validate_common(config, kSft, problems);
  const SftOptions& sft = config.sft;
  const bool packs = sft.packing || sft.eval_packing.value_or(false);
  if (packs && !sft.max_length) {
    problems.add("max_length", "packing fills sequences of max_length, got null.",
                 "set max_length, such as 2048.");
  }
  if (sft.loss_type == SftLoss::dft && config.training.label_smoothing_factor > 0) {
    problems.add("label_smoothing_factor", "loss_type dft has no smoothed form.",
                 "keep one of the two.");
  }
}

SftConfig read_sft_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<SftConfig>(args, notes);
}

std::string sft_help() {
  return config_help<SftConfig>(
      "sft", "Fine-tunes a model on text, conversations or prompt and completion.");
}

std::string resolved_yaml(const SftConfig& config) { return config_yaml(config); }
std::string resolved_table(const SftConfig& config) { return config_table(config); }

}  // namespace rlhf
