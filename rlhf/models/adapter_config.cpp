// adapter_config.json in and out.
#include <cmath>
#include <set>

#include "rlhf/core/json_text.h"
#include "rlhf/models/adapter.h"
#include "rlhf/models/adapter_folder.h"
#include "rlhf/models/adapter_targets.h"

namespace rlhf {
namespace {

constexpr const char* kPeftVersion = "0.21.2";

struct TaskName {
  const char* name;
  ModelTask task;
};
constexpr TaskName kTasks[] = {{"CAUSAL_LM", ModelTask::language_model},
                               {"SEQ_CLS", ModelTask::sequence_classification},
                               {"TOKEN_CLS", ModelTask::token_classification}};

/// Keys that change nothing once an adapter is trained.
const std::set<std::string> kIgnored = {
    "auto_mapping", "corda_config",  "eva_config",   "fan_in_fan_out", "inference_mode",
    "loftq_config", "megatron_core", "peft_version", "revision",       "qalora_group_size"};

/// Initial values after which the base is what it was. The others of PEFT's (pissa, olora, corda,
/// loftq, …) change the base too.
const std::set<std::string> kPlainInits = {"gaussian", "orthogonal", "eva"};

bool is_neutral(const Json& value) {
  return value.is_null() || value == false ||
         ((value.is_object() || value.is_array()) && value.empty());
}

class Reader {
 public:
  Reader(const Json& json, std::string where, Problems& problems)
      : json_(json), where_(std::move(where)), problems_(problems) {}

  LoraConfig read() {
    LoraConfig config;
    const auto type = text("peft_type");
    if (type != "LORA") problem("peft_type", fmt::format("LORA was expected, got '{}'.", type));
    config.r = take<int64_t>("r", 8, &Json::is_number_integer, "an integer");
    config.alpha = take<double>("lora_alpha", 8.0, &Json::is_number, "a number");
    config.dropout = take<double>("lora_dropout", 0.0, &Json::is_number, "a number");
    config.rslora = take<bool>("use_rslora", false, &Json::is_boolean, "true or false");
    config.dora = take<bool>("use_dora", false, &Json::is_boolean, "true or false");
    config.ensure_weight_tying =
        take<bool>("ensure_weight_tying", false, &Json::is_boolean, "true or false");
    config.base_model = text("base_model_name_or_path");
    read_targets(config);
    config.modules_to_save = list<std::string>("modules_to_save", &Json::is_string, "texts");
    read_task(config);
    const auto bias = find("bias");
    if (bias != nullptr && *bias != "none") {
      problem("bias",
              fmt::format("none was expected, got {}: biases are not trained here.", bias->dump()));
    }
    read_init();
    for (const auto& [key, value] : json_.items()) {
      if (known_.contains(key) || kIgnored.contains(key) || is_neutral(value)) continue;
      problem(key, fmt::format("nothing was expected here, got {}: this option is not supported.",
                               value.dump()));
    }
    check_lora_config(config, where_, problems_);
    return config;
  }

 private:
  void problem(const std::string& key, std::string what) {
    problems_.add(fmt::format("{}: {}", where_, key), std::move(what));
  }

  /// Null where absent or null.
  const Json* find(const std::string& key) {
    known_.insert(key);
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }

  template <class T>
  T take(const std::string& key, T missing, bool (Json::*is)() const noexcept, const char* what) {
    const Json* value = find(key);
    if (value == nullptr) return missing;
    if ((value->*is)()) return value->get<T>();
    problem(key, fmt::format("{} was expected, got {}.", what, value->dump()));
    return missing;
  }

  std::string text(const std::string& key) {
    return take<std::string>(key, "", &Json::is_string, "a text");
  }

  template <class T>
  std::vector<T> list(const std::string& key, bool (Json::*is)() const noexcept, const char* what) {
    const Json* value = find(key);
    if (value == nullptr) return {};
    const bool good =
        value->is_array() &&
        std::all_of(value->begin(), value->end(), [&](const Json& one) { return (one.*is)(); });
    if (good) return value->get<std::vector<T>>();
    problem(key, fmt::format("a list of {} was expected, got {}.", what, value->dump()));
    return {};
  }

