// rlhf generate: samples completions of prompts, has them judged, and writes them, the best of them
// or pairs of them.
#include <array>

#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/judged_lines.h"
#include "cli/terminal.h"
#include "rlhf/data/prompts.h"
#include "rlhf/train/run.h"

namespace rlhf::cli {
namespace {

constexpr std::array<std::string_view, 4> kJudgedKeys = {"reward_weights", "reward_failure_limit",
                                                         "reward_workers", "reward_timeout"};

/// Adds what is wrong with the flags themselves.
void check_flags(const ParsedArguments& parsed, const JudgeOptions& judges,
                 const JudgedOutput& output, int64_t samples, Problems& problems) {
  validate_judges(judges, problems);
  validate_process_judge(judges, problems);
  const auto set = [&](std::string_view key) { return parsed.places.contains(std::string(key)); };
  if (output.format != OutputFormat::pairs && set("pairs_per_prompt")) {
    problems.add("--pairs_per_prompt", "--output_format pairs was expected beside it.",
                 "leave it out, or write --output_format pairs.");
  }
  if (output.format == OutputFormat::completions && set("min_reward")) {
    problems.add("--min_reward", "--output_format best_of_n or pairs was expected beside it.",
                 "leave it out: completions are all written, with their rewards.");
  }
  if (output.format == OutputFormat::pairs && samples < 2) {
    problems.add("--num_generations",
                 fmt::format("at least 2 were expected of --output_format pairs, got {}.", samples),
                 "write --num_generations 8.");
  }
  if (judges.any()) return;
  if (output.format != OutputFormat::completions) {
    problems.add("--output_format",
                 fmt::format("something that judges completions was expected for {}, got nothing.",
                             enum_text(output.format)),
                 "write --reward_funcs accuracy, or --reward_model_name_or_path DIR.");
  }
  for (const std::string_view key : kJudgedKeys) {
    if (!set(key)) continue;
    problems.add(fmt::format("--{}", key), "there is no judge to use it.",
                 "leave it out, or write --reward_funcs.");
  }
}

/// Adds the rows that a judge or the output cannot read.
void check_rows(const std::vector<PromptRow>& rows, const Judges& judges, OutputFormat format,
                Problems& problems) {
  const auto required = judges.required_columns();
  for (const PromptRow& row : rows) {
    for (const auto& columns : required) {
      if (const auto problem = missing_column(row.record, columns)) problems.add(*problem);
    }
    if (const auto problem = missing_template(judges, row.record.row, row.record.where))
      problems.add(*problem);
    if (format == OutputFormat::completions) continue;
    if (const auto problem = check_sampled_prompt(row.record)) problems.add(*problem);
  }
}

/// Everything that the command reads.
struct GenerateSetup {
  std::optional<LoadedModel> loaded;
  std::vector<PromptRow> rows;
  std::optional<Judges> judges;  ///< where there are any
};

GenerateSetup set_up(const InferenceOptions& inference, const SamplingFlags& flags,
                     const JudgeOptions& judged, OutputFormat format, SetupChecks& checks) {
  GenerateSetup setup;
  checks.attempt([&] { setup.loaded.emplace(load(inference, ModelTask::language_model)); });
  const TextSide* text = setup.loaded && setup.loaded->text ? &*setup.loaded->text : nullptr;
  if (judged.any()) {
    checks.attempt([&] {
      Problems problems;
      if (setup.loaded && text == nullptr) {
        problems.add(inference.model, "a tokenizer was expected: judges read text.",
                     "copy tokenizer.json into the folder.");
      }
      setup.judges.emplace(read_judges(judged, flags.options.max_new_tokens, text,
                                       setup.loaded ? &setup.loaded->model : nullptr, problems));
      problems.throw_if_any();
    });
  }
  if (!setup.loaded) return setup;
  checks.attempt([&] { setup.rows = read_prompts(*setup.loaded, inference, flags.prompt_column); });
  if (!setup.judges) return setup;
  checks.attempt([&] {
    Problems problems;
    check_rows(setup.rows, *setup.judges, format, problems);
    problems.throw_if_any();
  });
  return setup;
}

void write_plain(const GenerateSetup& setup, const SamplingFlags& flags, JsonLines& lines) {
  sample(*setup.loaded, setup.rows, flags, [&](size_t row, std::vector<TextCompletion>& samples) {
    Json out = setup.rows[row].record.row;
    out["completions"] = Json::array();
    for (const TextCompletion& one : samples) {
      out["completions"].push_back(to_json(one));
    }
    lines.write(out);
  });
}

void write_judged(const GenerateSetup& setup, const SamplingFlags& flags,
                  const JudgedOutput& output, JsonLines& lines) {
  JudgedLines judged(*setup.judges, setup.loaded->text->tokenizer, output, lines);
  sample(*setup.loaded, setup.rows, flags, [&](size_t row, std::vector<TextCompletion>& samples) {
    judged.add(setup.rows[row], samples);
  });
  judged.finish();
}

void declare(OptionSet& set, JudgedOutput& output, std::optional<std::string>& file) {
  set.group("Output");
  set.add("output", file, "File for the JSON lines; default standard output.");
  set.add("output_format", output.format,
          "completions: each row with all its completions; best_of_n: a prompt-completion row with "
          "the one of the highest reward (rejection sampling); pairs: preference rows of the best "
          "and the worst.");
  set.add(
         "pairs_per_prompt", output.pairs_per_prompt,
         "Most pairs of a prompt, those of the largest difference of rewards; 1: the best over the "
         "worst.")
      .at_least(1);
  set.add("min_reward", output.min_reward,
          "Least reward of the completion of best_of_n, and of the chosen one of pairs: prompts "
          "without one give no row. Rejection sampling by accuracy: 1.");
}

constexpr const char* kUsage =
    "Usage: rlhf generate --model DIR --data prompts.jsonl [--key value ...]\n\n"
    "Writes each row with `completions` added: a list of `text`, `ids` (stop token included), "
    "`logprobs` (full\n"
    "softmax at the temperature), `sampling_logprobs` where filters change them, and "
    "`finish_reason`.\n"
    "With judges (--reward_funcs, --reward_model_name_or_path) each has `rewards` and their "
    "weighted sum `reward`, and\n"
    "--output_format writes rows for sft (best_of_n), or for dpo and reward (pairs), in their "
    "place.";

}  // namespace

int run_generate(std::span<const std::string> args) {
  InferenceOptions inference;
  SamplingFlags flags;
  JudgeOptions judges;
  JudgedOutput output;
  std::optional<std::string> file;
  OptionSet set;
  declare(set, inference);
  declare(set, flags);
  declare_judges(set, judges);
  declare_process_judge(set, judges);
  declare(set, output, file);
  const auto parsed = read_arguments(set, args, kUsage, {"model", "data"});
  if (!parsed) {
    return 0;
  }
  output.failure_limit = judges.reward_failure_limit;
  const Terminal terminal;
  SetupChecks checks;
  checks.attempt([&] {
    Problems problems;
    check_flags(*parsed, judges, output, flags.options.num_generations, problems);
    problems.throw_if_any();
  });
  checks.attempt([&] { check_output(file, inference); });
  const GenerateSetup setup = set_up(inference, flags, judges, output.format, checks);
  checks.throw_if_any();
  JsonLines lines(file);
  if (setup.judges) {
    write_judged(setup, flags, output, lines);
  } else {
    write_plain(setup, flags, lines);
  }
  lines.finish();
  return 0;
}

}  // namespace rlhf::cli
