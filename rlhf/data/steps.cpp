#include "rlhf/data/steps.h"

#include <algorithm>
#include <array>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"

namespace rlhf {
namespace {

constexpr int kVersion = 1;  // of what a row becomes; part of the key
constexpr std::array kWanted = {RowType::stepwise};
constexpr std::array<std::string_view, 1> kIdColumns = {"ids"};

enum Column : size_t { kIds, kLabels };

/// Ids, and a label for each.
struct Labelled {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;

  void append(std::span<const int32_t> more) {
    ids.insert(ids.end(), more.begin(), more.end());
    labels.resize(ids.size(), StepsDataset::kNotLearned);
  }
  void cut(int64_t most) {
    ids.resize(std::min(ids.size(), static_cast<size_t>(most)));
    labels.resize(ids.size());
  }
  int64_t learned() const {
    return std::ssize(labels) - std::count(labels.begin(), labels.end(), StepsDataset::kNotLearned);
  }
};

class StepsEncoder : public RowEncoder {
 public:
  StepsEncoder(const Tokenizer& tokenizer, const Encoder& encoder, const StepsOptions& options)
      : tokenizer_(tokenizer),
        encoder_(encoder),
        options_(options),
        separator_(options.step_separator.empty() ? std::vector<int32_t>{}
                                                  : encoder.continuation(options.step_separator)) {}

  void encode(const Record& record, const Schema& schema, RowSink& sink,
              Statistics& statistics) override {
    statistics.eos_rows.reset();  // a separator ends these rows
    const bool given = schema.form == RowForm::ids;
    Labelled row;
    row.append(given ? record.ids("prompt_ids") : prompt(record.text("prompt")));
    Labelled steps = encode_steps(record, given);
    if (!fits(record, row, steps, statistics)) return;
    sink.put(kIds, row.ids);
    sink.put(kLabels, row.labels);
    sink.end_row(record.where);
    ++statistics.rows;
    statistics.tokens += std::ssize(row.ids);
    statistics.supervised_tokens += row.learned();
    statistics.longest = std::max(statistics.longest, std::ssize(row.ids));
  }

 private:
  std::vector<int32_t> prompt(const std::string& text) const {
    std::vector<int32_t> ids = tokenizer_.encode(text, /*add_special_tokens=*/false);
    const auto bos = tokenizer_.bos_id();
    if (bos && (ids.empty() || ids.front() != *bos)) ids.insert(ids.begin(), *bos);
    return ids;
  }

  Labelled encode_steps(const Record& record, bool given) const {
    const Json& steps = record.at(given ? "completions_ids" : "completions");
    const Json& labels = record.at("labels");
    Labelled all;
    for (size_t i = 0; i < steps.size(); ++i) {
      const size_t before = all.ids.size();
      if (given) {
        all.append(steps[i].get<std::vector<int32_t>>());
      } else {
        all.append(encoder_.continuation(steps[i].get_ref<const std::string&>()));
        all.append(separator_);
      }
      if (all.ids.size() == before) {
        throw UserError(record.where,
                        fmt::format("step {} was expected to have a token, got none.", i + 1),
                        "remove the step and its label.");
      }
      if (options_.train_on_last_step_only && i + 1 < steps.size()) continue;
      all.labels.back() = labels[i] == true || labels[i] == 1 ? 1 : 0;
    }
    return all;
  }

  /// Joins `row` (the prompt) and the steps, cut to the limits; false when the row is dropped.
  bool fits(const Record& record, Labelled& row, Labelled& steps, Statistics& statistics) const {
    std::vector<std::string> limits;
    const auto cut = [&](Labelled& what, const std::optional<int64_t>& most, const char* option) {
      if (!most || std::ssize(what.ids) <= *most) return;
      what.cut(*most);
      limits.push_back(fmt::format("{} ({})", option, *most));
    };
    cut(steps, options_.max_completion_length, "max_completion_length");
    row.append(steps.ids);
    std::copy(steps.labels.begin(), steps.labels.end(),
              row.labels.end() - std::ssize(steps.labels));
    cut(row, options_.max_length, "max_length");
    const bool kept = row.learned() > 0;
    for (const std::string& limit : limits) {
      if (kept) {
        statistics.cut["longer than " + limit].add(record.where);
      } else {
        statistics.dropped["no label is left within " + limit].add(record.where);
        break;
      }
    }
    return kept;
  }

  const Tokenizer& tokenizer_;
  const Encoder& encoder_;
  const StepsOptions& options_;
  std::vector<int32_t> separator_;
};

void check_options(const StepsOptions& options) {
  if (!options.max_completion_length || *options.max_completion_length >= 1) return;
  throw UserError("max_completion_length", fmt::format("1 token or more was expected, got {}.",
                                                       *options.max_completion_length));
}

void check_schemas(std::span<const Schema> schemas) {
  Problems problems;
  for (const Schema& schema : schemas) {
    if (schema.form != RowForm::messages) continue;
    problems.add("data", fmt::format("a prompt of text was expected; {}.", rows_are(schema)),
                 "write the conversation out as text, as the model is to see it.");
  }
  problems.throw_if_any();
}

}  // namespace

Json StepsOptions::key() const {
  const auto limit = [](const std::optional<int64_t>& most) { return most ? Json(*most) : Json(); };
  return {{"max_length", limit(max_length)},
          {"max_completion_length", limit(max_completion_length)},
          {"step_separator", step_separator},
          {"train_on_last_step_only", train_on_last_step_only},
          {"on_bad_row", on_bad_row == OnBadRow::error ? "error" : "drop"}};
}

StepsDataset::StepsDataset(std::shared_ptr<const RaggedCache> cache, std::vector<std::string> files)
    : EncodedRows(std::move(cache), std::move(files), kIdColumns),
      ids_(this->cache().column("ids")),
      labels_(this->cache().column("labels")) {}

std::vector<int64_t> StepsDataset::lengths() const {
  return of_every_row([this](int64_t row) { return length(row); });
}

StepsDataset prepare_steps(const DataSpec& spec, const Tokenizer& tokenizer,
                           std::string_view fingerprint, const StepsOptions& options,
                           const fs::path& cache_folder, Statistics* statistics) {
  check_options(options);
  const Encoder encoder(tokenizer, nullptr, {.max_length = options.max_length});
  const PrepareRecipe recipe{
      .method = "steps",
      .version = kVersion,
      .options = options.key(),
      .columns = {{"ids", ColumnType::int32}, {"labels", ColumnType::int32}},
      .wanted = kWanted,
      .on_bad_row = options.on_bad_row,
      .check_schemas = check_schemas,
      .encoder = [&] { return std::make_unique<StepsEncoder>(tokenizer, encoder, options); }};
  PreparedRows rows = prepare_rows(spec, fingerprint, recipe, cache_folder, statistics);
  return {std::move(rows.cache), std::move(rows.files)};
}

}  // namespace rlhf
