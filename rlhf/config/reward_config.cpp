#include "rlhf/config/reward_config.h"

#include "rlhf/config/command.h"

namespace rlhf {
namespace {

constexpr MethodTraits kReward = {
    .name = "reward", .task = "SEQ_CLS", .label_smoothing_hint = "remove the key."};

}  // namespace

void declare(OptionSet& set, RewardOptions& options) {
  set.group("Reward model");
  set.add("center_rewards_coefficient", options.center_rewards_coefficient,
          "Pull of rewards to a mean of 0: c (r+ + r-)² (arXiv 2312.09244); null: none. Usual: "
          "0.01.")
      .above(0)
      .written("c");
  set.add("max_length", options.max_length,
          "Longest prompt and answer in tokens; rows with a longer member are dropped, since the "
          "score stands at the end; null: no limit.")
      .at_least(1);
  set.add("drop_identical_pairs", options.drop_identical_pairs,
          "Leave out rows whose two answers are the same; they are counted and named either way.");
  declare_disable_dropout(set, options.disable_dropout);
}

void declare(OptionSet& set, RewardConfig& config) {
  declare_command(set, config, &RewardConfig::reward, kReward);
}

void resolve(RewardConfig& config, std::vector<std::string>* notes) {
  resolve_common(config, notes);
  note_dropout(config.lora, config.reward.disable_dropout, notes);
}

void validate(const RewardConfig& config, Problems& problems) {
  validate_common(config, kReward, problems);
}

RewardConfig read_reward_config(std::span<const std::string> args,
                                std::vector<std::string>* notes) {
  return read_config<RewardConfig>(args, notes);
}

std::string reward_help() {
  return config_help<RewardConfig>(
      "reward", "Trains a model that scores answers, on pairs of a chosen and a rejected one.");
}

std::string resolved_yaml(const RewardConfig& config) { return config_yaml(config); }
std::string resolved_table(const RewardConfig& config) { return config_table(config); }

}  // namespace rlhf
