#include "rlhf/config/common_config.h"

namespace rlhf {

void declare_model_and_data(OptionSet& set, CommonConfig& config, const MethodTraits& method) {
  declare(set, config.model);
  declare(set, config.tokenizer);
  declare(set, config.data);
  declare(set, config.lora, method.task);
}

void declare_training(OptionSet& set, CommonConfig& config) {
  declare(set, config.training);
  declare_inert_model_keys(set);
  declare_inert_data_keys(set);
  declare_inert_training_keys(set);
}

void resolve_common(CommonConfig& config, std::vector<std::string>* notes) {
  resolve(config.model);
  resolve(config.data, notes);
  resolve(config.lora, config.model.model_name_or_path);
  resolve(config.training, config.model, notes);
}

void validate_common(const CommonConfig& config, const MethodTraits& method, Problems& problems) {
  validate(config.model, problems);
  validate(config.tokenizer, problems);
  validate(config.data, method.reads_rows, problems);
  validate(config.lora, problems);
  validate(config.training, config.model, problems);
  if (config.training.eval_strategy != Interval::no && !config.data.datasets.empty() &&
      !config.data.test_split_size) {
    problems.add("eval_strategy", "a mixture under datasets has no test split to evaluate on.",
                 "set test_split_size, or eval_strategy: no.");
  }
  if (!method.adds_noise && config.training.neftune_noise_alpha) {
    problems.add("neftune_noise_alpha",
                 fmt::format("{} adds no noise to embeddings: NEFTune is a method for supervised "
                             "fine-tuning.",
                             method.name),
                 "remove the key.");
  }
  if (!method.label_smoothing_hint.empty() && config.training.label_smoothing_factor > 0) {
    problems.add("label_smoothing_factor",
                 fmt::format("it spreads a next-token target, which {} has none of.", method.name),
                 std::string(method.label_smoothing_hint));
  }
}

}  // namespace rlhf
