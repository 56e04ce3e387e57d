#include "rlhf/train/judge_model.h"

#include "rlhf/core/error.h"
#include "rlhf/models/adapter.h"
#include "rlhf/text/tokenizer_json.h"
#include "rlhf/train/policy.h"

namespace rlhf {
namespace {

struct Wanted {
  const char* key;  ///< the option that names the folder
  ModelTask task;
  int64_t most_labels;
  const char* what;
  const char* hint;
};

Model load_judge(const fs::path& folder, const Model* policy, const Wanted& wanted) {
  const auto expect = [&](bool right) {
    if (right) return;
    throw UserError(wanted.key,
                    fmt::format("{} was expected, {} is none.", wanted.what, folder.string()),
                    wanted.hint);
  };
  LoadOptions load{.dtype = at::kFloat};
  if (policy != nullptr) load.device = policy->decoder.device();
  if (!is_adapter_folder(folder)) {
    const DecoderConfig config = load_decoder_config(folder);
    expect(config.task == wanted.task && config.labels <= wanted.most_labels);
    return load_model(folder, load);
  }
  expect(load_lora_config(folder).task == wanted.task);
  std::vector<const Model*> held;
  if (policy != nullptr) {
    load.dtype = policy->decoder.dtype();
    held.push_back(policy);
  }
  Model model = load_adapted_model(folder, load, /*explicit_base=*/{}, held);
  expect(model.decoder.config().labels <= wanted.most_labels);
  return model;
}

}  // namespace

Model load_reward_model(const fs::path& folder, const Model* policy, const char* key) {
  return load_judge(folder, policy,
                    {.key = key,
                     .task = ModelTask::sequence_classification,
                     .most_labels = 1,
                     .what = "a reward model's folder (sequence classification, one label)",
                     .hint = "train one with rlhf reward."});
}

Model load_step_judge(const fs::path& folder, const Model* policy) {
  return load_judge(folder, policy,
                    {.key = "process_reward_model_name_or_path",
                     .task = ModelTask::token_classification,
                     .most_labels = 2,
                     .what = "a process reward model's folder (token classification, at most two "
                             "labels)",
                     .hint = "train one with rlhf prm."});
}

void check_same_tokenizer(const char* key, const fs::path& judge, const fs::path& policy_text,
                          std::string_view way_out) {
  if (read_tokenizer_json(text_folder(judge)) == read_tokenizer_json(policy_text)) return;
  throw UserError(
      key,
      fmt::format("a reward model with the policy's tokenizer was expected, {} has another.",
                  judge.string()),
      fmt::format("train the reward model from the same base (rlhf reward, rlhf prm){}.", way_out));
}

}  // namespace rlhf
