#include "rlhf/config/judge_options.h"

namespace rlhf {

void declare_judges(OptionSet& set, JudgeOptions& options, const char* old_reward_model_name) {
  set.group("Rewards");
  set.add("reward_funcs", options.reward_funcs,
          "What judges completions: names, or maps with a name and parameters "
          "(docs/rewards.md).");
  auto& model = set.add("reward_model_name_or_path", options.reward_model_name_or_path,
                        "Folder of a reward model, one more judge.");
  if (old_reward_model_name != nullptr) model.old_name(old_reward_model_name);
  set.add("reward_model_reencode", options.reward_model_reencode,
          "Ask the reward model in text, encoded with its own tokenizer and chat template: for one "
          "whose base is another.");
  set.add("reward_weights", options.reward_weights, "Weight of each judge, in order; null: 1.");
  set.add("reward_failure_limit", options.reward_failure_limit,
          "The run stops where more than this share of a batch's completions got no reward for "
          "errors.")
      .between(0, 1);
  set.add("reward_workers", options.reward_workers,
          "Processes of each reward that is a command; questions under way at one that is a url.")
      .at_least(1);
  set.add("reward_timeout", options.reward_timeout,
          "Seconds that a judge outside the program has for a completion.")
      .above(0);
}

void validate_judges(const JudgeOptions& options, Problems& problems) {
  if (!options.reward_model_reencode || options.reward_model_name_or_path) return;
  problems.add("reward_model_reencode", "there is no reward_model_name_or_path to ask in text.",
               "remove the key.");
}

void declare_process_judge(OptionSet& set, JudgeOptions& options) {
  set.group("Process supervision");
  set.add("process_reward_model_name_or_path", options.process_reward_model_name_or_path,
          "Folder of a process reward model (rlhf prm): a judge more, the last, of every step "
          "(DeepSeekMath, section 4.1.3).");
  set.add("step_separator", options.step_separator, "Text that ends a step, as rlhf prm had it.");
}

void validate_process_judge(const JudgeOptions& options, Problems& problems) {
  if (!options.process_reward_model_name_or_path) {
    if (options.step_separator != JudgeOptions().step_separator) {
      problems.add("step_separator", "there is no process_reward_model_name_or_path to read it.",
                   "remove the key.");
    }
  } else if (options.step_separator.empty()) {
    problems.add(
        "step_separator", "a text that ends a step was expected, got nothing.",
        "remove the key for a line feed, or give the text that the rewards were trained on.");
  }
}

}  // namespace rlhf
