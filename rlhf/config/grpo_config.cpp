#include "rlhf/config/grpo_config.h"

#include "rlhf/config/command.h"
#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

constexpr MethodTraits kGrpo = {.name = "grpo", .label_smoothing_hint = "remove the key."};

void declare_loss(OptionSet& set, GrpoOptions& options) {
  PolicyLossOptions& loss = options.loss;
  set.group("GRPO");
  set.add("loss_type", loss.loss_type,
          "What the clipped surrogate is divided by, or another surrogate (rlhf/losses/"
          "policy_loss.h). DeepSeekMath's formula: grpo, beta 0.04, use_bias_correction_kl false.");
  set.add("beta", loss.beta, "Weight of the KL term; 0 keeps no reference.")
      .at_least(0)
      .written("β");
  set.add("epsilon", loss.epsilon, "Bound of the clipped ratio, 1 ± ε.").at_least(0).written("ε");
  set.add("epsilon_high", loss.epsilon_high,
          "Upper bound, 1 + ε_high (DAPO: 0.28); for cispo a cap on the ratio itself; null: "
          "epsilon.")
      .at_least(0)
      .written("ε_high");
  set.add("delta", loss.delta,
          "INTELLECT-2 (arXiv 2505.07291): upper cap of the unclipped ratio; null: none.")
      .above(0)
      .written("δ");
  set.add("importance_sampling_level", loss.importance_sampling_level,
          "token, sequence (GSPO, arXiv 2507.18071), sequence_token, or sequence_sum.");
  set.add("use_bias_correction_kl", loss.use_bias_correction_kl,
          "Multiply the KL term by the importance ratio (DeepSeek-V3.2).");
  set.add("sapo_temperature_pos", loss.sapo_temperature_pos, "Of sapo, A > 0.").above(0);
  set.add("sapo_temperature_neg", loss.sapo_temperature_neg, "Of sapo, A <= 0.").above(0);
  set.add("vespo_k_pos", loss.vespo_k_pos, "Of vespo, A >= 0.").at_least(0);
  set.add("vespo_lambda_pos", loss.vespo_lambda_pos, "Of vespo, A >= 0.").at_least(0);
  set.add("vespo_k_neg", loss.vespo_k_neg, "Of vespo, A < 0.").at_least(0);
  set.add("vespo_lambda_neg", loss.vespo_lambda_neg, "Of vespo, A < 0.").at_least(0);
  set.add("gmpo_clip", loss.gmpo_clip, "Bound of gmpo's log-ratios.").above(0);
  set.add("off_policy_mask_threshold", loss.off_policy_mask_threshold,
          "DeepSeek-V3.2: sequences with A < 0 that the policy has left by more than this teach "
          "nothing; null: none.");
}

void declare_advantages(OptionSet& set, GrpoOptions& options) {
  set.add(
      "advantage_estimator", options.advantage_estimator,
      "grpo: a reward's distance from the group's mean; grpo_passk: only the best completion of "
      "a group learns, from its distance to the second.");
  set.add("scale_rewards", options.scale_rewards,
          "Divide advantages by the deviation of the group, of the batch, or not.")
      .spelling("true", "group")
      .spelling("false", "none");
  set.add("multi_objective_aggregation", options.multi_objective_aggregation,
          "Several rewards: weigh, then normalise, or the other way round (GDPO).");
  set.add("top_entropy_quantile", options.top_entropy_quantile,
          "Learn from this share of tokens, those of highest entropy (arXiv 2506.01939).")
      .between(0, 1)
      .written("ρ");
  set.add("entropy_coef", options.entropy_coef, "Weight of the entropy bonus.").at_least(0);
  set.add("use_adaptive_entropy", options.use_adaptive_entropy,
          "Move the weight by entropy_coef_delta a step, towards entropy_target.");
  set.add("entropy_coef_min", options.entropy_coef_min, "Least weight then.").at_least(0);
  set.add("entropy_coef_max", options.entropy_coef_max, "Largest weight then.").at_least(0);
  set.add("entropy_coef_delta", options.entropy_coef_delta, "Move of a step.").at_least(0);
  set.add("entropy_target", options.entropy_target, "Entropy below which the bonus is on.")
      .at_least(0);
  set.add_inert({InertKey::Status::accepted, "cast_lm_head_to_fp32", false,
                 "log-probabilities are always computed in fp32."});
  set.add_inert({InertKey::Status::refused, "max_tool_calling_iterations", nullptr,
                 "remove it; completions of several turns are not offered."});
  set.add_inert({InertKey::Status::refused, "log_completions_hub_repo", nullptr,
                 "remove it; completions.jsonl in the run folder holds every completion."});
  for (const auto& [name, harmless] : std::initializer_list<std::pair<const char*, Json>>{
           {"vllm_importance_sampling_correction", true},
           {"vllm_importance_sampling_mode", "sequence_mask"},
           {"vllm_importance_sampling_clip_max", 3.0},
           {"vllm_importance_sampling_clip_min", nullptr},
           {"vllm_importance_sampling_cap", nullptr}}) {
    set.add_inert({InertKey::Status::accepted, name, harmless,
                   "sampler and trainer are the same weights: there is nothing to correct."});
  }
}

