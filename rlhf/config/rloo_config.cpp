#include "rlhf/config/rloo_config.h"

#include "rlhf/config/command.h"
#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

constexpr MethodTraits kRloo = {.name = "rloo", .label_smoothing_hint = "remove the key."};

void check_estimator(const RlooOptions& options, Problems& problems) {
  const AdvantageEstimator estimator = options.advantage_estimator;
  const std::string why =
      fmt::format("advantage_estimator {} does not use it.", enum_text(estimator));
  if (options.normalize_advantages && estimator != AdvantageEstimator::rloo)
    problems.add("normalize_advantages", why, "remove the key.");
  if (options.gamma != 1.0 && estimator != AdvantageEstimator::reinforce_plus_plus)
    problems.add("gamma", why, "remove the key.");
  if (options.rollout.dynamic_sampling && !needs_group(estimator)) {
    problems.add("dynamic_sampling",
                 fmt::format("advantage_estimator {} learns from groups whose "
                             "rewards are equal, too.",
                             enum_text(estimator)),
                 "remove the key.");
  }
  if (options.rollout.replay_completions && estimator == AdvantageEstimator::remax) {
    problems.add("advantage_estimator",
                 "remax judges a greedy completion of each prompt, replay_completions has none.",
                 "keep one of the two.");
  }
}

}  // namespace

std::optional<std::pair<double, double>> RlooOptions::clip_range() const {
  if (!reward_clip_range) return std::nullopt;
  return std::pair(reward_clip_range->at(0), reward_clip_range->at(1));
}

void declare(OptionSet& set, RlooOptions& options) {
  set.group("RLOO");
  set.add("advantage_estimator", options.advantage_estimator,
          "What a completion's reward is compared with: its siblings' mean (rloo), nothing "
          "(reinforce_plus_plus), the group's mean (reinforce_plus_plus_baseline), the greedy "
          "completion (remax), the group's mean by length (opo).")
      .spelling("reinforce", "reinforce_plus_plus")
      .spelling("reinforce_baseline", "reinforce_plus_plus_baseline");
  set.add("beta", options.beta,
          "Weight of the KL that is taken off the reward; 0 keeps no reference.")
      .at_least(0)
      .written("β");
  set.add("epsilon", options.epsilon, "Bound of the clipped ratio, 1 ± ε.")
      .at_least(0)
      .written("ε");
  set.add("epsilon_high", options.epsilon_high, "Upper bound, 1 + ε_high; null: epsilon.")
      .at_least(0)
      .written("ε_high");
  set.add("normalize_advantages", options.normalize_advantages,
          "Take advantages to mean 0 and deviation 1 over the batch.");
  set.add("reward_clip_range", options.reward_clip_range,
          "Rewards are clipped to these two bounds; null: not.");
  set.add("gamma", options.gamma, "Discount of later tokens' rewards, of reinforce_plus_plus.")
      .between(0, 1)
      .written("γ");
  declare(set, options.rollout);
}

void declare(OptionSet& set, RlooConfig& config) {
  declare_command(set, config, &RlooConfig::rloo, kRloo);
}

void resolve(RlooConfig& config, std::vector<std::string>* notes) {
  resolve(config.rloo.rollout, config.training);
  resolve_common(config, notes);
  note_sampler(config.rloo.rollout, notes);
  // false by default: nothing to say where there is no adapter.
  if (config.lora.use_peft) note_dropout(config.lora, config.rloo.rollout.disable_dropout, notes);
}

void validate(const RlooConfig& config, Problems& problems) {
  const RlooOptions& rloo = config.rloo;
  MethodTraits traits = kRloo;
  traits.reads_rows = !rloo.rollout.replay_completions;
  validate_common(config, traits, problems);
  validate(rloo.rollout, config, needs_group(rloo.advantage_estimator), problems);
  validate(rloo.rollout.reference, config.lora,
           rloo.beta == 0 ? "beta is 0: there is no reference." : "", problems);
  check_estimator(rloo, problems);
  validate_clip_range(rloo.reward_clip_range, problems);
}

RlooConfig read_rloo_config(std::span<const std::string> args, std::vector<std::string>* notes) {
  return read_config<RlooConfig>(args, notes);
}

std::string rloo_help() {
  return config_help<RlooConfig>(
      "rloo",
      "Learns from rewards of its own samples by REINFORCE with a baseline that needs no critic.");
}

std::string resolved_yaml(const RlooConfig& config) { return config_yaml(config); }
std::string resolved_table(const RlooConfig& config) { return config_table(config); }

}  // namespace rlhf
