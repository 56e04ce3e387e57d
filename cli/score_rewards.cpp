// rlhf score on reward models and process reward models.
#include <algorithm>

#include "cli/score.h"
#include "rlhf/data/prepare.h"
#include "rlhf/data/steps.h"
#include "rlhf/generate/score.h"

namespace rlhf::cli {
namespace {

using Ids = std::vector<int32_t>;

/// A row as the reward trainer would encode it: one answer, or the two of a preference row with the
/// prompt that both begin with.
struct RewardRow {
  Ids prompt;
  std::vector<Ids> answers;
};

/// Ids of a row that gives them, for folders without a tokenizer.
Ids given_ids(const Record& record, const Schema& schema, const char* column) {
  if (schema.type == RowType::language_modelling) return record.ids("input_ids");
  Ids ids = schema.type == RowType::implicit_preference ? Ids{} : record.ids("prompt_ids");
  const Ids answer = record.ids(column);
  ids.insert(ids.end(), answer.begin(), answer.end());
  return ids;
}

/// Both answers as whole rows become prompt and ends; the prompt is their common beginning, so that
/// each keeps a token at least.
RewardRow shared(const Ids& chosen, const Ids& rejected) {
  const size_t shorter = std::min(chosen.size(), rejected.size());
  const size_t seam =
      std::min(common_prefix_length(chosen, rejected), shorter == 0 ? 0 : shorter - 1);
  const auto at = static_cast<std::ptrdiff_t>(seam);
  return {
      .prompt = {chosen.begin(), chosen.begin() + at},
      .answers = {{chosen.begin() + at, chosen.end()}, {rejected.begin() + at, rejected.end()}}};
}

RewardRow encode(const Encoder* encoder, const Record& record, const Schema& schema) {
  const bool given = schema.form == RowForm::ids;
  const auto whole = [&](const char* member) {
    if (given) return given_ids(record, schema, fmt::format("{}_ids", member).c_str());
    return encoder->joint_member(record, schema, member);
  };
  if (!given && encoder == nullptr) {
    throw UserError(record.where,
                    "token ids were expected, since the model folder has no tokenizer.",
                    "give the rows ids, or copy tokenizer.json into the folder.");
  }
  switch (schema.type) {
    case RowType::preference:
    case RowType::implicit_preference:
      return shared(whole("chosen"), whole("rejected"));
    case RowType::prompt_completion:
      return {.prompt = {}, .answers = {whole("completion")}};
    default:
      break;
  }
  if (given) return {.prompt = {}, .answers = {record.ids("input_ids")}};
  std::map<std::string, Tally> notices;
  return {.prompt = {}, .answers = {encoder->sft(record, schema, notices).ids}};
}

std::vector<RewardRow> encode_rows(const LoadedModel& loaded, const RowSet& set) {
  std::optional<Encoder> encoder;
  if (loaded.text) {
    EncodeOptions options;
    options.max_length = std::nullopt;
    encoder.emplace(loaded.text->tokenizer, loaded.chat(), options);
  }
  std::vector<RewardRow> rows(static_cast<size_t>(set.rows()));
  for_each_row(set, [&](int64_t row, Record& record, const Schema& schema) {
    RewardRow& out = rows[static_cast<size_t>(row)];
    out = encode(encoder ? &*encoder : nullptr, record, schema);
    if (!out.prompt.empty()) check_ids(record, out.prompt, loaded.model);
    for (const Ids& answer : out.answers) {
      check_ids(record, answer, loaded.model);
      check_length(record.where, std::ssize(out.prompt) + std::ssize(answer), loaded.model);
    }
  });
  return rows;
}

double shown(float value) { return to_json(std::span(&value, 1)).front().get<double>(); }

}  // namespace

void write_rewards(const LoadedModel& loaded, const InferenceOptions& options, int64_t max_tokens,
                   JsonLines& lines) {
  const std::vector<RowType> wanted = {RowType::preference, RowType::prompt_completion,
                                       RowType::language_modelling};
  const std::vector<RewardRow> rows = encode_rows(loaded, RowSet(data_spec(options), wanted));
  const int64_t share_limit = loaded.model.decoder.config().shared_prefix_limit();
  std::vector<PackPrompt> prompts;
  std::vector<int64_t> lengths;
  for (const RewardRow& row : rows) {
    PackPrompt prompt{.ids = row.prompt, .answers = {}};
    for (const Ids& answer : row.answers) prompt.answers.push_back({.ids = answer});
    lengths.push_back(prompt.tokens(share_limit));
    prompts.push_back(std::move(prompt));
  }
  const std::vector<int64_t> cuts = cut_by_tokens(lengths, max_tokens);
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {  // a line appears with its pass
    const auto first = static_cast<size_t>(cuts[cut]);
    const auto pass = std::span(prompts).subspan(first, static_cast<size_t>(cuts[cut + 1]) - first);
    const std::vector<float> found =
        rewards(loaded.model.decoder, pass, {.max_tokens = max_tokens});
    auto next = found.begin();
    for (const PackPrompt& prompt : pass) {
      const double reward = shown(*next++);
      lines.write(prompt.answers.size() == 1
                      ? Json{{"reward", reward}}
                      : Json{{"chosen", reward}, {"rejected", shown(*next++)}});
    }
  }
}

void write_step_rewards(const LoadedModel& loaded, const InferenceOptions& options,
                        const std::string& step_separator, int64_t max_tokens, JsonLines& lines) {
  if (!loaded.text) {
    throw UserError(options.model, "a tokenizer was expected: steps are encoded with it.",
                    "copy tokenizer.json into the folder.");
  }
  const StepsOptions steps{.max_length = std::nullopt, .step_separator = step_separator};
  const StepsDataset set =
      prepare_steps(data_spec(options), loaded.text->tokenizer,
                    text_fingerprint(loaded.text->folder, loaded.text->template_text), steps,
                    cache_folder(DataOptions{}), /*statistics=*/nullptr);
  check_content(set.content(), options.model, loaded.model);
  std::vector<StepsRow> rows;
  for (int64_t row = 0; row < set.rows(); ++row) {
    StepsRow out{.ids = set.ids(row), .ends = {}};
    const auto labels = set.labels(row);
    for (int64_t t = 0; t < std::ssize(labels); ++t) {
      if (labels[static_cast<size_t>(t)] != StepsDataset::kNotLearned) out.ends.push_back(t);
    }
    rows.push_back(std::move(out));
  }
  const std::vector<int64_t> lengths = set.lengths();
  if (!lengths.empty()) {
    check_length(options.data, *std::max_element(lengths.begin(), lengths.end()), loaded.model);
  }
  const std::vector<int64_t> cuts = cut_by_tokens(lengths, max_tokens);
  for (size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    const auto first = static_cast<size_t>(cuts[cut]);
    const auto pass = std::span(rows).subspan(first, static_cast<size_t>(cuts[cut + 1]) - first);
    for (const auto& found : step_rewards(loaded.model.decoder, pass, {.max_tokens = max_tokens})) {
      lines.write({{"step_rewards", to_json(found)}});
    }
  }
}

}  // namespace rlhf::cli
