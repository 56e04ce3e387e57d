// One function a command. Arguments are those behind the command's name; the result is the exit
// code. UserError and all else goes up to main.
#pragma once

#include <span>
#include <string>

namespace rlhf::cli {

int run_sft(std::span<const std::string> args);
int run_dpo(std::span<const std::string> args);
int run_grpo(std::span<const std::string> args);
int run_rloo(std::span<const std::string> args);
int run_ppo(std::span<const std::string> args);
int run_kto(std::span<const std::string> args);
int run_reward(std::span<const std::string> args);
int run_prm(std::span<const std::string> args);
int run_generate(std::span<const std::string> args);
int run_chat(std::span<const std::string> args);
int run_score(std::span<const std::string> args);
int run_eval(std::span<const std::string> args);
int run_merge(std::span<const std::string> args);
int run_plan(std::span<const std::string> args);
int run_report(std::span<const std::string> args);
int run_tokenize(std::span<const std::string> args);
int run_env(std::span<const std::string> args);

}  // namespace rlhf::cli
