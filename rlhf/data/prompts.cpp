#include "rlhf/data/prompts.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"

namespace rlhf {
namespace {

constexpr int kVersion = 1;  // of what a row becomes; part of the key
constexpr std::array kWanted = {RowType::prompt_only};
constexpr std::array<std::string_view, 1> kIdColumns = {"prompt"};

enum Column : size_t { kPrompt, kColumns };

class PromptEncoder : public RowEncoder {
 public:
  PromptEncoder(const Encoder& encoder, const PromptOptions& options,
                const std::vector<std::vector<std::string>>& required)
      : encoder_(encoder), options_(options), required_(required) {}

  void encode(const Record& record, const Schema& schema, RowSink& sink,
              Statistics& statistics) override {
    statistics.eos_rows.reset();  // a prompt is not answered yet
    for (const auto& columns : required_) {
      if (auto problem = missing_column(record, columns))
        throw UserError(std::vector<Problem>{std::move(*problem)});
    }
    const auto ids =
        schema.form == RowForm::ids ? record.ids("prompt_ids") : encoder_.prompt(record, schema);
    if (ids.empty()) {
      throw UserError(record.where, "a prompt of at least one token was expected, got none.",
                      "use a chat template, or a tokenizer that adds a BOS token.");
    }
    if (options_.max_length && std::ssize(ids) > *options_.max_length) {
      statistics.dropped[fmt::format("longer than max_prompt_length ({})", *options_.max_length)]
          .add(record.where);
      return;
    }
    ++statistics.rows;
    statistics.tokens += std::ssize(ids);
    statistics.longest = std::max(statistics.longest, static_cast<int64_t>(std::ssize(ids)));
    const std::string columns = record.row.dump();
    sink.put(kPrompt, ids);
    sink.put(kColumns, std::span(reinterpret_cast<const uint8_t*>(columns.data()), columns.size()));
    sink.end_row(record.where);
  }

 private:
  const Encoder& encoder_;
  const PromptOptions& options_;
  const std::vector<std::vector<std::string>>& required_;
};

void check_schemas(std::span<const Schema> schemas, bool has_chat) {
  Problems problems;
  for (const Schema& schema : schemas) require_chat(schema, has_chat, problems);
  problems.throw_if_any();
}

}  // namespace

std::optional<Problem> missing_column(const Record& record,
                                      const std::vector<std::string>& columns) {
  const bool there = std::any_of(columns.begin(), columns.end(),
                                 [&](const auto& column) { return record.has(column); });
  if (there) return std::nullopt;
  return Problem{
      .where = record.where,
      .what = fmt::format("a column `{}` was expected: a reward reads it.",
                          fmt::join(columns, "` or `")),
      .hint = "name the column that holds it: reward_funcs: {name: accuracy, column: NAME}."};
}

Json PromptOptions::key() const {
  return {{"max_length", max_length ? Json(*max_length) : Json()}, {"text", text.key()}};
}

PromptDataset::PromptDataset(std::shared_ptr<const RaggedCache> cache,
                             std::vector<std::string> files)
    : EncodedRows(std::move(cache), std::move(files), kIdColumns),
      prompt_(this->cache().column("prompt")),
      columns_(this->cache().column("columns")) {}

Json PromptDataset::columns(int64_t row) const {
  const auto text = cache().bytes(columns_, row);
  return Json::parse(text.begin(), text.end());
}

std::vector<int64_t> PromptDataset::lengths() const {
  return of_every_row([this](int64_t row) { return length(row); });
}

PromptDataset prepare_prompts(const DataSpec& spec, const Tokenizer& tokenizer,
                              const std::optional<ChatTemplate>& chat, std::string_view fingerprint,
                              const PromptOptions& options,
                              const std::vector<std::vector<std::string>>& required,
                              const fs::path& cache_folder, Statistics* statistics) {
  const Encoder encoder(tokenizer, chat ? &*chat : nullptr,
                        encode_options(std::nullopt, options.text));
  Json key = options.key();
  key["required"] = required;
  const PrepareRecipe recipe{
      .method = "prompts",
      .version = kVersion,
      .options = std::move(key),
      .columns = {{"prompt", ColumnType::int32}, {"columns", ColumnType::uint8}},
      .wanted = kWanted,
      .on_bad_row = options.text.on_bad_row,
      .block_rows = 1,
      .check_schemas = [&](auto schemas) { check_schemas(schemas, chat.has_value()); },
      .encoder = [&] { return std::make_unique<PromptEncoder>(encoder, options, required); }};
  PreparedRows rows = prepare_rows(spec, fingerprint, recipe, cache_folder, statistics);
  return {std::move(rows.cache), std::move(rows.files)};
}

}  // namespace rlhf
