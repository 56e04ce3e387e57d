// Models that judge completions: a reward model, a process reward model, as full models or as
// adapters.
//
// A full model is read in fp32, whatever the policy's type. An adapter is read in the policy's type,
// on the policy's own base where both have the same: it then adds its own tensors to memory, and
// nothing else.
#pragma once

#include "rlhf/models/folder.h"

namespace rlhf {

/// `policy` may be null. UserError unless the folder holds a reward model (sequence classification,
/// one label).
Model load_reward_model(const fs::path& folder, const Model* policy);

/// The same of a process reward model (token classification, one label or two).
Model load_step_judge(const fs::path& folder, const Model* policy);

}  // namespace rlhf