  void read_targets(LoraConfig& config) {
    const Json* targets = find("target_modules");
    if (targets != nullptr && targets->is_string()) {
      const auto pattern = targets->get<std::string>();
      if (pattern == "all-linear") {
        config.target_modules = {pattern};
      } else {
        config.target_pattern = pattern;
      }
    } else {
      config.target_modules = list<std::string>("target_modules", &Json::is_string, "texts");
    }
    const Json* layers = find("layers_to_transform");
    if (layers != nullptr && layers->is_number_integer()) {
      config.layers_to_transform = {layers->get<int64_t>()};
    } else {
      config.layers_to_transform =
          list<int64_t>("layers_to_transform", &Json::is_number_integer, "integers");
    }
  }

  void read_task(LoraConfig& config) {
    const auto name = text("task_type");
    if (name.empty()) return;
    for (const auto& [known, task] : kTasks) {
      if (name == known) {
        config.task = task;
        return;
      }
    }
    problem("task_type",
            fmt::format("CAUSAL_LM, SEQ_CLS or TOKEN_CLS was expected, got '{}'.", name));
  }

  void read_init() {
    const Json* init = find("init_lora_weights");
    if (init == nullptr || init->is_boolean()) return;
    if (init->is_string() && kPlainInits.contains(init->get<std::string>())) return;
    problem("init_lora_weights",
            fmt::format("true, false, gaussian, orthogonal or eva was expected, got {}: that start "
                        "changes the base model too.",
                        init->dump()));
  }

  const Json& json_;
  std::string where_;
  Problems& problems_;
  std::set<std::string> known_;
};

Json number(double value) {
  const bool whole = std::floor(value) == value && std::abs(value) < 1e15;
  return whole ? Json(static_cast<int64_t>(value)) : Json(value);
}

template <class T>
Json list_or_null(const std::vector<T>& list) {
  return list.empty() ? Json(nullptr) : Json(list);
}

}  // namespace

const char* task_name(ModelTask task) {
  return std::find_if(std::begin(kTasks), std::end(kTasks),
                      [&](const TaskName& one) { return one.task == task; })
      ->name;
}

LoraConfig load_lora_config(const fs::path& folder) {
  const auto path = folder / kAdapterConfig;
  const Json json = parse_json(read_file(path), path.string());
  if (!json.is_object()) throw UserError(path.string(), "a JSON object was expected.");
  Problems problems;
  const auto config = Reader(json, path.string(), problems).read();
  problems.throw_if_any();
  return config;
}

Json adapter_config_json(const LoraConfig& config, const DecoderConfig& model) {
  const Json none = nullptr;
  const Json empty = Json::object();
  const Json targets =
      config.target_pattern.empty() ? Json(config.target_modules) : Json(config.target_pattern);
  return {{"alora_invocation_tokens", none},
          {"alpha_pattern", empty},
          {"arrow_config", none},
          {"auto_mapping", none},
          {"base_model_name_or_path", config.base_model},
          {"bias", "none"},
          {"corda_config", none},
          {"ensure_weight_tying", config.ensure_weight_tying},
          {"eva_config", none},
          {"exclude_modules", none},
          {"fan_in_fan_out", model.row->transposed},
          {"inference_mode", true},
          {"init_lora_weights", true},
          {"kasa_config", none},
          {"layer_replication", none},
          {"layers_pattern", none},
          {"layers_to_transform", list_or_null(config.layers_to_transform)},
          {"loftq_config", empty},
          {"lora_alpha", number(config.alpha)},
          {"lora_bias", false},
          {"lora_dropout", config.dropout},
          {"lora_ga_config", none},
          {"megatron_config", none},
          {"megatron_core", "megatron.core"},
          {"modules_to_save", list_or_null(config.modules_to_save)},
          {"monteclora_config", none},
          {"peft_type", "LORA"},
          {"peft_version", kPeftVersion},
          {"qalora_group_size", 16},
          {"r", config.r},
          {"rank_pattern", empty},
          {"revision", none},
          {"target_modules", targets},
          {"target_parameters", none},
          {"task_type", task_name(config.task)},
          {"trainable_token_indices", none},
          {"use_bdlora", none},
          {"use_dora", config.dora},
          {"use_qalora", false},
          {"use_rslora", config.rslora},
          {"velora_config", none}};
}

}  // namespace rlhf
