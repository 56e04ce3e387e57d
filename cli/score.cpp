// rlhf score: log-probabilities of given completions.
#include "rlhf/generate/score.h"

#include <numeric>

#include "cli/commands.h"
#include "cli/inference.h"
#include "cli/terminal.h"

namespace rlhf::cli {
namespace {

/// Rows as the trainer would encode them: of a prompt and a completion the completion is scored, of
/// messages what the assistants say, of plain text and bare ids everything but the first token.
std::vector<EncodedRow> encode_rows(const LoadedModel& loaded, const RowSet& set) {
  std::optional<Encoder> whole;
  std::optional<Encoder> assistants;
  if (loaded.text) {
    EncodeOptions options;
    options.max_length = std::nullopt;
    whole.emplace(loaded.text->tokenizer, loaded.chat(), options);
    options.assistant_only_loss = true;
    assistants.emplace(loaded.text->tokenizer, loaded.chat(), options);
  }
  const int64_t vocab = loaded.model.decoder.config().vocab_size;
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
    if (out.ids.empty()) {
      throw UserError(record.where, "at least one token was expected, got none.");
    }
    for (const int32_t id : out.ids) {
      if (id < 0 || id >= vocab) {
        throw UserError(
            record.where,
            fmt::format("ids below the vocabulary's {} were expected, got {}.", vocab, id),
            "tokenizer and model must belong together.");
      }
    }
  });
  return rows;
}

}  // namespace

int run_score(std::span<const std::string> args) {
  InferenceOptions inference;
  double temperature = 1.0;
  int64_t max_tokens = 8192;
  std::optional<std::string> output;
  OptionSet set;
  declare(set, inference);
  set.group("Scoring");
  set.add("temperature", temperature, "Logits are divided by it before the softmax.")
      .above(0)
      .written("T");
  set.add("max_tokens", max_tokens, "Tokens of one forward pass: memory, never results.")
      .at_least(1);
  set.group("Output");
  set.add("output", output, "File for the JSON lines; default standard output.");
  if (!read_arguments(
          set, args,
          "Usage: rlhf score --model DIR --data rows.jsonl [--temperature T] [--key value ...]\n\n"
          "Writes a line a row: `logprobs` of the scored tokens, their `sum` and `count`. Scored "
          "are completions, what\n"
          "assistants say in `messages`, and all but the first token of `text` or `input_ids`. "
          "Text is encoded as in\n"
          "training: a plain text or completion ends with EOS. Rows with `prompt_ids` and "
          "`completion_ids` are taken as they are.",
          {"model", "data"})) {
    return 0;
  }
  const Terminal terminal;
  const LoadedModel loaded = load(inference);
  DataSource source;
  source.path = inference.data;
  source.split = inference.split;
  DataSpec spec;
  spec.sources = {source};
  const std::vector<RowType> wanted = {RowType::prompt_completion, RowType::language_modelling};
  const std::vector<EncodedRow> rows = encode_rows(loaded, RowSet(spec, wanted));
  std::vector<int64_t> lengths;
  for (const EncodedRow& row : rows) {
    lengths.push_back(static_cast<int64_t>(row.ids.size()));
  }
  JsonLines lines(output);
  const std::vector<int64_t> cuts =
      cut_by_tokens(lengths, max_tokens);  // a line appears with its pass
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    std::vector<PackRow> pack;
    for (int64_t row = cuts[cut]; row < cuts[cut + 1]; ++row) {
      const EncodedRow& one = rows[static_cast<size_t>(row)];
      pack.push_back({.ids = one.ids, .supervised = one.supervised, .row = row});
    }
    for (const auto& logprobs : score_rows(
             loaded.model.decoder, pack, {.temperature = temperature, .max_tokens = max_tokens})) {
      lines.write({{"logprobs", to_json(logprobs)},
                   {"sum", std::accumulate(logprobs.begin(), logprobs.end(), 0.0)},
                   {"count", logprobs.size()}});
    }
  }
  lines.finish();
  return 0;
}

}  // namespace rlhf::cli
