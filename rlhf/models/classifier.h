// Reward models and process reward models as Hugging Face folders: what config.json says of them.
//
// A reward model is `<Family>ForSequenceClassification` with one label: `score.weight` (1, C), no
// bias; a process reward model is `<Family>ForTokenClassification`: `score` (or `classifier`) with
// weight (labels, C) and bias (labels). transformers reads a row's score at its last id that is not
// `pad_token_id`, wherever padding stands: so that id must be one that no row ends with.
#pragma once

#include <optional>
#include <string>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"
#include "rlhf/models/arch.h"

namespace rlhf {

/// Turns a language model's config.json into a classifier's: `architectures`, `num_labels`,
/// `id2label`, `label2id` (LABEL_0, …), and `config`, which read_config made of it, alike. What is
/// of that task already stays as it is. UserError where the family has no such class, and where the
/// folder is a classifier of another kind or number of labels; `where` names the file.
void set_task(Json& json, DecoderConfig& config, ModelTask task, int64_t labels,
              const std::string& where);

/// Names the families for which transformers has a class of this task.
std::string classifier_hint(ModelTask task);

/// Mean and deviation of a reward model's scores over its training answers.
struct RewardStatistics {
  double mean = 0.0;
  double std = 1.0;  ///< of the population of scores, above 0
};

/// `reward_mean` and `reward_std` of config.json; transformers keeps them as attributes.
void set_reward_statistics(Json& config, const RewardStatistics& statistics);

/// Absent where neither key is there. UserError where one is missing, not finite or `reward_std` is
/// not above 0.
std::optional<RewardStatistics> reward_statistics(const Json& config, const std::string& where);

// An adapter folder has no config.json: what a classifier's would say stands in
// classifier_config.json beside the adapter, under the same keys. PEFT reads adapter_config.json
// and the weights and passes over other files; an unknown key in adapter_config.json would be a
// warning there.
inline constexpr const char* kClassifierConfig = "classifier_config.json";
inline constexpr const char* kPadKey = "pad_token_id";

/// Writes what `config`, the classifier's config.json, has of them.
void save_classifier_keys(const Json& config, const fs::path& adapter_folder);

/// Reads them; an empty object where the file is not there. UserError where a value is none of its
/// kind.
Json read_classifier_keys(const fs::path& adapter_folder);

/// The statistics of a reward model's folder, full or adapter.
std::optional<RewardStatistics> load_reward_statistics(const fs::path& folder);

}  // namespace rlhf
