#include "rlhf/config/commands.h"

#include "rlhf/config/dpo_config.h"
#include "rlhf/config/grpo_config.h"
#include "rlhf/config/kto_config.h"
#include "rlhf/config/ppo_config.h"
#include "rlhf/config/prm_config.h"
#include "rlhf/config/reward_config.h"
#include "rlhf/config/rloo_config.h"
#include "rlhf/config/sft_config.h"

namespace rlhf {
namespace {

template <class Config, class Method>
CommandOptions command(std::string name, Method Config::*method) {
  const auto config = std::make_shared<Config>();
  CommandOptions options{.name = std::move(name), .config = config};
  declare(*options.all, *config);
  declare(*options.own, (*config).*method);
  return options;
}

}  // namespace

std::vector<CommandOptions> training_commands() {
  std::vector<CommandOptions> list;
  list.push_back(command("sft", &SftConfig::sft));
  list.push_back(command("dpo", &DpoConfig::dpo));
  list.push_back(command("grpo", &GrpoConfig::grpo));
  list.push_back(command("rloo", &RlooConfig::rloo));
  list.push_back(command("ppo", &PpoConfig::ppo));
  list.push_back(command("kto", &KtoConfig::kto));
  list.push_back(command("reward", &RewardConfig::reward));
  list.push_back(command("prm", &PrmConfig::prm));
  return list;
}

std::string commands_with(std::string_view key) {
  static const auto commands = training_commands();
  std::string names;
  size_t count = 0;
  for (const auto& command : commands) {
    if (command.all->find(key) == nullptr && command.all->find_renamed(key) == nullptr) continue;
    names += (names.empty() ? "" : ", ") + command.name;
    ++count;
  }
  return count == commands.size() ? "every training command" : names;
}

}  // namespace rlhf