void check_process(const GrpoOptions& options, Problems& problems) {
  const RolloutOptions& rollout = options.rollout;
  validate_process_judge(rollout, problems);
  if (rollout.process_reward_model_name_or_path &&
      options.multi_objective_aggregation == RewardAggregation::normalize_then_sum) {
    problems.add(
        "multi_objective_aggregation",
        "process_reward_model_name_or_path normalises rewards of steps in its own way, got "
        "normalize_then_sum.",
        "keep one of the two.");
  }
}

void refuse(bool changed, const char* key, std::string_view why, Problems& problems) {
  if (changed) problems.add(key, std::string(why), "remove the key.");
}

/// Options that the chosen loss does not read.
void check_unused(const GrpoOptions& options, Problems& problems) {
  const PolicyLossOptions unset;
  const PolicyLossOptions& loss = options.loss;
  const std::string name = enum_text(loss.loss_type);
  const std::string why = fmt::format("loss_type {} does not use it.", name);
  const bool sapo = loss.loss_type == PolicyLoss::sapo;
  const bool vespo = loss.loss_type == PolicyLoss::vespo;
  refuse(!takes_epsilon(loss.loss_type) && loss.epsilon != unset.epsilon, "epsilon", why, problems);
  refuse(!takes_epsilon(loss.loss_type) && loss.epsilon_high.has_value(), "epsilon_high", why,
         problems);
  refuse(!clips_ratio(loss.loss_type) && loss.delta.has_value(), "delta", why, problems);
  refuse(!sapo && loss.sapo_temperature_pos != unset.sapo_temperature_pos, "sapo_temperature_pos",
         why, problems);
  refuse(!sapo && loss.sapo_temperature_neg != unset.sapo_temperature_neg, "sapo_temperature_neg",
         why, problems);
  refuse(!vespo && loss.vespo_k_pos != unset.vespo_k_pos, "vespo_k_pos", why, problems);
  refuse(!vespo && loss.vespo_lambda_pos != unset.vespo_lambda_pos, "vespo_lambda_pos", why,
         problems);
  refuse(!vespo && loss.vespo_k_neg != unset.vespo_k_neg, "vespo_k_neg", why, problems);
  refuse(!vespo && loss.vespo_lambda_neg != unset.vespo_lambda_neg, "vespo_lambda_neg", why,
         problems);
  refuse(loss.loss_type != PolicyLoss::gmpo && loss.gmpo_clip != unset.gmpo_clip, "gmpo_clip", why,
         problems);
  const bool own_ratio = vespo || loss.loss_type == PolicyLoss::gmpo;
  refuse(own_ratio && loss.importance_sampling_level != unset.importance_sampling_level,
         "importance_sampling_level", why, problems);
  const std::string no_kl = "beta is 0: there is no KL term.";
  refuse(loss.beta == 0 && !loss.use_bias_correction_kl, "use_bias_correction_kl", no_kl, problems);
  const GrpoOptions defaults;
  const std::string fixed = "use_adaptive_entropy is false.";
  const bool adaptive = options.use_adaptive_entropy;
  refuse(!adaptive && options.entropy_coef_min != defaults.entropy_coef_min, "entropy_coef_min",
         fixed, problems);
  refuse(!adaptive && options.entropy_coef_max != defaults.entropy_coef_max, "entropy_coef_max",
         fixed, problems);
  refuse(!adaptive && options.entropy_coef_delta != defaults.entropy_coef_delta,
         "entropy_coef_delta", fixed, problems);
  refuse(!adaptive && options.entropy_target != defaults.entropy_target, "entropy_target", fixed,
         problems);
}

}  // namespace

