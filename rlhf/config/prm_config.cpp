#include "rlhf/config/prm_config.h"

#include "rlhf/config/command.h"

namespace rlhf {
namespace {

constexpr MethodTraits kPrm = {
    .name = "prm", .task = "TOKEN_CLS", .label_smoothing_hint = "remove the key."};

}  // namespace

void declare(OptionSet& set, PrmOptions& options) {
  set.group("Process reward model");
  set.add("max_length", options.max_length,
          "Longest row in tokens, cut at the end; rows that lose every label are dropped; null: no "
          "limit.")
      .at_least(1);
  set.add("max_completion_length", options.max_completion_length,
          "Longest run of steps in tokens, cut at the end; null: no limit.")
      .at_least(1);
  set.add("step_separator", options.step_separator,
          "Text behind each step; the step's label stands on its last token.");
  set.add("train_on_last_step_only", options.train_on_last_step_only,
          "Learn the label of the last step alone.");
  declare_disable_dropout(set, options.disable_dropout);
  set.add_inert({InertKey::Status::accepted, "max_prompt_length", nullptr,
                 "prompts are not cut by themselves, as in TRL today: max_length cuts the row."});
}

void declare(OptionSet& set, PrmConfig& config) {
  declare_command(set, config, &PrmConfig::prm, kPrm);
}

void resolve(PrmConfig& config, std::vector<std::string>* notes) {
  resolve_common(config, notes);
  note_dropout(config.lora, config.prm.disable_dropout, notes);
}

void validate(const PrmConfig& config, Problems& problems) {
  validate_common(config, kPrm, problems);
  if (config.prm.step_separator.empty()) {
    problems.add("step_separator", "expected a text for the labels to stand on, got nothing.",
                 "the default is a new line.");
  }
}

PrmConfig read_prm_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<PrmConfig>(args, notes);
}

std::string prm_help() {
  return config_help<PrmConfig>(
      "prm", "Trains a model that judges each step of an answer, on steps marked right or wrong.");
}

std::string resolved_yaml(const PrmConfig& config) { return config_yaml(config); }
std::string resolved_table(const PrmConfig& config) { return config_table(config); }

}  // namespace rlhf
