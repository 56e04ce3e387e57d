#include "rlhf/data/answers.h"

#include <algorithm>
#include <array>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/data/prepare.h"

namespace rlhf {
namespace {

constexpr int kVersion = 2;            // of what a row becomes; part of the key
constexpr int64_t kUnpairRows = 1000;  // of datasets.Dataset.map, by which TRL unpairs
constexpr std::array kWanted = {RowType::unpaired, RowType::preference};
constexpr std::array<std::string_view, 2> kIdColumns = {"prompt", "completion"};
constexpr const char* kDesirable = "desirable";
constexpr const char* kUndesirable = "undesirable";
constexpr const char* kUnpaired = "pairs, each taken as two rows";

enum Column : size_t { kPrompt, kCompletion, kKept, kLabel };

class AnswerEncoder : public RowEncoder {
 public:
  AnswerEncoder(const Encoder& encoder, const AnswerOptions& options)
      : encoder_(encoder), options_(options) {}

  void encode(const Record& record, const Schema& schema, RowSink& sink,
              Statistics& statistics) override {
    if (schema.type == RowType::unpaired) {
      const Json& label = record.at("label");
      Answer answer{encoder_.answer(record, schema), label == true || label == 1, record.where};
      require_tokens(answer, "completion");
      if (cut(answer, statistics)) put(answer, sink);
      return;
    }
    auto [chosen, rejected] = encoder_.members(record, schema);
    Answer good{std::move(chosen), /*desirable=*/true, record.where};
    Answer bad{std::move(rejected), /*desirable=*/false, record.where};
    require_tokens(good, "chosen");
    require_tokens(bad, "rejected");
    statistics.notices[kUnpaired].add(record.where);
    if (cut(good, statistics)) put(good, sink);
    if (cut(bad, statistics)) rejected_.push_back(std::move(bad));
  }

  void end_block(RowSink& sink) override {
    for (const Answer& answer : rejected_) put(answer, sink);
    rejected_.clear();
  }

 private:
  struct Answer {
    EncodedAnswer ids;
    bool desirable;
    std::string where;
    int32_t kept = 0;  // tokens of the completion within max_length

    int64_t length() const { return std::ssize(ids.prompt) + kept; }
  };

  static void require_tokens(const Answer& answer, const char* column) {
    if (answer.ids.predicted() > 0) return;
    throw UserError(answer.where,
                    fmt::format("a token of `{}` with one before it was expected, got {} and a "
                                "prompt of {}.",
                                column, answer.ids.completion.size(), answer.ids.prompt.size()),
                    "is the row empty?");
  }

  /// Cuts an answer and counts it; false when it is dropped.
  bool cut(Answer& answer, Statistics& statistics) const {
    auto& [prompt, completion, rerendered] = answer.ids;
    if (rerendered) statistics.notices[kRerendered].add(answer.where);
    answer.kept = static_cast<int32_t>(completion.size());
    if (options_.max_length && answer.length() > *options_.max_length) {
      if (std::ssize(prompt) >= *options_.max_length) {
        statistics.dropped[nothing_left_within(*options_.max_length)].add(answer.where);
        return false;
      }
      answer.kept = static_cast<int32_t>(*options_.max_length - std::ssize(prompt));
      statistics.cut[longer_than(*options_.max_length)].add(answer.where);
    }
    count(answer, statistics);
    return true;
  }

  void count(const Answer& answer, Statistics& statistics) const {
    ++statistics.rows;
    statistics.tokens += answer.length();
    statistics.supervised_tokens += answer.ids.prompt.empty() ? answer.kept - 1 : answer.kept;
    statistics.longest = std::max(statistics.longest, answer.length());
    statistics.notices[answer.desirable ? kDesirable : kUndesirable].add(answer.where);
    const std::span kept(answer.ids.completion.data(), static_cast<size_t>(answer.kept));
    if (encoder_.has_stop(kept)) ++*statistics.eos_rows;
  }

