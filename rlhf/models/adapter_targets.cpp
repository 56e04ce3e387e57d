#include "rlhf/models/adapter_targets.h"

#include <cmath>
#include <regex>
#include <set>

#include "rlhf/models/tensor_specs.h"

namespace rlhf {
namespace {

constexpr const char* kAllLinear = "all-linear";

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

/// The last part of a module's name.
std::string last_part(const std::string& module) {
  const size_t dot = module.rfind('.');
  return dot == std::string::npos ? module : module.substr(dot + 1);
}

std::string join(const std::set<std::string>& names) {
  std::string text;
  for (const auto& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// PEFT's TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING; it has none for the families missing
/// here.
std::vector<std::string> default_targets(std::string_view model_type) {
  static const std::map<std::string_view, std::vector<std::string>> targets = {
      {"llama", {"q_proj", "v_proj"}},       {"mistral", {"q_proj", "v_proj"}},
      {"qwen2", {"q_proj", "v_proj"}},       {"qwen3", {"q_proj", "v_proj"}},
      {"gemma", {"q_proj", "v_proj"}},       {"gemma2", {"q_proj", "v_proj"}},
      {"gemma3_text", {"q_proj", "v_proj"}}, {"gpt2", {"c_attn"}},
      {"gpt_neox", {"query_key_value"}},
  };
  const auto found = targets.find(model_type);
  return found == targets.end() ? std::vector<std::string>() : found->second;
}

/// Matches one model's names against one configuration.
class Matcher {
 public:
  Matcher(const Decoder& decoder, LoraConfig& config, bool strict, const std::string& where,
          Problems& problems)
      : decoder_(decoder), config_(config), strict_(strict), where_(where), problems_(problems) {
    const auto& names = decoder.config().row->names;
    layers_ = fmt::format("{}{}", names.base, names.layer);
    for (const auto& [name, tensor] : decoder.tensors()) {
      const auto full = transformers_name(decoder.config(), name);
      tensors_.push_back(full);
      if (tensor.dim() == 2 && full.starts_with(layers_)) matrices_.push_back(module_of(full));
    }
    if (decoder.config().tied && !decoder.config().is_classifier()) {
      tensors_.push_back(std::string(head_module(decoder.config())) + ".weight");
    }
  }

  AdapterTargets match() {
    fill_defaults();
    AdapterTargets targets;
    targets.saved = saved();
    targets.modules = modules();
    for (const auto& module : targets.modules) {
      for (const auto& tensor : targets.saved) {
        if (tensor.starts_with(module + ".")) {
          problem(
              "modules_to_save",
              fmt::format("{} was expected to be adapted or trained as a whole, it is to be both.",
                          module));
        }
      }
    }
    if (targets.modules.empty() && problems_.empty()) {
      problem("target_modules", "at least one matrix was expected to match, none does.",
              names_hint());
    }
    return targets;
  }

 private:
  void problem(const char* key, std::string what, std::string hint = "") {
    problems_.add(fmt::format("{}: {}", where_, key), std::move(what), std::move(hint));
  }

  std::string names_hint() const {
    std::set<std::string> names;
    for (const auto& matrix : matrices_) names.insert(last_part(matrix));
    return fmt::format("the matrices of {} are {}; all-linear takes them all.",
                       decoder_.config().row->model_type, join(names));
  }

  void fill_defaults() {
    if (config_.target_modules.empty() && config_.target_pattern.empty()) {
      config_.target_modules = default_targets(decoder_.config().row->model_type);
      if (config_.target_modules.empty()) {
        problem("target_modules",
                fmt::format("names were expected: there is no default for {}.",
                            decoder_.config().row->model_type),
                names_hint());
      }
    }
    if (config_.task != ModelTask::language_model) {
      // As PEFT's classes for these tasks do, whichever of the two names the model has.
      for (const char* head : {"classifier", "score"}) {
        auto& saved = config_.modules_to_save;
        if (std::find(saved.begin(), saved.end(), head) == saved.end()) saved.emplace_back(head);
      }
    }
  }

  /// PEFT matches the ends of the names of modules and wraps what is inside.
  static bool is_inside(const std::string& tensor, const std::string& end) {
    for (auto module = module_of(tensor);; module = module_of(module)) {
      if (module.ends_with(end)) return true;
      if (module.find('.') == std::string::npos) return false;
    }
  }

  std::vector<std::string> saved() {
    std::set<std::string> found;
    for (const auto& end : config_.modules_to_save) {
      const size_t before = found.size();
      bool any = false;
      for (const auto& tensor : tensors_) {
        if (end.empty() || !is_inside(tensor, end)) continue;
        any = true;
        found.insert(tensor);
      }
      const bool head = config_.task != ModelTask::language_model &&
                        (end == "classifier" || end == "score") && found.size() == before;
      if (!any && !head && strict_) {
        std::set<std::string> names;
        for (const auto& tensor : tensors_) names.insert(last_part(module_of(tensor)));
        problem("modules_to_save",
                fmt::format("the end of a module's name was expected, '{}' matches none.", end),
                fmt::format("the modules are {}.", join(names)));
      }
    }
    follow_tied_head(found);
    return {found.begin(), found.end()};
  }

  /// With ensure_weight_tying the head is not a second copy.
  void follow_tied_head(std::set<std::string>& found) const {
    const auto& names = decoder_.config().row->names;
    const auto embedding = fmt::format("{}{}.weight", names.base, names.embedding);
    if (decoder_.config().tied && config_.ensure_weight_tying && found.contains(embedding)) {
      found.erase(std::string(head_module(decoder_.config())) + ".weight");
    }
  }

  /// Modules under a name of modules_to_save are not adapted: whole parts of names count here.
  bool excluded(const std::string& module) const {
    const auto dotted = "." + module + ".";
    return std::any_of(
        config_.modules_to_save.begin(), config_.modules_to_save.end(),
        [&](const std::string& one) { return dotted.find("." + one + ".") != std::string::npos; });
  }

  bool in_layers_to_transform(const std::string& module) const {
    if (config_.layers_to_transform.empty()) return true;
    const int64_t layer = std::strtoll(module.c_str() + layers_.size(), nullptr, 10);
    return std::find(config_.layers_to_transform.begin(), config_.layers_to_transform.end(),
                     layer) != config_.layers_to_transform.end();
  }

  template <class Matches>
  std::vector<std::string> matching(Matches matches) const {
    std::vector<std::string> found;
    for (const auto& module : matrices_) {
      if (!excluded(module) && matches(module)) found.push_back(module);
    }
    return found;
  }

  std::vector<std::string> modules() {
    if (!config_.target_pattern.empty()) return modules_of_pattern();
    auto& targets = config_.target_modules;
    if (targets == std::vector<std::string>{kAllLinear}) {
      // PEFT writes the names down.
      targets = matching([](const auto&) { return true; });
      return matching([&](const auto& module) { return in_layers_to_transform(module); });
    }
    if (strict_) check_each_target();
    return matching([&](const std::string& module) {
      return std::any_of(targets.begin(), targets.end(), [&](const std::string& target) {
        return module == target ||
               (module.ends_with("." + target) && in_layers_to_transform(module));
      });
    });
  }

  void check_each_target() {
    for (const auto& target : config_.target_modules) {
      const bool known = std::any_of(matrices_.begin(), matrices_.end(), [&](const auto& module) {
        return module == target || module.ends_with("." + target);
      });
      if (known) continue;
      problem(
          "target_modules",
          fmt::format("the name of a matrix of the layers was expected, '{}' is none.", target),
          whole_module(target)
              ? fmt::format("train it as a whole: put it into modules_to_save; {}", names_hint())
              : names_hint());
    }
    for (const int64_t layer : config_.layers_to_transform) {
      if (layer >= 0 && layer < decoder_.layers()) continue;
      problem("layers_to_transform",
              fmt::format("layers 0 to {} were expected, got {}.", decoder_.layers() - 1, layer));
    }
  }

  /// Embeddings and heads.
  bool whole_module(const std::string& target) const {
    return std::any_of(tensors_.begin(), tensors_.end(), [&](const std::string& tensor) {
      return !tensor.starts_with(layers_) && last_part(module_of(tensor)) == target;
    });
  }

  std::vector<std::string> modules_of_pattern() {
    if (!config_.layers_to_transform.empty()) {
      problem("layers_to_transform",
              "a list of target_modules was expected beside it, got a pattern.");
    }
    try {
      const std::regex pattern(config_.target_pattern);
      return matching([&](const auto& module) { return std::regex_match(module, pattern); });
    } catch (const std::regex_error& error) {
      problem("target_modules", fmt::format("a regular expression was expected, got '{}': {}.",
                                            config_.target_pattern, error.what()));
      return {};
    }
  }

  const Decoder& decoder_;
  LoraConfig& config_;
  bool strict_;
  const std::string& where_;
  Problems& problems_;
  std::string layers_;                 ///< what names of layers begin with
  std::vector<std::string> tensors_;   ///< all, by transformers name
  std::vector<std::string> matrices_;  ///< modules of the layers that multiply
};

}  // namespace

std::map<std::string, at::Tensor> tensors_by_transformers_name(const Decoder& decoder) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, tensor] : decoder.tensors()) {
    tensors[transformers_name(decoder.config(), name)] = tensor;
  }
  if (decoder.config().tied && !decoder.config().is_classifier()) {
    const auto& names = decoder.config().row->names;
    tensors[std::string(head_module(decoder.config())) + ".weight"] =
        tensors.at(fmt::format("{}{}.weight", names.base, names.embedding));
  }
  return tensors;
}

