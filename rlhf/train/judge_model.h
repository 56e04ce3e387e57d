// Models that judge completions: a reward model, a process reward model, as full models or as
// adapters.
//
// A full model is read in fp32, whatever the policy's type. An adapter is read in the policy's type,
// on the policy's own base where both have the same: it then adds its own tensors to memory, and
// nothing else.
#pragma once

#include <string_view>

#include "rlhf/models/folder.h"

namespace rlhf {

/// `policy` may be null; `key` is the option that named the folder. UserError unless it holds a
/// reward model (sequence classification, one label).
Model load_reward_model(const fs::path& folder, const Model* policy,
                        const char* key = "reward_model_name_or_path");

/// The same of a process reward model (token classification, one label or two).
Model load_step_judge(const fs::path& folder, const Model* policy);

/// A judge that is asked in ids must have the policy's tokenizer, which lies in `policy_text`.
/// UserError naming `key` where it has another; `way_out` is added to the hint.
void check_same_tokenizer(const char* key, const fs::path& judge, const fs::path& policy_text,
                          std::string_view way_out = "");

}  // namespace rlhf
