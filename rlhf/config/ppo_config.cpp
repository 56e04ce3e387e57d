#include "rlhf/config/ppo_config.h"

#include <algorithm>

#include "rlhf/config/command.h"
#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

constexpr MethodTraits kPpo = {.name = "ppo", .label_smoothing_hint = "remove the key."};

void declare_ppo(OptionSet& set, PpoOptions& options) {
  set.group("PPO");
  set.add("num_ppo_epochs", options.num_ppo_epochs, "How often each rollout is trained on.")
      .at_least(1);
  set.add("num_mini_batches", options.num_mini_batches, "Optimizer steps of such a pass.")
      .at_least(1);
  set.add("total_episodes", options.total_episodes,
          "Prompts of the whole run, in place of max_steps and num_train_epochs.")
      .at_least(1);
  set.add("cliprange", options.cliprange, "Bound of the clipped ratio, 1 ± ε.")
      .at_least(0)
      .written("ε");
  set.add("gamma", options.gamma, "Discount.").between(0, 1).written("γ");
  set.add("lam", options.lam, "Of generalised advantage estimation (arXiv 1506.02438).")
      .between(0, 1)
      .written("λ");
}

void declare_kl(OptionSet& set, PpoOptions& options) {
  set.add("kl_coef", options.kl_coef,
          "Weight of the KL that is taken off each token's reward; 0 keeps no reference.")
      .at_least(0)
      .written("β");
  set.add("use_kl_loss", options.use_kl_loss,
          "The KL stands in the policy's loss, a mean over tokens, and not in the reward; with "
          "kl_estimator k2 (gradient of the KL itself) or k3 (of the KL the other way round).");
  set.add("kl_estimator", options.kl_estimator,
          "k1: log-ratio; k2: half its square; k3: unbiased and never negative "
          "(joschu.net/blog/kl-approx.html); k1 in the reward alone.");
  set.add("kl_target", options.kl_target,
          "KL of a completion that an adaptive kl_coef steers to (arXiv 1909.08593); null: fixed.")
      .above(0);
  set.add("kl_horizon", options.kl_horizon, "Completions over which it corrects.").above(0);
}

void declare_scores(OptionSet& set, PpoOptions& options) {
  set.add("missing_eos_penalty", options.missing_eos_penalty,
          "Taken off the score of completions that no stop ended; null: nothing.")
      .above(0);
  set.add("normalize_scores", options.normalize_scores,
          "Scores of the reward model to mean 0 and deviation 1 of its training answers "
          "(reward_mean and reward_std of its folder).");
  set.add("reward_clip_range", options.reward_clip_range,
          "Scores are clipped to these two bounds; null: not.");
  set.add("whiten_rewards", options.whiten_rewards,
          "Divide token rewards by their deviation over the rollout.");
}

void declare_critic(OptionSet& set, PpoOptions& options) {
  set.group("Critic");
  set.add(
      "value_model_name_or_path", options.value_model_name_or_path,
      "Folder that the critic starts from: a critic, a reward model, or a language model, which "
      "gets a new score head; null: the reward model's, or else (or with reward_model_reencode) "
      "the policy's.");
  set.add("vf_coef", options.vf_coef, "Weight of the critic's loss.").at_least(0);
  set.add("cliprange_value", options.cliprange_value,
          "Bound of a value's move in a rollout's training; 0: none.")
      .at_least(0);
  set.add("critic_learning_rate", options.critic_learning_rate, "null: learning_rate.").at_least(0);
  set.add("critic_warmup", options.critic_warmup,
          "Steps at the run's start in which the critic alone learns.")
      .at_least(0);
}

void declare_inert(OptionSet& set) {
  constexpr auto kAccepted = InertKey::Status::accepted;
  set.add_inert({kAccepted, "local_rollout_forward_batch_size", 64,
                 "rollouts are cut by tokens (max_tokens_per_microbatch, rollout_rows)."});
  set.add_inert({kAccepted, "num_sample_generations", 10,
                 "log_completions shows samples, completions.jsonl keeps all."});
  set.add_inert({InertKey::Status::refused, "stop_token", nullptr,
                 "remove it; the model's end tokens stop a completion, and stop lists texts."});
  set.add_inert({InertKey::Status::refused, "stop_token_id", nullptr,
                 "remove it; the model's end tokens stop a completion, and stop lists texts."});
  set.add_inert({InertKey::Status::refused, "sft_model_path", "EleutherAI/pythia-160m",
                 "name the model that PPO starts from as model_name_or_path."});
  for (const char* computed : {"world_size", "num_total_batches", "micro_batch_size", "batch_size",
                               "local_batch_size", "mini_batch_size", "local_mini_batch_size"}) {
    set.add_inert({kAccepted, computed, nullptr, "TRL computes it; it is no option."});
  }
}

std::string nearest_divisor(int64_t number, int64_t wanted) {
  int64_t divisor = std::clamp<int64_t>(wanted, 1, number);
  while (number % divisor != 0) --divisor;
  return fmt::format("set it to {}, or change the completions of a rollout.", divisor);
}

