// Runs of `rlhf ppo` on the tiny model of tests/fixtures/train.
#pragma once

#include "policy_case.h"
#include "rlhf/train/ppo.h"

namespace rlhf::testing {

inline Arguments ppo_arguments(const fs::path& folder, const std::string& run,
                               const Arguments& more) {
  Arguments base = sampling(folder, run, {"--num_generations", "1"});
  return merged(base, more);
}

inline TrainResult train_ppo_with(const Arguments& arguments, const TrainHooks& hooks = {}) {
  return train_ppo(read_ppo_config(arguments, nullptr), hooks);
}

}  // namespace rlhf::testing
