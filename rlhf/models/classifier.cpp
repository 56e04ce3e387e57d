#include "rlhf/models/classifier.h"

#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/core/json_text.h"
#include "rlhf/models/config_reader.h"

namespace rlhf {
namespace {

constexpr const char* kMean = "reward_mean";
constexpr const char* kStd = "reward_std";

const char* description(ModelTask task) {
  switch (task) {
    case ModelTask::language_model:
      return "a language model";
    case ModelTask::sequence_classification:
      return "a reward model (sequence classification)";
    case ModelTask::token_classification:
      return "a process reward model (token classification)";
  }
  return "";
}

bool has_score_bias(const Json& json, ModelTask task) {
  const auto key = json.find("token_classification_bias");
  return task == ModelTask::token_classification && (key == json.end() || *key != false);
}

}  // namespace

std::string classifier_hint(ModelTask task) {
  std::string list;
  for (const auto& row : architectures()) {
    if (*row.class_for(task) != '\0')
      list += fmt::format("{}{}", list.empty() ? "" : ", ", row.model_type);
  }
  return fmt::format("transformers has such a class for {}.", list);
}

void set_task(Json& json, DecoderConfig& config, ModelTask task, int64_t labels,
              const std::string& where) {
  if (config.task == task) {
    if (!config.is_classifier() || config.labels == labels) return;
    throw UserError(fmt::format("{}: num_labels", where),
                    fmt::format("{} was expected, got {}.", labels, config.labels),
                    "a head for another number of labels cannot be used: start from the language "
                    "model's folder.");
  }
  const auto& row = *config.row;
  if (config.is_classifier()) {
    throw UserError(fmt::format("{}: architectures", where),
                    fmt::format("{} was expected, got {}, which is {}.", description(task),
                                row.class_for(config.task), description(config.task)));
  }
  const std::string name = row.class_for(task);
  if (name.empty()) {
    throw UserError(fmt::format("{}: model_type", where),
                    fmt::format("a family that can be {} was expected, got {}.", description(task),
                                row.model_type),
                    classifier_hint(task));
  }
  json["architectures"] = Json::array({name});
  json["num_labels"] = labels;
  json["id2label"] = Json::object();
  json["label2id"] = Json::object();
  for (int64_t label = 0; label < labels; ++label) {
    const auto text = fmt::format("LABEL_{}", label);
    json["id2label"][fmt::format("{}", label)] = text;
    json["label2id"][text] = label;
  }
  config.task = task;
  config.labels = labels;
  config.score_bias = has_score_bias(json, task);
}

void set_reward_statistics(Json& config, const RewardStatistics& statistics) {
  config[kMean] = statistics.mean;
  config[kStd] = statistics.std;
}

std::optional<RewardStatistics> reward_statistics(const Json& config, const std::string& where) {
  Problems problems;
  const ConfigReader reader(config, where, problems);
  if (!reader.has(kMean) && !reader.has(kStd)) return std::nullopt;
  constexpr double kMost = 1e30;
  constexpr double kLeast = 1e-30;
  const RewardStatistics found{.mean = reader.number(kMean, std::nullopt, -kMost, kMost),
                               .std = reader.number(kStd, std::nullopt, kLeast, kMost)};
  problems.throw_if_any();
  return found;
}

void save_classifier_keys(const Json& config, const fs::path& adapter_folder) {
  Json keys = Json::object();
  for (const char* key : {kPadKey, kMean, kStd}) {
    if (const auto value = config.find(key); value != config.end() && !value->is_null())
      keys[key] = *value;
  }
  write_file(adapter_folder / kClassifierConfig, keys.dump(2) + "\n");
}

Json read_classifier_keys(const fs::path& adapter_folder) {
  const fs::path file = adapter_folder / kClassifierConfig;
  if (!fs::exists(file)) return Json::object();
  Json keys = parse_json(read_file(file), file.string());
  if (!keys.is_object()) throw UserError(file.string(), "a JSON object was expected.");
  if (const auto pad = keys.find(kPadKey); pad != keys.end() && !pad->is_number_integer()) {
    throw UserError(fmt::format("{}: {}", file.string(), kPadKey),
                    fmt::format("an integer was expected, got {}.", pad->dump()));
  }
  reward_statistics(keys, file.string());
  return keys;
}

std::optional<RewardStatistics> load_reward_statistics(const fs::path& folder) {
  if (fs::exists(folder / kClassifierConfig))
    return reward_statistics(read_classifier_keys(folder), (folder / kClassifierConfig).string());
  const fs::path file = folder / "config.json";
  if (!fs::exists(file)) return std::nullopt;
  const Json config = parse_json(read_file(file), file.string());
  if (!config.is_object()) throw UserError(file.string(), "a JSON object was expected.");
  return reward_statistics(config, file.string());
}

}  // namespace rlhf