  static void put(const Answer& answer, RowSink& sink) {
    sink.put(kPrompt, answer.ids.prompt);
    sink.put(kCompletion, answer.ids.completion);
    sink.put(kKept, std::array{answer.kept});
    sink.put(kLabel, std::array{static_cast<uint8_t>(answer.desirable)});
    sink.end_row(answer.where);
  }

  const Encoder& encoder_;
  const AnswerOptions& options_;
  std::vector<Answer> rejected_;  // of the block's pairs
};

void check_schemas(std::span<const Schema> schemas, const AnswerOptions& options, bool has_chat) {
  Problems problems;
  for (const Schema& schema : schemas) {
    require_chat(schema, has_chat, problems);
    if (schema.type == RowType::unpaired || options.unpair) continue;
    problems.add(
        "data",
        fmt::format("columns `prompt`, `completion` and `label` were expected; {}.",
                    rows_are(schema)),
        "set `unpair` to take each chosen answer as desirable and each rejected one as not.");
  }
  problems.throw_if_any();
}

/// Says so where one of the classes has no row.
void check_classes(int64_t desirable, int64_t rows, Statistics& statistics) {
  if (desirable != 0 && desirable != rows) return;
  const char* only = desirable == 0 ? kUndesirable : kDesirable;
  statistics.notices[fmt::format("every row is {}", only)] = statistics.notices[only];
  log_warning(
      "[label] desirable and undesirable rows were expected, got {} ones only. HINT: check the "
      "column `label`; a model told only one of the two has nothing to tell them apart by.",
      only);
}

}  // namespace

Json AnswerOptions::key() const {
  return {{"max_length", max_length ? Json(*max_length) : Json()},
          {"unpair", unpair},
          {"text", text.key()}};
}

AnswerDataset::AnswerDataset(std::shared_ptr<const RaggedCache> cache,
                             std::vector<std::string> files)
    : EncodedRows(std::move(cache), std::move(files), kIdColumns),
      prompt_(this->cache().column("prompt")),
      completion_(this->cache().column("completion")),
      kept_(this->cache().column("kept")),
      label_(this->cache().column("label")) {}

int64_t AnswerDataset::desirable_rows() const {
  int64_t count = 0;
  for (int64_t row = 0; row < rows(); ++row) count += desirable(row) ? 1 : 0;
  return count;
}

int64_t AnswerDataset::length(int64_t row) const {
  return cache().length(prompt_, row) + cache().int32s(kept_, row).front();
}

std::vector<int64_t> AnswerDataset::lengths() const {
  return of_every_row([this](int64_t row) { return length(row); });
}

AnswerDataset prepare_answers(const DataSpec& spec, const Tokenizer& tokenizer,
                              const std::optional<ChatTemplate>& chat, std::string_view fingerprint,
                              const AnswerOptions& options, const fs::path& cache_folder,
                              Statistics* statistics) {
  const Encoder encoder(tokenizer, chat ? &*chat : nullptr,
                        encode_options(options.max_length, options.text));
  const PrepareRecipe recipe{
      .method = "answers",
      .version = kVersion,
      .options = options.key(),
      .columns = {{"prompt", ColumnType::int32},
                  {"completion", ColumnType::int32},
                  {"kept", ColumnType::int32},
                  {"label", ColumnType::uint8}},
      .wanted = kWanted,
      .on_bad_row = options.text.on_bad_row,
      .block_rows = kUnpairRows,
      .check_schemas = [&](auto schemas) { check_schemas(schemas, options, chat.has_value()); },
      .encoder = [&] { return std::make_unique<AnswerEncoder>(encoder, options); }};
  Statistics counts;
  PreparedRows rows = prepare_rows(spec, fingerprint, recipe, cache_folder, &counts);
  AnswerDataset data(std::move(rows.cache), std::move(rows.files));
  check_classes(data.desirable_rows(), data.rows(), counts);
  if (statistics != nullptr) *statistics = std::move(counts);
  return data;
}

}  // namespace rlhf
