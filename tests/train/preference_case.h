// Runs of the preference trainers on the tiny models of tests/fixtures/train.
#pragma once

#include <string>

#include "rlhf/train/dpo.h"
#include "rlhf/train/kto.h"
#include "rlhf/train/prm.h"
#include "rlhf/train/reward.h"
#include "sft_case.h"

namespace rlhf::testing {

inline fs::path preference() { return fixtures() / "preference"; }

inline TrainResult train(const std::string& command, const Arguments& arguments,
                         const TrainHooks& hooks = {}) {
  if (command == "dpo") return train_dpo(read_dpo_config(arguments, nullptr), hooks);
  if (command == "kto") return train_kto(read_kto_config(arguments, nullptr), hooks);
  if (command == "reward") return train_reward(read_reward_config(arguments, nullptr), hooks);
  if (command == "prm") return train_prm(read_prm_config(arguments, nullptr), hooks);
  return train_sft(read_sft_config(arguments, nullptr), hooks);
}

}  // namespace rlhf::testing
