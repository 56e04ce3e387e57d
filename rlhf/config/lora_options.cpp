#include "rlhf/config/lora_options.h"

#include <algorithm>
#include <filesystem>

#include "rlhf/core/file.h"

namespace rlhf {
namespace {

constexpr double kLargestRank = 65536;  // as of adapter folders that are read (models/adapter.h)

/// A name as it stands in a model: letters, digits, underscores, dots.
bool is_plain_name(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.';
  });
}

/// The keys that describe a new adapter, where they ask for something.
std::vector<std::string> keys_of_a_new_adapter(const LoraOptions& options) {
  const LoraOptions unset;
  std::vector<std::string> keys;
  const auto add = [&](bool changed, const char* key) {
    if (changed) keys.emplace_back(key);
  };
  add(options.lora_r != unset.lora_r, "lora_r");
  add(options.lora_alpha != unset.lora_alpha, "lora_alpha");
  add(options.lora_dropout != unset.lora_dropout, "lora_dropout");
  add(options.lora_target_modules.has_value(), "lora_target_modules");
  add(options.lora_layers_to_transform.has_value(), "lora_layers_to_transform");
  add(options.lora_modules_to_save.has_value(), "lora_modules_to_save");
  add(options.use_rslora, "use_rslora");
  add(options.use_dora, "use_dora");
  return keys;
}

void check_names(const std::string& key, const std::vector<std::string>& names,
                 Problems& problems) {
  if (names.empty()) {
    problems.add(key, "expected names of modules, got an empty list.",
                 "remove the key for its default.");
  }
  for (const auto& name : names) {
    if (is_plain_name(name)) continue;
    problems.add(key, fmt::format("expected names of modules, got \"{}\" among them.", name),
                 key == "lora_target_modules"
                     ? "all-linear or a regular expression stands alone; a list holds names."
                     : "a name is made of letters, digits, underscores and dots.");
  }
}

}  // namespace

void declare(OptionSet& set, LoraOptions& options, std::string_view task) {
  set.group("LoRA");
  set.add("use_peft", options.use_peft,
          "Train a LoRA adapter and leave the model's own weights as they are.");
  set.add("adapter_name_or_path", options.adapter_name_or_path,
          "PEFT adapter folder to go on training; the keys below then come from it. Turns use_peft "
          "on.");
  set.add("lora_r", options.lora_r, "Rank of the adapter.").between(1, kLargestRank).written("r");
  set.add("lora_alpha", options.lora_alpha, "Scale: updates are multiplied by α/r.")
      .above(0)
      .written("α");
  set.add("lora_dropout", options.lora_dropout, "Dropout of the adapter's input.").from_below(0, 1);
  set.add(
      "lora_target_modules", options.lora_target_modules,
      "Linear layers that get an adapter: the last parts of their names, or all-linear (all but "
      "the head), or one regular expression for the whole name; null: PEFT's choice for the "
      "architecture.");
  set.add("lora_layers_to_transform", options.lora_layers_to_transform,
          "Numbers of the layers, from 0, that get an adapter; null: all.")
      .at_least(0);
  set.add("lora_modules_to_save", options.lora_modules_to_save,
          "Modules trained in full and saved with the adapter, such as a score head (which reward "
          "models add by themselves) or embed_tokens.");
  set.add("use_rslora", options.use_rslora, "Multiply updates by α/√r instead (arXiv 2312.03732).");
  set.add("use_dora", options.use_dora,
          "DoRA: a trained magnitude for each row of the updated weight (arXiv 2402.09353).");
  set.add_inert({InertKey::Status::accepted, "lora_task_type", std::string(task),
                 "the command says what the adapter is for."});
  set.add_inert(
      {InertKey::Status::refused, "lora_target_parameters", nullptr,
       "name linear layers in lora_target_modules; single parameters, as those of experts, "
       "get no adapter."});
}

void resolve(LoraOptions& options, const std::optional<std::string>& model_folder) {
  std::error_code unread;  // who loads the model says why
  if (!options.adapter_name_or_path && model_folder &&
      fs::exists(fs::path(*model_folder) / "adapter_config.json", unread)) {
    options.adapter_name_or_path = model_folder;
  }
  if (options.adapter_name_or_path) options.use_peft = true;
}

void validate(const LoraOptions& options, Problems& problems) {
  if (!options.use_peft) {
    for (const auto& key : keys_of_a_new_adapter(options)) {
      problems.add(key, "it describes a LoRA adapter, and use_peft is false.",
                   "set use_peft: true, or remove the key to train all weights.");
    }
  } else if (options.adapter_name_or_path) {
    for (const auto& key : keys_of_a_new_adapter(options)) {
      problems.add(
          key,
          fmt::format("training goes on with the adapter in {}, which says this itself.",
                      *options.adapter_name_or_path),
          "remove the key; for a new adapter fold this one into its base first (rlhf merge), "
          "and start from the merged folder.");
    }
  }
  if (options.adapter_name_or_path && options.adapter_name_or_path->empty()) {
    problems.add("adapter_name_or_path", "expected a PEFT adapter folder, got nothing.",
                 "name a folder with adapter_config.json, or remove the key.");
  }
  const auto& targets = options.lora_target_modules;
  if (targets && (targets->size() != 1 || targets->front().empty())) {
    check_names("lora_target_modules", *targets, problems);
  }
  if (options.lora_layers_to_transform) {
    if (options.lora_layers_to_transform->empty()) {
      problems.add("lora_layers_to_transform", "expected numbers of layers, got an empty list.",
                   "remove the key for all layers.");
    } else if (!target_pattern(options).empty()) {
      problems.add("lora_layers_to_transform",
                   "lora_target_modules is a regular expression, which names the layers itself.",
                   "name modules in a list, or put the layers into the expression.");
    }
  }
  if (options.lora_modules_to_save) {
    check_names("lora_modules_to_save", *options.lora_modules_to_save, problems);
  }
}

std::string target_pattern(const LoraOptions& options) {
  const auto& targets = options.lora_target_modules;
  if (!targets || targets->size() != 1) return "";
  const std::string& text = targets->front();
  return text == "all-linear" || is_plain_name(text) ? "" : text;
}

double adapter_dropout(const LoraOptions& options, bool disable_dropout) {
  return disable_dropout ? 0.0 : options.lora_dropout;
}

void declare_disable_dropout(OptionSet& set, bool& disable_dropout) {
  set.add("disable_dropout", disable_dropout,
          "Train without lora_dropout. The model itself always runs without dropout.");
}

void note_dropout(const LoraOptions& options, bool disable_dropout,
                  std::vector<std::string>* notes) {
  if (notes == nullptr) return;
  if (!disable_dropout && !options.use_peft) {
    notes->emplace_back(
        "[disable_dropout] has no effect: without use_peft there is no dropout to keep.");
  }
  if (disable_dropout && options.use_peft && options.lora_dropout != LoraOptions{}.lora_dropout) {
    notes->emplace_back(
        "[lora_dropout] has no effect: disable_dropout switches it off, as in TRL; set "
        "disable_dropout: false to train with it.");
  }
}

}  // namespace rlhf
