// rlhf sft: supervised fine-tuning.
#include "rlhf/train/sft.h"

#include <cstdlib>

#include "cli/commands.h"
#include "cli/terminal.h"

namespace rlhf::cli {
namespace {

/// `step 20/100 · loss 1.234 · grad_norm 0.87 · …`: what of a logged line people watch.
std::string readable(int64_t step, const Json& metrics) {
  std::string text = fmt::format("step {}", step);
  for (const char* name :
       {"loss", "grad_norm", "learning_rate", "entropy", "mean_token_accuracy", "tokens_per_second",
        "eval_loss", "eval_entropy", "eval_mean_token_accuracy"}) {
    if (metrics.contains(name) && metrics.at(name).is_number()) {
      text += fmt::format(" · {} {:.4g}", name, metrics.at(name).get<double>());
    }
  }
  return text;
}

bool asks_for_help(std::span<const std::string> args) {
  return std::find(args.begin(), args.end(), "--help") != args.end() ||
         std::find(args.begin(), args.end(), "-h") != args.end();
}

}  // namespace

int run_sft(std::span<const std::string> args) {
  if (asks_for_help(args)) {
    fmt::print("{}", sft_help());
    return 0;
  }
  Terminal terminal;
  std::vector<std::string> notes;
  SftConfig config = read_sft_config(args, &notes);
  for (const auto& note : notes) terminal.line(note);
  if (config.training.full_determinism) {
    // Before the first tensor operation: the mathematics library reads it once.
    ::setenv("MKL_CBWR", "AUTO,STRICT", /*overwrite=*/1);
  }
  const bool bar = Terminal::interactive() && !config.training.disable_tqdm.value_or(false);
  const std::string output = *config.training.output_dir;
  catch_signals();
  const TrainHooks hooks{
      .on_progress =
          [&](const Progress& progress) {
            if (bar) terminal.progress(progress);
          },
      .on_log = [&](int64_t step, const Json& metrics) { terminal.line(readable(step, metrics)); },
      .on_text = [&](const std::string& text) { terminal.line(text); },
      .should_stop = stop_requested,
  };
  const TrainResult result = train_sft(std::move(config), hooks);
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

}  // namespace rlhf::cli