void declare(OptionSet& set, GrpoOptions& options) {
  declare_loss(set, options);
  declare_advantages(set, options);
  declare(set, options.rollout);
  declare_process_judge(set, options.rollout);
}

void declare(OptionSet& set, GrpoConfig& config) {
  declare_command(set, config, &GrpoConfig::grpo, kGrpo);
}

void resolve(GrpoConfig& config, std::vector<std::string>* notes) {
  resolve(config.grpo.rollout, config.training);
  resolve_common(config, notes);
  note_sampler(config.grpo.rollout, notes);
  // false by default: nothing to say where there is no adapter.
  if (config.lora.use_peft) note_dropout(config.lora, config.grpo.rollout.disable_dropout, notes);
  const PolicyLossOptions& loss = config.grpo.loss;
  if (loss.delta && *loss.delta <= 1.0 + loss.upper() && notes != nullptr) {
    notes->push_back(fmt::format(
        "[delta] {} is below the clip's upper bound {}: it stands in its place, and below "
        "1 nothing is learned from completions that are better than their group. HINT: "
        "set delta: 4.0 or so.",
        *loss.delta, 1.0 + loss.upper()));
  }
  if (loss.loss_type == PolicyLoss::luspo && notes != nullptr &&
      loss.importance_sampling_level != ImportanceLevel::sequence) {
    notes->push_back(
        "[importance_sampling_level] luspo is made for ratios of sequences. HINT: set "
        "importance_sampling_level: sequence.");
  }
  if (loss.loss_type == PolicyLoss::cispo && loss.upper() < 1.0 && notes != nullptr) {
    notes->push_back(fmt::format(
        "[epsilon_high] cispo caps the ratio itself, at {} here: every gradient shrinks by that. "
        "HINT: set epsilon_high: 5.0.",
        loss.upper()));
  }
}

void validate(const GrpoConfig& config, Problems& problems) {
  const GrpoOptions& grpo = config.grpo;
  MethodTraits traits = kGrpo;
  traits.reads_rows = !grpo.rollout.replay_completions;
  validate_common(config, traits, problems);
  validate(grpo.rollout, config, /*needs_group=*/true, problems);
  validate(grpo.rollout.reference, config.lora,
           grpo.loss.beta == 0 ? "beta is 0: there is no reference." : "", problems);
  check_unused(grpo, problems);
  check_process(grpo, problems);
  if (grpo.top_entropy_quantile == 0) {
    problems.add("top_entropy_quantile", "a share above 0 was expected, got 0.",
                 "1 learns from every token.");
  }
  if (grpo.advantage_estimator == GroupEstimator::grpo_passk &&
      grpo.multi_objective_aggregation == RewardAggregation::normalize_then_sum) {
    problems.add("advantage_estimator",
                 "grpo_passk ranks sums of rewards, normalize_then_sum has none.",
                 "keep one of the two.");
  }
  if (grpo.entropy_coef_min > grpo.entropy_coef_max) {
    problems.add("entropy_coef_min",
                 fmt::format("at most entropy_coef_max ({}) was expected, got {}.",
                             grpo.entropy_coef_max, grpo.entropy_coef_min),
                 "lower it, or raise entropy_coef_max.");
  }
}

GrpoConfig read_grpo_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<GrpoConfig>(args, notes);
}

std::string grpo_help() {
  return config_help<GrpoConfig>(
      "grpo", "Learns from rewards of its own samples, compared within the group of each prompt.");
}

std::string resolved_yaml(const GrpoConfig& config) { return config_yaml(config); }
std::string resolved_table(const GrpoConfig& config) { return config_table(config); }

}  // namespace rlhf
