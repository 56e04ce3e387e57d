#include "rlhf/data/sft.h"

#include <algorithm>
#include <array>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

constexpr int kEncodingVersion = 1;  // of what ids and masks a row gets; part of the key
constexpr std::array kWanted = {RowType::prompt_completion, RowType::language_modelling};
constexpr std::array<std::string_view, 1> kIdColumns = {"ids"};

enum Column : size_t { kIds, kSupervised };

/// What the options ask of rows that cannot give it.
void check_options(std::span<const Schema> schemas, const EncodeOptions& options, bool has_chat) {
  Problems problems;
  for (const Schema& schema : schemas) {
    if (options.assistant_only_loss && schema.form == RowForm::text) {
      problems.add("assistant_only_loss",
                   fmt::format("conversational rows were expected; {}.", rows_are(schema)),
                   "turn it off, or give `messages`.");
    }
    if (options.completion_only_loss.value_or(false) &&
        schema.type == RowType::language_modelling && schema.form != RowForm::ids) {
      problems.add("completion_only_loss",
                   fmt::format("rows with a completion were expected; {}.", rows_are(schema)),
                   "turn it off, or give `prompt` and `completion`; `assistant_only_loss` works on "
                   "`messages`.");
    }
    require_chat(schema, has_chat, problems);
  }
  problems.throw_if_any();
}

class SftEncoder : public RowEncoder {
 public:
  explicit SftEncoder(const Encoder& encoder) : encoder_(encoder) {}

  void encode(const Record& record, const Schema& schema, RowSink& sink,
              Statistics& statistics) override {
    EncodedRow row = encoder_.sft(record, schema, statistics.notices);
    if (row.predicted() == 0) {
      throw UserError(
          record.where,
          fmt::format("a token to learn was expected, got none among {} tokens.", row.ids.size()),
          encoder_.options().assistant_only_loss ? "does the conversation have a message of the "
                                                   "assistant, and does the template mark it?"
                                                 : "is the row empty?");
    }
    if (!fits(record, row, statistics)) return;
    sink.put(kIds, row.ids);
    sink.put(kSupervised, row.supervised);
    sink.end_row(record.where);
    count(row, statistics);
  }

 private:
  bool fits(const Record& record, EncodedRow& row, Statistics& statistics) const {
    const auto& most = encoder_.options().max_length;
    if (!most || std::ssize(row.ids) <= *most) return true;
    if (truncate_row(row, *most, encoder_.options().truncation_mode)) {
      statistics.cut[longer_than(*most)].add(record.where);
      return true;
    }
    statistics.dropped[nothing_left_within(*most)].add(record.where);
    return false;
  }

  void count(const EncodedRow& row, Statistics& statistics) const {
    ++statistics.rows;
    statistics.tokens += std::ssize(row.ids);
    statistics.supervised_tokens += row.predicted();
    statistics.longest = std::max(statistics.longest, std::ssize(row.ids));
    bool stops = false;
    for (size_t i = 1; i < row.ids.size(); ++i)
      stops |= row.supervised[i] != 0 && encoder_.is_stop(row.ids[i]);
    if (stops) ++*statistics.eos_rows;
  }

  const Encoder& encoder_;
};

}  // namespace

EncodedDataset::EncodedDataset(std::shared_ptr<const RaggedCache> cache,
                               std::vector<std::string> files)
    : EncodedRows(std::move(cache), std::move(files), kIdColumns),
      ids_(this->cache().column("ids")),
      supervised_(this->cache().column("supervised")) {}

std::vector<int64_t> EncodedDataset::lengths() const {
  return of_every_row([this](int64_t row) { return length(row); });
}

PackPlan EncodedDataset::pack(const PackOptions& options, Statistics* statistics,
                              std::span<const int64_t> order) const {
  std::vector<int64_t> lengths = this->lengths();
  Tally cut;
  Tally dropped;
  for (int64_t row = 0; options.strategy == PackStrategy::bfd && row < rows(); ++row) {
    auto& length = lengths[static_cast<size_t>(row)];
    if (length <= options.max_length) continue;
    const auto mask = supervised(row).subspan(1, static_cast<size_t>(options.max_length) - 1);
    const bool learned = std::find(mask.begin(), mask.end(), uint8_t{1}) != mask.end();
    (learned ? cut : dropped).add(source(row));
    if (!learned) length = 0;
  }
  if (statistics != nullptr && cut.count > 0) {
    statistics->cut[fmt::format("longer than a pack ({})", options.max_length)].merge(cut);
  }
  if (statistics != nullptr && dropped.count > 0) {
    statistics
        ->dropped[fmt::format("nothing to learn is left within a pack ({})", options.max_length)]
        .merge(dropped);
  }
  return pack_rows(lengths, options, order);
}

EncodedDataset prepare_sft_data(const DataSpec& spec, const Tokenizer& tokenizer,
                                const std::optional<ChatTemplate>& chat,
                                std::string_view fingerprint, const EncodeOptions& options,
                                const fs::path& cache_folder, Statistics* statistics) {
  const Encoder encoder(tokenizer, chat ? &*chat : nullptr, options);
  const PrepareRecipe recipe{
      .method = "sft",
      .version = kEncodingVersion,
      .options = options.key(),
      .columns = {{"ids", ColumnType::int32}, {"supervised", ColumnType::uint8}},
      .wanted = kWanted,
      .on_bad_row = options.on_bad_row,
      .check_schemas =
          [&](std::span<const Schema> schemas) {
            check_options(schemas, options, chat.has_value());
          },
      .encoder = [&] { return std::make_unique<SftEncoder>(encoder); }};
  PreparedRows rows = prepare_rows(spec, fingerprint, recipe, cache_folder, statistics);
  return {std::move(rows.cache), std::move(rows.files)};
}

}  // namespace rlhf
