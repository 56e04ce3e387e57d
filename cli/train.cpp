// rlhf sft, dpo, kto, grpo, rloo, ppo, reward, prm: one way to run any trainer.
#include <algorithm>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "rlhf/train/dpo.h"
#include "rlhf/train/grpo.h"
#include "rlhf/train/kto.h"
#include "rlhf/train/ppo.h"
#include "rlhf/train/prm.h"
#include "rlhf/train/reward.h"
#include "rlhf/train/rloo.h"
#include "rlhf/train/sft.h"

namespace rlhf::cli {
namespace {

/// What of a logged line people watch, in this order; where it stands, `eval_` before the name,
/// too.
constexpr std::array kWatched = {"loss",
                                 "reward",
                                 "frac_reward_zero_std",
                                 "completions/mean_length",
                                 "rewards/accuracies",
                                 "rewards/margins",
                                 "accuracy",
                                 "margin",
                                 "kl",
                                 "rewards/chosen",
                                 "rewards/rejected",
                                 "entropy",
                                 "mean_token_accuracy",
                                 "grad_norm",
                                 "learning_rate",
                                 "tokens_per_second"};

/// `step 20/500 · loss 1.234 · grad_norm 0.87 · …`
std::string readable(int64_t step, int64_t total_steps, const Json& metrics) {
  std::string text = fmt::format("step {}/{}", step, total_steps);
  for (const std::string prefix : {"", "eval_"}) {
    for (const char* name : kWatched) {
      const auto found = metrics.find(prefix + name);
      if (found != metrics.end() && found->is_number())
        text += fmt::format(" · {}{} {:.4g}", prefix, name, found->get<double>());
    }
  }
  return text;
}

bool asks_for_help(std::span<const std::string> args) {
  return std::any_of(args.begin(), args.end(),
                     [](const auto& arg) { return arg == "--help" || arg == "-h"; });
}

int exit_code(const TrainResult& result, const std::string& output, Terminal& terminal) {
  switch (result.end) {
    case TrainEnd::interrupted:
      terminal.line(fmt::format("stopped at step {}; go on with --resume_from_checkpoint true.",
                                result.steps));
      return 130;
    case TrainEnd::stopped_early:
      terminal.line(
          fmt::format("stopped early after {} steps; the model is in {}.", result.steps, output));
      return 0;
    case TrainEnd::done:
      terminal.line(fmt::format("done: {} steps; the model is in {}.", result.steps, output));
      return 0;
  }
  return 0;
}

template <class Config>
int run_trainer(std::span<const std::string> args, std::string (*help)(),
                Config (*read)(std::span<const std::string>, std::vector<std::string>*),
                TrainResult (*train)(Config, const TrainHooks&)) {
  if (asks_for_help(args)) {
    print_out(help());
    return 0;
  }
  catch_signals();
  Terminal terminal;
  std::vector<std::string> notes;
  Config config = read(args, &notes);
  for (const auto& note : notes) terminal.line(note);
  if (config.training.full_determinism) {
    // Before the first tensor operation: the mathematics library reads it once.
    ::setenv("MKL_CBWR", "AUTO,STRICT", /*overwrite=*/1);
  }
  const bool bar = Terminal::interactive() && !config.training.disable_tqdm.value_or(false);
  const std::string output = *config.training.output_dir;
  const TrainHooks hooks{
      .on_progress =
          [&](const Progress& progress) {
            if (bar) terminal.progress(progress);
          },
      .on_log = [&](int64_t step, int64_t total_steps,
                    const Json& metrics) { terminal.line(readable(step, total_steps, metrics)); },
      .on_text = [&](const std::string& text) { terminal.line(text); },
      .on_reference =
          [&](int64_t done, int64_t total) {
            const std::string text = fmt::format("reference log-probabilities {}/{}", done, total);
            if (bar) {
              terminal.status(text);
            } else if (done == total) {
              terminal.line(text);
            }
          },
      .should_stop = stop_requested,
  };
  return exit_code(train(std::move(config), hooks), output, terminal);
}

}  // namespace

int run_sft(std::span<const std::string> args) {
  return run_trainer<SftConfig>(args, sft_help, read_sft_config, train_sft);
}

int run_dpo(std::span<const std::string> args) {
  return run_trainer<DpoConfig>(args, dpo_help, read_dpo_config, train_dpo);
}

int run_grpo(std::span<const std::string> args) {
  return run_trainer<GrpoConfig>(args, grpo_help, read_grpo_config, train_grpo);
}

int run_rloo(std::span<const std::string> args) {
  return run_trainer<RlooConfig>(args, rloo_help, read_rloo_config, train_rloo);
}

int run_ppo(std::span<const std::string> args) {
  return run_trainer<PpoConfig>(args, ppo_help, read_ppo_config, train_ppo);
}

int run_kto(std::span<const std::string> args) {
  return run_trainer<KtoConfig>(args, kto_help, read_kto_config, train_kto);
}

int run_reward(std::span<const std::string> args) {
  return run_trainer<RewardConfig>(args, reward_help, read_reward_config, train_reward);
}

int run_prm(std::span<const std::string> args) {
  return run_trainer<PrmConfig>(args, prm_help, read_prm_config, train_prm);
}

}  // namespace rlhf::cli
