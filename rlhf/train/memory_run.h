// A run's plan of memory from its configuration and the config.json files that it names; what each
// switch would save; and the check against the machine before anything is written.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/config/dpo_config.h"
#include "rlhf/config/grpo_config.h"
#include "rlhf/config/kto_config.h"
#include "rlhf/config/ppo_config.h"
#include "rlhf/config/prm_config.h"
#include "rlhf/config/reward_config.h"
#include "rlhf/config/rloo_config.h"
#include "rlhf/config/sft_config.h"
#include "rlhf/train/machine_memory.h"
#include "rlhf/train/memory_plan.h"

namespace rlhf {

/// What of a run decides its memory: the same for every method.
struct RunMemory {
  CommonConfig common;
  ModelTask task = ModelTask::language_model;
  int64_t labels = 1;
  HeadUse head = HeadUse::supervised;
  bool has_reference = false;
  RefModelOptions reference;
  bool fixed_reference = false;  ///< it can be tabulated before the first step (dpo, kto)
  std::optional<RolloutOptions> rollout = std::nullopt;
  std::optional<std::string> critic = std::nullopt;  ///< the folder it starts from
  int64_t longest_row = 0;     ///< tokens of the longest row that goes through the model at once
  int64_t members = 1;         ///< texts of a row that max_length limits: 2 of a pair
  int64_t longest_prompt = 0;  ///< of it, with `rollout`
  int64_t rows = 0;            ///< of a step
  int64_t step_tokens = 0;     ///< of the largest step; 0: rows of the longest
  bool replays = false;        ///< recorded completions: nothing is drawn
  double scored_share = 1.0;   ///< of a micro-batch's tokens, the most that reach the head
  int64_t data_bytes = 0;      ///< of encoded rows
};

/// From a resolved configuration alone. Rows are taken to be as long as the limits let them be: a
/// pair as long as two rows, a prompt without max_prompt_length 512 tokens.
RunMemory run_memory(const SftConfig& config);
RunMemory run_memory(const DpoConfig& config);
RunMemory run_memory(const KtoConfig& config);
RunMemory run_memory(const RewardConfig& config);
RunMemory run_memory(const PrmConfig& config);
RunMemory run_memory(const GrpoConfig& config);
RunMemory run_memory(const RlooConfig& config);
RunMemory run_memory(const PpoConfig& config);

/// Replaces what was taken for granted by what the encoded rows are: `longest`, the most tokens that
/// go through the model at once, and the lengths of all rows.
void fit_rows(RunMemory& run, int64_t longest, const std::vector<int64_t>& lengths);

/// The folder PPO's critic starts from.
std::string critic_folder(const PpoConfig& config);

/// Reads the config.json of every model of the run. UserError with what is wrong with them. How
/// steps are cut (`size`, `critic_size`) is a function of models, method and rows, not of the
/// machine.
MemoryRequest memory_request(const RunMemory& run);

/// A switch that is not set, and the bytes that it would take off the peak.
struct MemorySaving {
  std::string set;  ///< `gradient_checkpointing: true`
  int64_t bytes = 0;
};
/// Those that apply and save something, the largest first.
std::vector<MemorySaving> memory_savings(const RunMemory& run);

/// Before any weight is read: UserError with what would help where even rows of one token, with
/// nothing drawn, would take more than the machine has left. Nothing where a config.json cannot be
/// read: loading the model says why.
void check_least_memory(const RunMemory& run, bool on_cpu,
                        const MachineMemory& machine = machine_memory());

/// UserError with what would help where the plan, less its stated error (kPlanError), asks for more
/// than the machine has left for this process, whose models are loaded already; log_info of the
/// planned peak otherwise. Nothing on other devices than the CPU.
void check_memory(const RunMemory& run, bool on_cpu,
                  const MachineMemory& machine = machine_memory());

/// 1.50 GiB, or 12.3 MiB.
std::string bytes_text(int64_t bytes);

}  // namespace rlhf
