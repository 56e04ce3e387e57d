// rlhf score: log-probabilities of given completions; rewards, where the model is a reward model.
#include "cli/score.h"

#include <array>
#include <numeric>

#include "cli/commands.h"
#include "cli/terminal.h"
#include "rlhf/data/steps.h"
#include "rlhf/generate/score.h"

namespace rlhf::cli {
namespace {

void write_logprobs(const LoadedModel& loaded, const InferenceOptions& inference,
                    const ScoreOptions& options, JsonLines& lines) {
  const std::vector<EncodedRow> rows = completion_rows(loaded, inference);
  std::vector<int64_t> lengths;
  for (const EncodedRow& row : rows) {
    lengths.push_back(std::ssize(row.ids));
  }
  const std::vector<int64_t> cuts =
      cut_by_tokens(lengths, options.max_tokens);  // a line appears with its pass
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    std::vector<PackRow> pack;
    for (int64_t row = cuts[cut]; row < cuts[cut + 1]; ++row) {
      const EncodedRow& one = rows[static_cast<size_t>(row)];
      pack.push_back({.ids = one.ids, .supervised = one.supervised, .row = row});
    }
    for (const auto& logprobs : score_rows(loaded.model.decoder, pack, options)) {
      lines.write({{"logprobs", to_json(logprobs)},
                   {"sum", std::accumulate(logprobs.begin(), logprobs.end(), 0.0)},
                   {"count", logprobs.size()}});
    }
  }
}

/// Flags that the kind of model has no use for are errors, not silence.
void check_flags(const ParsedArguments& parsed, ModelTask task) {
  constexpr std::array<std::string_view, 2> kFlags = {"temperature", "step_separator"};
  const std::span<const std::string_view> flags = kFlags;
  switch (task) {
    case ModelTask::language_model:
      return refuse_unused(parsed, flags.last(1), "a language model");
    case ModelTask::sequence_classification:
      return refuse_unused(parsed, flags, "a reward model");
    case ModelTask::token_classification:
      return refuse_unused(parsed, flags.first(1), "a process reward model");
  }
}

}  // namespace

std::vector<EncodedRow> completion_rows(const LoadedModel& loaded, const InferenceOptions& data) {
  const std::vector<RowType> wanted = {RowType::prompt_completion, RowType::language_modelling};
  const RowSet set(data_spec(data), wanted);
  std::optional<Encoder> whole;
  std::optional<Encoder> assistants;
  if (loaded.text) {
    EncodeOptions options;
    options.max_length = std::nullopt;
    whole.emplace(loaded.text->tokenizer, loaded.chat(), options);
    options.assistant_only_loss = true;
    assistants.emplace(loaded.text->tokenizer, loaded.chat(), options);
  }
  std::vector<EncodedRow> rows(static_cast<size_t>(set.rows()));
  for_each_row(set, [&](int64_t row, Record& record, const Schema& schema) {
    EncodedRow& out = rows[static_cast<size_t>(row)];
    const bool conversation =
        schema.form == RowForm::messages && schema.type == RowType::language_modelling;
    if (schema.form == RowForm::ids && schema.type == RowType::prompt_completion) {
      out.ids = record.ids("prompt_ids");
      out.supervised.assign(out.ids.size(), 0);
      const std::vector<int32_t> completion = record.ids("completion_ids");
      out.ids.insert(out.ids.end(), completion.begin(), completion.end());
      out.supervised.resize(out.ids.size(), 1);
    } else if (schema.form == RowForm::ids) {
      out.ids = record.ids("input_ids");
      out.supervised.assign(out.ids.size(), 1);
    } else if (whole) {
      std::map<std::string, Tally> notices;
      out = (conversation ? *assistants : *whole).sft(record, schema, notices);
    } else {
      throw UserError(record.where,
                      "token ids were expected, since the model folder has no tokenizer.",
                      "give the rows `prompt_ids` and `completion_ids`, or copy tokenizer.json "
                      "into the folder.");
    }
    check_ids(record, out.ids, loaded.model);
    check_length(record.where, std::ssize(out.ids), loaded.model);
  });
  return rows;
}

int run_score(std::span<const std::string> args) {
  InferenceOptions inference;
  ScoreOptions options;
  std::string step_separator = StepsOptions{}.step_separator;
  std::optional<std::string> output;
  OptionSet set;
  declare(set, inference);
  set.group("Scoring");
  set.add("temperature", options.temperature, "Logits are divided by it before the softmax.")
      .above(0)
      .written("T");
  set.add("step_separator", step_separator, "Text behind each step of stepwise rows.");
  set.add("max_tokens", options.max_tokens, "Tokens of one forward pass: memory, never results.")
      .at_least(1);
  set.group("Output");
  set.add("output", output, "File for the JSON lines; default standard output.");
  const auto parsed = read_arguments(
      set, args,
      "Usage: rlhf score --model DIR --data rows.jsonl [--temperature T] [--key value ...]\n\n"
      "Writes a line a row. A language model gives `logprobs` of the scored tokens, their `sum` "
      "and "
      "`count`. Scored are\n"
      "completions, what assistants say in `messages`, and all but the first token of `text` or "
      "`input_ids`.\n"
      "A reward model gives the `reward` of the whole row, and of preference rows `chosen` and "
      "`rejected`. A process reward\n"
      "model gives the `step_rewards` of stepwise rows: the probability that each step is right.\n"
      "Text is encoded as in training: a plain text or completion ends with EOS. Rows with "
      "`prompt_ids` and `completion_ids`\n"
      "are taken as they are.",
      {"model", "data"});
  if (!parsed) {
    return 0;
  }
  const Terminal terminal;
  const ModelTask task = model_config(inference).task;
  check_flags(*parsed, task);
  check_output(output, inference);
  const LoadedModel loaded = load(inference);
  JsonLines lines(output);
  switch (task) {
    case ModelTask::language_model:
      write_logprobs(loaded, inference, options, lines);
      break;
    case ModelTask::sequence_classification:
      write_rewards(loaded, inference, options.max_tokens, lines);
      break;
    case ModelTask::token_classification:
      write_step_rewards(loaded, inference, step_separator, options.max_tokens, lines);
      break;
  }
  lines.finish();
  return 0;
}

}  // namespace rlhf::cli