void check_batches(const PpoConfig& config, Problems& problems) {
  const int64_t drawn = completions_per_step(config.training);
  const int64_t cuts = config.ppo.num_mini_batches;
  const int64_t generations = config.ppo.rollout.num_generations;
  if (drawn % cuts != 0) {
    problems.add("num_mini_batches",
                 fmt::format("a divisor of the {} completions of a rollout "
                             "(per_device_train_batch_size × gradient_accumulation_steps) was "
                             "expected, got {}.",
                             drawn, cuts),
                 nearest_divisor(drawn, cuts));
  }
  if (drawn % generations != 0) {
    problems.add("num_generations",
                 fmt::format("a divisor of the {} completions of a rollout was expected, got {}.",
                             drawn, generations),
                 nearest_divisor(drawn, generations));
  }
  if (config.ppo.rollout.dynamic_sampling && generations < 2) {
    problems.add("dynamic_sampling",
                 "it drops prompts whose completions have equal rewards: num_generations of at "
                 "least 2 was expected, got 1.",
                 "remove the key, or raise num_generations.");
  }
  // Beyond it one rollout could turn the coefficient's sign (math/adaptive_kl.h).
  if (config.ppo.kl_target && 0.2 * static_cast<double>(drawn) >= config.ppo.kl_horizon) {
    problems.add("kl_horizon",
                 fmt::format("above a fifth of the {} completions of a rollout was expected, got "
                             "{}.",
                             drawn, config.ppo.kl_horizon),
                 "raise it: the coefficient follows the KL more slowly then.");
  }
  if (config.ppo.critic_learning_rate && config.training.learning_rate == 0) {
    problems.add("critic_learning_rate", "it follows the schedule of learning_rate, which is 0.",
                 "set critic_warmup to train the critic alone.");
  }
  if (config.ppo.total_episodes && config.training.max_steps > 0)
    problems.add("total_episodes", "max_steps says how long the run is.", "keep one of the two.");
}

void check_terms(const PpoOptions& ppo, Problems& problems) {
  const auto needs_kl = [&](bool set, const char* key) {
    if (set && ppo.kl_coef == 0)
      problems.add(key, "kl_coef is 0: there is no KL term.", "remove the key.");
  };
  const PpoOptions unset;
  needs_kl(ppo.kl_estimator != unset.kl_estimator, "kl_estimator");
  needs_kl(ppo.kl_target.has_value(), "kl_target");
  needs_kl(ppo.use_kl_loss, "use_kl_loss");
  // Its gradient is the score, whose mean is 0 (losses/policy_loss.h).
  if (ppo.use_kl_loss && ppo.kl_coef > 0 && ppo.kl_estimator == KlEstimator::k1) {
    problems.add(
        "kl_estimator",
        "k2 or k3 was expected with use_kl_loss, got k1, whose gradient is noise around 0.",
        "set kl_estimator: k2, which has the gradient of the KL itself.");
  }
  if (!ppo.kl_target && ppo.kl_horizon != unset.kl_horizon)
    problems.add("kl_horizon", "kl_target is null: kl_coef is fixed.", "remove the key.");
  validate_clip_range(ppo.reward_clip_range, problems);
  if (ppo.normalize_scores &&
      (!ppo.rollout.reward_model_name_or_path || ppo.rollout.reward_funcs)) {
    problems.add("normalize_scores", "a reward model as the only judge was expected.",
                 "remove the key, or reward_funcs.");
  }
}

}  // namespace

std::optional<std::pair<double, double>> PpoOptions::clip_range() const {
  if (!reward_clip_range) return std::nullopt;
  return std::pair(reward_clip_range->at(0), reward_clip_range->at(1));
}

void declare(OptionSet& set, PpoOptions& options) {
  declare_ppo(set, options);
  declare_kl(set, options);
  declare_scores(set, options);
  declare_critic(set, options);
  declare_inert(set);
  declare_rollouts(set, options.rollout,
                   {.max_completion_length = "response_length",
                    .reward_model_name_or_path = "reward_model_path"});
}

void declare(OptionSet& set, PpoConfig& config) {
  declare_command(set, config, &PpoConfig::ppo, kPpo);
}

void resolve(PpoConfig& config, std::vector<std::string>* notes) {
  resolve_common(config, notes);
  note_sampler(config.ppo.rollout, notes);
  // false by default: nothing to say where there is no adapter.
  if (config.lora.use_peft) note_dropout(config.lora, config.ppo.rollout.disable_dropout, notes);
  follow_eval_reward(config.training);
}

void validate(const PpoConfig& config, Problems& problems) {
  const PpoOptions& ppo = config.ppo;
  MethodTraits traits = kPpo;
  traits.reads_rows = !ppo.rollout.replay_completions;
  validate_common(config, traits, problems);
  check_batches(config, problems);
  validate_judges(ppo.rollout, config, problems);
  validate(ppo.rollout.reference, config.lora,
           ppo.kl_coef == 0 ? "kl_coef is 0: there is no reference." : "", problems);
  check_terms(ppo, problems);
}

PpoConfig read_ppo_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<PpoConfig>(args, notes);
}

std::string ppo_help() {
  return config_help<PpoConfig>(
      "ppo", "Learns from rewards of its own samples, with a critic that says what to expect.");
}

std::string resolved_yaml(const PpoConfig& config) { return config_yaml(config); }
std::string resolved_table(const PpoConfig& config) { return config_table(config); }

}  // namespace rlhf
