// rlhf: finds the command, runs it, and turns what goes wrong into a message and an exit code.
#include <fmt/format.h>

#include <array>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/process.h"
#include "cli/terminal.h"
#include "rlhf/core/error.h"
#include "rlhf/core/file.h"

namespace {

constexpr int kUserFault = 2;
constexpr int kOtherFault = 1;

struct Command {
  const char* name;
  const char* meaning;
  int (*run)(std::span<const std::string> args);
};

constexpr std::array<Command, 17> kCommands = {{
    {"sft", "supervised fine-tuning", rlhf::cli::run_sft},
    {"dpo", "direct preference optimisation and its family", rlhf::cli::run_dpo},
    {"kto", "desirable and undesirable answers: KTO, APO, BCO", rlhf::cli::run_kto},
    {"grpo", "samples judged by rewards: GRPO and its family", rlhf::cli::run_grpo},
    {"rloo", "samples judged by rewards: RLOO, REINFORCE++, ReMax, OPO", rlhf::cli::run_rloo},
    {"ppo", "samples judged by rewards, with a critic", rlhf::cli::run_ppo},
    {"reward", "reward model from preference pairs", rlhf::cli::run_reward},
    {"prm", "process reward model from labelled steps", rlhf::cli::run_prm},
    {"generate", "sample completions of prompts", rlhf::cli::run_generate},
    {"chat", "talk to a model in the terminal", rlhf::cli::run_chat},
    {"score", "log-probabilities of completions", rlhf::cli::run_score},
    {"eval", "pass@k and mean@k under a reward, with intervals", rlhf::cli::run_eval},
    {"merge", "fold a LoRA adapter into its base", rlhf::cli::run_merge},
    {"plan", "memory of a run, before it is started", rlhf::cli::run_plan},
    {"report", "one HTML page about runs: curves, completions, configurations",
     rlhf::cli::run_report},
    {"tokenize", "text to ids and back, chat templates", rlhf::cli::run_tokenize},
    {"env", "versions, device, threads, measured peaks", rlhf::cli::run_env},
}};

std::string usage() {
  std::string text =
      "rlhf " RLHF_VERSION
      ": aligns language models\n\nUsage: rlhf COMMAND [--key value ...]\n\nCommands:\n";
  for (const auto& command : kCommands)
    text += fmt::format("  {:<10} {}\n", command.name, command.meaning);
  return text + "\nrlhf COMMAND --help shows a command's options.\n";
}

int run(const std::vector<std::string>& args) {
  if (args.empty() || args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    rlhf::cli::print_out(usage());
    return args.empty() ? kUserFault : 0;
  }
  if (args[0] == "--version") {
    rlhf::cli::print_out("rlhf " RLHF_VERSION "\n");
    return 0;
  }
  std::vector<std::string> names;
  for (const auto& command : kCommands) {
    if (args[0] == command.name) return command.run(std::span(args).subspan(1));
    names.emplace_back(command.name);
  }
  const std::string nearest = rlhf::nearest_name(args[0], names);
  throw rlhf::UserError("rlhf", fmt::format("there is no command {}.", args[0]),
                        nearest.empty() ? "rlhf --help lists the commands."
                                        : fmt::format("did you mean {}?", nearest));
}

}  // namespace

int main(int argc, char** argv) {
  using rlhf::cli::say;
  rlhf::cli::prepare_process(argv);
  const auto user_fault = [](const rlhf::UserError& error) {
    for (const auto& problem : error.problems()) say(fmt::format("error: {}\n", problem.text()));
    return kUserFault;
  };
  try {
    return run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const rlhf::UserError& error) {
    return user_fault(error);
  } catch (const std::filesystem::filesystem_error& error) {
    return user_fault(rlhf::refused_path(error));
  } catch (const std::bad_alloc&) {
    say("error: out of memory. HINT: lower max_tokens_per_microbatch or set "
        "gradient_checkpointing.\n");
  } catch (const std::exception& error) {
    say(fmt::format("error: {}\n", error.what()));
  }
  return kOtherFault;
}
