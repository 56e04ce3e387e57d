// rlhf generate: samples completions of prompts.
#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/terminal.h"

namespace rlhf::cli {

int run_generate(std::span<const std::string> args) {
  InferenceOptions inference;
  SamplingFlags flags;
  std::optional<std::string> output;
  OptionSet set;
  declare(set, inference);
  declare(set, flags);
  set.group("Output");
  set.add("output", output, "File for the JSON lines; default standard output.");
  if (!read_arguments(set, args,
                      "Usage: rlhf generate --model DIR --data prompts.jsonl [--key value ...]\n\n"
                      "Writes each row with `completions` added: a list of `text`, `ids` (stop "
                      "token included), `logprobs` (full\n"
                      "softmax at the temperature), `sampling_logprobs` where filters change them, "
                      "and `finish_reason`.",
                      {"model", "data"})) {
    return 0;
  }
  const Terminal terminal;
  const LoadedModel loaded = load(inference, ModelTask::language_model);
  const std::vector<PromptRow> rows = read_prompts(loaded, inference, flags.prompt_column);
  JsonLines lines(output);
  sample(loaded, rows, flags, [&](size_t row, std::vector<TextCompletion>& samples) {
    Json out = rows[row].record.row;
    out["completions"] = Json::array();
    for (const TextCompletion& one : samples) {
      out["completions"].push_back(to_json(one));
    }
    lines.write(out);
  });
  lines.finish();
  return 0;
}

}  // namespace rlhf::cli