AdapterTargets find_targets(const Decoder& decoder, LoraConfig& config, bool strict,
                            const std::string& where, Problems& problems) {
  return Matcher(decoder, config, strict, where, problems).match();
}

Linear linear_of_module(const std::map<std::string, at::Tensor>& tensors,
                        const DecoderConfig& config, const std::string& module) {
  const auto bias = tensors.find(module + ".bias");
  return {tensors.at(module + ".weight"), bias == tensors.end() ? at::Tensor() : bias->second,
          config.row->transposed};
}

void check_lora_config(const LoraConfig& config, const std::string& where, Problems& problems) {
  constexpr int64_t kLargestRank = 65536;
  const auto add = [&](const char* key, std::string what) {
    problems.add(fmt::format("{}: {}", where, key), std::move(what));
  };
  if (config.r < 1 || config.r > kLargestRank) {
    add("r", fmt::format("a rank from 1 to {} was expected, got {}.", kLargestRank, config.r));
  }
  if (!std::isfinite(config.alpha) || config.alpha <= 0.0) {
    add("lora_alpha", fmt::format("a number above 0 was expected, got {}.", config.alpha));
  }
  if (!(config.dropout >= 0.0 && config.dropout < 1.0)) {
    add("lora_dropout",
        fmt::format("a number from 0 to below 1 was expected, got {}.", config.dropout));
  }
}

}  // namespace rlhf
