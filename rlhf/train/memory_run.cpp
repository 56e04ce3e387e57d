#include "rlhf/train/memory_run.h"

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/core/json_text.h"
#include "rlhf/core/log.h"
#include "rlhf/models/classifier.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/reference.h"
#include "rlhf/train/rollout_maker.h"
#include "rlhf/train/run.h"

namespace rlhf {
namespace {

constexpr int64_t kAssumedLength = 1024;  // of a row without max_length
constexpr int64_t kAssumedPrompt = 512;
constexpr auto kLongest = static_cast<int64_t>(kMostLength);  // taken for longer ones
constexpr int64_t kJudgeElement = 4;  // a judge that is a whole model is held in fp32

int64_t length_of(const std::optional<int64_t>& limit, int64_t assumed = kAssumedLength) {
  return std::min(limit.value_or(assumed), kLongest);
}

RunMemory common_memory(const CommonConfig& config) {
  RunMemory run;
  run.common = config;
  run.rows =
      config.training.per_device_train_batch_size * config.training.gradient_accumulation_steps;
  return run;
}

RunMemory rollout_memory(const CommonConfig& config, const RolloutOptions& rollout) {
  RunMemory run = common_memory(config);
  run.head = HeadUse::logprobs;
  run.reference = rollout.reference;
  run.rollout = rollout;
  run.replays = rollout.replay_completions.has_value();
  run.longest_prompt = length_of(rollout.max_prompt_length, kAssumedPrompt);
  run.longest_row = run.longest_prompt + length_of(rollout.max_completion_length);
  return run;
}

struct Folder {
  DecoderConfig config;
  int64_t stored = 4;
};

/// config.json of a model folder, as the model of a task.
Folder read_folder(const fs::path& folder, ModelTask task, int64_t labels) {
  const fs::path file = folder / "config.json";
  Json json = parse_json(read_file(file), file.string());
  Problems problems;
  Folder read{.config = read_config(json, file.string(), problems)};
  problems.throw_if_any();
  if (task != ModelTask::language_model) set_task(json, read.config, task, labels, file.string());
  const Json dtype =
      json.contains("torch_dtype") ? json["torch_dtype"] : json.value("dtype", Json());
  if (dtype == "bfloat16" || dtype == "float16") read.stored = 2;
  return read;
}

LoraConfig lora_config(const LoraOptions& options, ModelTask task) {
  LoraConfig made;
  made.r = options.lora_r;
  made.dora = options.use_dora;
  made.task = task;
  made.target_pattern = target_pattern(options);
  if (made.target_pattern.empty() && options.lora_target_modules)
    made.target_modules = *options.lora_target_modules;
  made.layers_to_transform = options.lora_layers_to_transform.value_or(std::vector<int64_t>{});
  made.modules_to_save = options.lora_modules_to_save.value_or(std::vector<std::string>{});
  return made;
}

int64_t element_of(const CommonConfig& config) {
  // `auto` is measured in a run; fp32 is the larger answer.
  const bool narrow = config.model.dtype == Dtype::bfloat16 || config.training.bf16.value_or(false);
  return narrow ? 2 : 4;
}

/// Whose weights a role has: the folder's own, or those of its adapter's base.
fs::path weights_folder(const fs::path& named) {
  return is_adapter_folder(named) ? base_of_adapter(named) : named;
}

/// A trained model: the policy or the critic.
HeldModel trained_role(const CommonConfig& common, const fs::path& named, ModelTask task,
                       int64_t labels) {
  const LoraOptions& lora = common.lora;
  const bool adapter_folder = is_adapter_folder(named);
  Folder read = read_folder(weights_folder(named), task, labels);
  const int64_t element = element_of(common);
  if (!lora.use_peft && !adapter_folder)
    return {.memory = trained_model(std::move(read.config), element), .stored = read.stored};
  LoraConfig config = lora_config(lora, task);
  if (adapter_folder) {
    config = load_lora_config(named);
  } else if (lora.adapter_name_or_path && task == ModelTask::language_model) {
    config = load_lora_config(*lora.adapter_name_or_path);
  }
  return {.memory = adapted_model(std::move(read.config), element, std::move(config)),
          .stored = read.stored};
}

bool same_folder(const fs::path& a, const fs::path& b) {
  std::error_code gone;
  return fs::equivalent(a, b, gone);
}

fs::path base_folder(const CommonConfig& common) {
  return weights_folder(*common.model.model_name_or_path);
}

/// A judge: a full model in fp32, or an adapter on a base in the policy's type, which is the policy's
/// own where that is frozen and not random.
HeldModel judge_role(const CommonConfig& common, bool adapted, const fs::path& named) {
  if (!is_adapter_folder(named)) {
    Folder read = read_folder(named, ModelTask::language_model, 1);
    return {.memory = frozen_model(std::move(read.config), kJudgeElement), .stored = read.stored};
  }
  const LoraConfig lora = load_lora_config(named);
  const fs::path base = base_of_adapter(named);
  Folder read = read_folder(base, lora.task, 1);
  HeldModel held{.memory = adapted_model(std::move(read.config), element_of(common), lora),
                 .stored = read.stored,
                 .shares_base = adapted && !common.model.from_scratch &&
                                same_folder(base, base_folder(common))};
  return held;
}

std::optional<HeldModel> reference_role(const RunMemory& run, bool adapted) {
  if (!run.has_reference) return std::nullopt;
  if (run.fixed_reference && precomputes_reference(run.reference, adapted)) return std::nullopt;
  const auto& named = run.reference.ref_model_name_or_path;
  const bool base = named && same_folder(*named, base_folder(run.common));
  if (adapted && !run.reference.sync_ref_model && (!named || base)) return std::nullopt;
  Folder read =
      read_folder(named ? fs::path(*named) : base_folder(run.common), ModelTask::language_model, 1);
  HeldModel held{.memory = frozen_model(std::move(read.config), element_of(run.common)),
                 .stored = read.stored};
  held.comes_and_goes = !run.reference.sync_ref_model && !run.common.model.from_scratch &&
                        held.memory.parameters * held.stored >= kLeastRead;
  return held;
}

bool is_frozen(const HeldModel& held) { return held.memory.trained < held.memory.parameters; }

/// As Critic loads it: with an adapter it stands on the policy or the reward model, whole or an
/// adapter's base, where that is frozen and has the weights of the critic's folder in its type.
HeldModel critic_role(const RunMemory& run, const MemoryRequest& request) {
  fs::path folder = *run.critic;
  if (is_adapter_folder(folder) && load_lora_config(folder).task == ModelTask::language_model)
    folder = base_of_adapter(folder);
  HeldModel critic = trained_role(run.common, folder, ModelTask::sequence_classification, 1);
  const auto stands_on = [&](const HeldModel& held, const fs::path& named) {
    return is_frozen(critic) && is_frozen(held) && held.memory.element == critic.memory.element &&
           same_folder(weights_folder(folder), weights_folder(named));
  };
  const fs::path policy = *run.common.model.model_name_or_path;
  const auto& reward = run.rollout->reward_model_name_or_path;
  // Of a policy from scratch the weights are no folder's, nor are those of a critic from there.
  const bool random = run.common.model.from_scratch;
  const bool on_policy = !random && stands_on(request.policy, policy);
  const bool on_reward = reward && stands_on(*request.judge, *reward);
  critic.shares_base = on_policy || (on_reward && !(random && folder == policy));
  return critic;
}

int64_t text_bytes(const CommonConfig& common) {
  const fs::path folder = text_folder(
      common.tokenizer.tokenizer_name_or_path.value_or(*common.model.model_name_or_path));
  constexpr int64_t kPacked = 5;  // a packed file is about a fifth
  std::error_code gone;
  const auto plain = fs::file_size(folder / "tokenizer.json", gone);
  if (!gone) return static_cast<int64_t>(plain);
  const auto packed = fs::file_size(folder / "tokenizer.json.gz", gone);
  return gone ? 0 : kPacked * static_cast<int64_t>(packed);
}

int64_t batch_tokens(const RunMemory& run) {
  const TrainingOptions& training = run.common.training;
  return std::min(kLongest, run.rollout ? microbatch_tokens(training, *run.rollout)
                                        : microbatch_tokens(training));
}

/// Tokens of the largest step. Completions of a prompt share it.
int64_t step_tokens(const RunMemory& run) {
  int64_t step = run.step_tokens > 0 ? run.step_tokens : run.rows * run.longest_row;
  if (run.rollout && !run.replays) {
    const int64_t group = run.rollout->num_generations;
    const int64_t prompts = (run.rows + group - 1) / group;
    step = std::min(step, prompts * run.longest_prompt +
                              run.rows * length_of(run.rollout->max_completion_length));
  }
  return std::max(step, std::max<int64_t>(1, run.longest_row));
}

/// An adapter's gradients are small: its rows stay in order.
MicrobatchSize size_of(const RunMemory& run, const MemoryRequest& request, const ModelMemory& model,
                       HeadUse head) {
  const int64_t tokens = batch_tokens(run);
  if (model.trained < model.parameters) return {.tokens = tokens};
  return {.tokens = tokens,
          .most_first = run.common.training.max_tokens_per_microbatch > 0 ? tokens : 2 * tokens,
          .head_start = head_start(request, model, head, tokens)};
}

void take_reference(const RunMemory& run, bool adapted, MemoryRequest& request) {
  request.reference = reference_role(run, adapted);
  const bool table =
      run.has_reference && run.fixed_reference && precomputes_reference(run.reference, adapted);
  if (const auto& named = run.reference.ref_model_name_or_path; table && named) {
    Folder read = read_folder(*named, ModelTask::language_model, 1);
    request.table_reference =
        HeldModel{.memory = frozen_model(std::move(read.config), element_of(run.common)),
                  .stored = read.stored};
  }
  // A rollout's reference is asked before the update, in a phase of its own.
  request.asks_reference = run.has_reference && run.fixed_reference && !table;
}

}  // namespace

RunMemory run_memory(const SftConfig& config) {
  RunMemory run = common_memory(config);
  run.longest_row = length_of(config.sft.max_length);
  return run;
}

RunMemory run_memory(const DpoConfig& config) {
  RunMemory run = common_memory(config);
  run.head = HeadUse::logprobs;
  run.has_reference = uses_reference(config.dpo);
  run.reference = config.dpo.reference;
  run.fixed_reference = true;
  run.members = 2;
  run.longest_row = run.members * length_of(config.dpo.max_length);
  return run;
}

RunMemory run_memory(const KtoConfig& config) {
  RunMemory run = common_memory(config);
  run.head = HeadUse::logprobs;
  run.has_reference = true;
  run.reference = config.kto.reference;
  run.fixed_reference = true;
  run.longest_row = length_of(config.kto.max_length);
  return run;
}

RunMemory run_memory(const RewardConfig& config) {
  RunMemory run = common_memory(config);
  run.task = ModelTask::sequence_classification;
  run.head = HeadUse::scores;
  run.scored_share = 0.0;  // one row a text
  run.members = 2;
  run.longest_row = run.members * length_of(config.reward.max_length);
  return run;
}

RunMemory run_memory(const PrmConfig& config) {
  RunMemory run = common_memory(config);
  run.task = ModelTask::token_classification;
  run.labels = 2;
  run.head = HeadUse::scores;
  run.scored_share = 0.0;  // one row a step of a text
  run.longest_row = length_of(config.prm.max_length);
  return run;
}

RunMemory run_memory(const GrpoConfig& config) {
  RunMemory run = rollout_memory(config, config.grpo.rollout);
  run.has_reference = config.grpo.loss.beta > 0;
  return run;
}

RunMemory run_memory(const RlooConfig& config) {
  RunMemory run = rollout_memory(config, config.rloo.rollout);
  run.has_reference = config.rloo.beta > 0;
  return run;
}

RunMemory run_memory(const PpoConfig& config) {
  RunMemory run = rollout_memory(config, config.ppo.rollout);
  run.has_reference = config.ppo.kl_coef > 0;
  run.critic = critic_folder(config);
  run.rollout->steps_per_generation = 1;
  run.common.training.per_device_train_batch_size = completions_per_step(config.training);
  run.common.training.gradient_accumulation_steps = 1;
  run.rows = std::max<int64_t>(1, run.rows / config.ppo.num_mini_batches);
  return run;
}

void fit_rows(RunMemory& run, int64_t longest, const std::vector<int64_t>& lengths) {
  constexpr int64_t kTokenBytes = 5;  // an id and a mark
  run.longest_row = std::max<int64_t>(1, longest);
  int64_t most = run.longest_row;
  run.data_bytes = 0;
  for (const int64_t length : lengths) {
    most = std::max(most, length);
    run.data_bytes += length * kTokenBytes;
  }
  run.step_tokens = run.rows * most;
}

std::string critic_folder(const PpoConfig& config) {
  const PpoOptions& ppo = config.ppo;
  // The critic reads the policy's ids: a reward model that is asked in text may have others.
  const bool from_reward =
      ppo.rollout.reward_model_name_or_path && !ppo.rollout.reward_model_reencode;
  const std::string start =
      from_reward ? *ppo.rollout.reward_model_name_or_path : *config.model.model_name_or_path;
  return ppo.value_model_name_or_path.value_or(start);
}

MemoryRequest memory_request(const RunMemory& run) {
  const TrainingOptions& training = run.common.training;
  MemoryRequest request;
  request.text_bytes = text_bytes(run.common);
  request.data_bytes = run.data_bytes;
  request.policy =
      trained_role(run.common, *run.common.model.model_name_or_path, run.task, run.labels);
  request.policy.random = run.common.model.from_scratch;
  const ModelMemory& policy = request.policy.memory;
  const bool adapted = policy.trained < policy.parameters;
  request.head = run.head;
  request.optimizer = optimizer_options(training);
  request.checkpointing = training.gradient_checkpointing;
  request.row_tokens = std::max<int64_t>(1, run.longest_row);
  request.step_tokens = step_tokens(run);
  request.scored_share = run.scored_share;
  request.keep_logits_bytes = kKeepLogitsBytes;
  request.size = size_of(run, request, policy, run.head);
  take_reference(run, adapted, request);
  if (!run.rollout) return request;
  const RolloutOptions& rollout = *run.rollout;
  if (const auto& named = rollout.reward_model_name_or_path)
    request.judge = judge_role(run.common, adapted, *named);
  if (const auto& named = rollout.process_reward_model_name_or_path)
    request.step_judge = judge_role(run.common, adapted, *named);
  if (run.critic) {
    request.critic = critic_role(run, request);
    request.critic_size = size_of(run, request, request.critic->memory, HeadUse::scores);
  }
  if (run.replays) return request;
  const int64_t drawn = completions_per_generation(rollout, training);
  request.rollout = {.prompt_tokens = run.longest_prompt,
                     .new_tokens = length_of(rollout.max_completion_length),
                     .prompts = std::max<int64_t>(1, drawn / rollout.num_generations),
                     .generations = rollout.num_generations,
                     .rows = rollout.rollout_rows,
                     .cache_bytes = rollout_cache_bytes(rollout)};
  return request;
}

namespace {

/// Takes `tokens` off the longest row.
void shorten(RunMemory& run, int64_t tokens) {
  run.longest_row -= tokens;
  run.step_tokens = std::min(run.step_tokens, run.rows * run.longest_row);
}

/// A row goes through the model whole: what is left is to make it shorter.
template <class Offer>
void offer_shorter_rows(const RunMemory& run, const Offer& offer) {
  if (!run.rollout) {
    const int64_t half = run.longest_row / run.members / 2;
    offer(fmt::format("max_length: {}", half), half > 0,
          [&](RunMemory& other) { shorten(other, run.members * half); });
    return;
  }
  const int64_t prompt = run.longest_prompt / 2;
  offer(fmt::format("max_prompt_length: {}", prompt), prompt > 0, [&](RunMemory& other) {
    other.longest_prompt -= prompt;
    shorten(other, prompt);
  });
  const int64_t completion = length_of(run.rollout->max_completion_length) / 2;
  offer(fmt::format("max_completion_length: {}", completion), completion > 0,
        [&](RunMemory& other) {
          other.rollout->max_completion_length = completion;
          shorten(other, completion);
        });
}

/// UserError where the machine lacks the memory for `planned` bytes less their stated error. `what`:
/// whom those are for.
void require_memory(const RunMemory& run, int64_t planned, const MachineMemory& machine,
                    const char* what) {
  const auto least = static_cast<int64_t>(static_cast<double>(planned) * (1.0 - kPlanError));
  if (machine.available <= 0 || least - machine.used_here <= machine.available) return;
  std::string hint;
  const auto savings = memory_savings(run);
  for (size_t i = 0; i < std::min<size_t>(3, savings.size()); ++i) {
    hint += fmt::format("{}{} (saves {})", i == 0 ? "set " : " or ", savings[i].set,
                        bytes_text(savings[i].bytes));
  }
  if (!hint.empty()) hint += "; ";
  throw UserError(
      "memory",
      fmt::format("about {} were expected to be free{}, there are {}.",
                  bytes_text(planned - machine.used_here), what, bytes_text(machine.available)),
      hint + "rlhf plan shows all parts and switches.");
}

/// The same run with rows of one token, of which nothing is drawn.
RunMemory least_run(RunMemory run) {
  run.rows = run.longest_row = run.longest_prompt = run.step_tokens = 1;
  run.data_bytes = 0;
  run.replays = true;
  TrainingOptions& training = run.common.training;
  training.max_tokens_per_microbatch = 1;
  return run;
}

}  // namespace

std::vector<MemorySaving> memory_savings(const RunMemory& run) {
  const int64_t now = plan_memory(memory_request(run)).bytes();
  std::vector<MemorySaving> savings;
  const auto offer = [&](std::string set, bool applies, const auto& change) {
    if (!applies) return;
    RunMemory other = run;
    change(other);
    try {
      const int64_t saved = now - plan_memory(memory_request(other)).bytes();
      if (saved > 0) savings.push_back({std::move(set), saved});
    } catch (const UserError&) {
      // A switch that the model has no use for (an architecture without default targets).
    }
  };
  const auto& training = run.common.training;
  const bool adapted = run.common.lora.use_peft;
  const bool adamw = training.optim == OptimizerChoice::adamw_torch ||
                     training.optim == OptimizerChoice::adamw_torch_fused;
  const int64_t limit = batch_tokens(run);
  offer("gradient_checkpointing: true", !training.gradient_checkpointing,
        [](RunMemory& other) { other.common.training.gradient_checkpointing = true; });
  offer("use_peft: true", !adapted, [](RunMemory& other) { other.common.lora.use_peft = true; });
  offer("optim: adamw_8bit", adamw,
        [](RunMemory& other) { other.common.training.optim = OptimizerChoice::adamw_8bit; });
  offer("optim: adafactor", adamw || training.optim == OptimizerChoice::adamw_8bit,
        [](RunMemory& other) { other.common.training.optim = OptimizerChoice::adafactor; });
  offer("optim: sgd", training.optim != OptimizerChoice::sgd, [](RunMemory& other) {
    other.common.training.optim = OptimizerChoice::sgd;
    other.common.training.optim_args.reset();
  });
  offer("dtype: bfloat16", element_of(run.common) == 4,
        [](RunMemory& other) { other.common.model.dtype = Dtype::bfloat16; });
  offer("precompute_ref_log_probs: true",
        run.has_reference && run.fixed_reference && !run.reference.sync_ref_model &&
            !precomputes_reference(run.reference, adapted),
        [](RunMemory& other) { other.reference.precompute_ref_log_probs = true; });
  offer(fmt::format("max_tokens_per_microbatch: {}", limit / 2), limit / 2 >= run.longest_row,
        [&](RunMemory& other) { other.common.training.max_tokens_per_microbatch = limit / 2; });
  if (limit / 2 < run.longest_row && !run.replays) offer_shorter_rows(run, offer);
  if (run.rollout && !run.replays) {
    const double half = run.rollout->rollout_cache_gib / 2;
    offer(fmt::format("rollout_cache_gib: {}", half), true,
          [&](RunMemory& other) { other.rollout->rollout_cache_gib = half; });
  }
  std::stable_sort(savings.begin(), savings.end(),
                   [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
  return savings;
}

void check_least_memory(const RunMemory& run, bool on_cpu, const MachineMemory& machine) {
  if (!on_cpu) return;
  RunMemory least = least_run(run);
  int64_t planned = 0;
  try {
    planned = plan_memory(memory_request(least)).bytes();
    if (run.common.model.dtype == Dtype::automatic) {
      least.common.model.dtype = Dtype::bfloat16;
      planned = std::min(planned, plan_memory(memory_request(least)).bytes());
    }
  } catch (const UserError&) {
    return;
  }
  require_memory(least, planned, machine, " for weights and moments alone");
}

void check_memory(const RunMemory& run, bool on_cpu, const MachineMemory& machine) {
  if (!on_cpu) return;
  const int64_t planned = plan_memory(memory_request(run)).bytes();
  log_info("[memory] a peak of about {} is planned; {} of it are in use, {} are free.",
           bytes_text(planned), bytes_text(machine.used_here), bytes_text(machine.available));
  require_memory(run, planned, machine, "");
}

std::string bytes_text(int64_t bytes) {
  constexpr double kMebibyte = 1048576.0;
  const auto value = static_cast<double>(bytes);
  return value >= kGibibyte ? fmt::format("{:.2f} GiB", value / kGibibyte)
                            : fmt::format("{:.1f} MiB", value / kMebibyte);
}

}  // namespace rlhf
