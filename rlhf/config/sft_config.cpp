#include "rlhf/config/sft_config.h"

#include "rlhf/config/inert_keys.h"
#include "rlhf/core/options_args.h"
#include "rlhf/core/options_text.h"

namespace rlhf {
namespace {

void declare_sft(OptionSet& set, SftOptions& options) {
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
          "every max_length.");
  set.add("eval_packing", options.eval_packing, "Pack the evaluation rows; null: as packing.");
  set.add("completion_only_loss", options.completion_only_loss,
          "Train on completions alone; null: where rows have a prompt and a completion.");
  set.add("assistant_only_loss", options.assistant_only_loss,
          "Train on the assistant's turns alone.");
  set.add("loss_type", options.loss_type,
          "nll: mean of -log p; dft: mean of -sg(p) log p (arXiv 2508.05629).")
      .spelling("chunked_nll", "nll");
}

}  // namespace

void declare(OptionSet& set, SftConfig& config) {
  declare(set, config.model);
  declare(set, config.tokenizer);
  declare(set, config.data);
  declare_sft(set, config.sft);
  declare(set, config.training);
  declare_inert_model_keys(set);
  declare_inert_data_keys(set);
  declare_inert_training_keys(set);
  declare_keys_of_other_methods(set, "sft");
}

void resolve(SftConfig& config, std::vector<std::string>* notes) {
  resolve(config.model);
  resolve(config.data, notes);
  resolve(config.training, config.model, notes);
  if (!config.sft.eval_packing) config.sft.eval_packing = config.sft.packing;
}

void validate(const SftConfig& config, Problems& problems) {
  validate(config.model, problems);
  validate(config.data, problems);
  validate(config.training, config.model, problems);
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
  if (config.training.eval_strategy != Interval::no && !config.data.datasets.empty() &&
      !config.data.test_split_size) {
    problems.add("eval_strategy", "a mixture under datasets has no test split to evaluate on.",
                 "set test_split_size, or eval_strategy: no.");
  }
}

SftConfig read_sft_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  SftConfig config;
  OptionSet set;
  declare(set, config);
  Problems problems;
  ParsedArguments parsed = parse_arguments(set, args, {}, problems);
  resolve(config, &parsed.notes);
  Problems found;
  validate(config, found);
  parsed.add_located(found, problems);
  problems.throw_if_any();
  if (notes != nullptr) *notes = std::move(parsed.notes);
  return config;
}

std::string sft_help() {
  SftConfig config;
  OptionSet set;
  declare(set, config);
  return help_text(set,
                   "rlhf sft --config run.yaml [--key value ...]\n"
                   "Fine-tunes a model on text, conversations or prompt and completion. Every key "
                   "is also a flag;\n"
                   "flags win over the file. Booleans: --packing, --packing false, --no_packing. "
                   "Lists: several\n"
                   "words. Nested keys: YAML or JSON text.\n");
}

std::string resolved_yaml(const SftConfig& config) {
  SftConfig values;  // declared before it takes the values, so that these are not the defaults
  OptionSet set;
  declare(set, values);
  values = config;
  return options_yaml(set);
}

std::string resolved_table(const SftConfig& config) {
  SftConfig values;
  OptionSet set;
  declare(set, values);
  values = config;
  return options_table(set);
}

}  // namespace rlhf
