#include "rlhf/data/sft.h"

#include <algorithm>
#include <array>

#include "rlhf/core/error.h"
#include "rlhf/data/file_hashes.h"

namespace rlhf {
namespace {

constexpr int kEncodingVersion = 1;  // of what ids and masks a row gets; part of the key
constexpr uint64_t kShardBytes = uint64_t{8} << 20;
constexpr int64_t kShardRows = int64_t{1} << 15;
constexpr std::array kWanted = {RowType::prompt_completion, RowType::language_modelling};

enum Column : size_t { kIds, kSupervised, kSource };

std::vector<ColumnSpec> columns() {
  return {
      {"ids", ColumnType::int32}, {"supervised", ColumnType::uint8}, {"source", ColumnType::int32}};
}

/// Every file of the data, without repeats.
std::vector<fs::path> all_files(const DataSpec& spec) {
  std::vector<fs::path> files;
  Problems problems;
  for (const DataSource& source : spec.sources) {
    try {
      for (auto& file : resolve_files(source)) files.push_back(std::move(file));
    } catch (const UserError& error) {
      problems.add(error);
    }
  }
  problems.throw_if_any();
  return files;
}

Json source_key(const DataSource& source, const std::vector<std::string>& hashes, size_t& next) {
  Json files = Json::array();
  for (size_t i = 0; i < resolve_files(source).size(); ++i) files.push_back(hashes[next++]);
  return {{"files", std::move(files)},
          {"rename", source.reshape.rename},
          {"select", source.reshape.select},
          {"fraction", source.fraction ? Json(*source.fraction) : Json()}};
}

Json data_key(const DataSpec& spec, const std::vector<std::string>& hashes) {
  Json sources = Json::array();
  size_t next = 0;
  for (const DataSource& source : spec.sources) sources.push_back(source_key(source, hashes, next));
  Json key = {{"sources", std::move(sources)}};
  if (spec.test_size) {
    key["test_size"] = *spec.test_size;
    key["part"] = static_cast<int>(spec.part);
    key["seed"] = spec.seed;
  }
  return key;
}

/// What the options ask of rows that cannot give it.
void check_options(const RowSet& rows, const EncodeOptions& options, bool has_chat) {
  Problems problems;
  for (const Schema& schema : rows.schemas()) {
    const auto row_kind =
        fmt::format("the rows are of type {} ({})", name_of(schema.type), name_of(schema.form));
    if (options.assistant_only_loss && schema.form == RowForm::text) {
      problems.add("assistant_only_loss",
                   fmt::format("conversational rows were expected; {}.", row_kind),
                   "turn it off, or give `messages`.");
    }
    if (options.completion_only_loss.value_or(false) &&
        schema.type == RowType::language_modelling && schema.form != RowForm::ids) {
      problems.add("completion_only_loss",
                   fmt::format("rows with a completion were expected; {}.", row_kind),
                   "turn it off, or give `prompt` and `completion`; `assistant_only_loss` works on "
                   "`messages`.");
    }
    if (schema.form == RowForm::messages && !has_chat) {
      problems.add("chat_template",
                   fmt::format("a model with a chat template was expected; {}.", row_kind),
                   "set `chat_template_path`.");
    }
  }
  problems.throw_if_any();
}

/// Problems of one shard: the first texts, and how many there were.
struct ShardProblems {
  std::vector<Problem> first;
  int64_t count = 0;

  void add(Problem problem) {
    constexpr size_t kMost = 50;
    ++count;
    if (first.size() < kMost) first.push_back(std::move(problem));
  }
};

void throw_all(const std::vector<ShardProblems>& shards) {
  Problems problems;
  for (const ShardProblems& shard : shards) {
    for (const Problem& problem : shard.first) problems.add(problem);
    // Beyond those only the count matters: a shard keeps as many texts as are ever shown.
    for (int64_t i = static_cast<int64_t>(shard.first.size()); i < shard.count; ++i)
      problems.add(Problem{});
  }
  problems.throw_if_any();
}

/// Encodes rows one after the other into a shard.
class ShardEncoder {
 public:
  ShardEncoder(const RowSet& rows, const Encoder& encoder,
               const std::map<std::string, int32_t>& file_numbers)
      : rows_(rows), encoder_(encoder), file_numbers_(file_numbers), cursor_(rows) {}

  void row(int64_t index, ShardBuilder& builder) {
    ++statistics_.rows_read;
    Record record;
    std::optional<Problem> problem = cursor_.read(index, record);
    EncodedRow encoded;
    if (!problem) problem = encode(record, rows_.schema(index), encoded);
    if (problem) {
      if (encoder_.options().on_bad_row == OnBadRow::drop) {
        statistics_.dropped["bad row"].add(problem->where);
      } else {
        problems_.add(*std::move(problem));
      }
      return;
    }
    if (fits(record, encoded)) keep(record, encoded, builder);
  }

  Statistics& statistics() { return statistics_; }
  ShardProblems& problems() { return problems_; }

 private:
  std::optional<Problem> encode(const Record& record, const Schema& schema, EncodedRow& encoded) {
    try {
      encoded = encoder_.sft(record, schema, statistics_.notices);
    } catch (const UserError& error) {
      Problem problem = error.problems().front();
      if (problem.where != record.where) problem = {record.where, problem.text(), ""};
      return problem;
    }
    if (encoded.predicted() > 0) return std::nullopt;
    return Problem{
        record.where,
        fmt::format("a token to learn was expected, got none among {} tokens.", encoded.ids.size()),
        encoder_.options().assistant_only_loss ? "does the conversation have a message of the "
                                                 "assistant, and does the template mark it?"
                                               : "is the row empty?"};
  }

  bool fits(const Record& record, EncodedRow& row) {
    const auto& most = encoder_.options().max_length;
    if (!most || static_cast<int64_t>(row.ids.size()) <= *most) return true;
    if (truncate_row(row, *most, encoder_.options().truncation_mode)) {
      statistics_.cut[fmt::format("longer than max_length ({})", *most)].add(record.where);
      return true;
    }
    statistics_.dropped[fmt::format("nothing to learn is left within max_length ({})", *most)].add(
        record.where);
    return false;
  }

  void keep(const Record& record, const EncodedRow& row, ShardBuilder& builder) {
    const size_t colon = record.where.rfind(':');
    const std::array<int32_t, 2> source = {
        file_numbers_.at(record.where.substr(0, colon)),
        static_cast<int32_t>(std::stoll(record.where.substr(colon + 1)))};
    builder.put(kIds, row.ids);
    builder.put(kSupervised, row.supervised);
    builder.put(kSource, source);
    builder.end_row();
    const auto length = static_cast<int64_t>(row.ids.size());
    ++statistics_.rows;
    statistics_.tokens += length;
    statistics_.supervised_tokens += row.predicted();
    statistics_.longest = std::max(statistics_.longest, length);
    bool stops = false;
    for (size_t i = 1; i < row.ids.size(); ++i)
      stops |= row.supervised[i] != 0 && encoder_.is_stop(row.ids[i]);
    statistics_.eos_rows += stops ? 1 : 0;
  }

  const RowSet& rows_;
  const Encoder& encoder_;
  const std::map<std::string, int32_t>& file_numbers_;
  RowSet::Cursor cursor_;
  Statistics statistics_;
  ShardProblems problems_;
};

std::shared_ptr<const RaggedCache> build(const DataSpec& spec, const CacheRecipe& recipe,
                                         const Encoder& encoder,
                                         const std::map<std::string, int32_t>& file_numbers,
                                         const UnchangedFiles& unchanged, bool has_chat) {
  const RowSet rows(spec, kWanted);
  check_options(rows, encoder.options(), has_chat);
  const std::vector<int64_t> ends = rows.pieces(kShardBytes, kShardRows);
  std::vector<ShardProblems> problems(ends.size());
  auto cache = build_cache(recipe, static_cast<int64_t>(ends.size()),
                           [&](int64_t shard, ShardBuilder& builder) {
                             const auto s = static_cast<size_t>(shard);
                             ShardEncoder shard_encoder(rows, encoder, file_numbers);
                             for (int64_t row = s == 0 ? 0 : ends[s - 1]; row < ends[s]; ++row)
                               shard_encoder.row(row, builder);
                             unchanged.require();
                             if (s == 0)
                               shard_encoder.statistics().blank_lines = rows.blank_lines();
                             builder.set_note(shard_encoder.statistics().to_json());
                             problems[s] = std::move(shard_encoder.problems());
                             return problems[s].count == 0;
                           });
  throw_all(problems);
  return cache;
}

}  // namespace

EncodedDataset::EncodedDataset(std::shared_ptr<const RaggedCache> cache,
                               std::vector<std::string> files)
    : cache_(std::move(cache)),
      files_(std::move(files)),
      ids_(cache_->column("ids")),
      supervised_(cache_->column("supervised")),
      source_(cache_->column("source")) {}

std::string EncodedDataset::source(int64_t row) const {
  const auto place = cache_->int32s(source_, row);
  check(place.size() == 2 && static_cast<size_t>(place[0]) < files_.size(), "cache",
        "row {} has no source.", row);
  return fmt::format("{}:{}", files_[static_cast<size_t>(place[0])], place[1]);
}

std::vector<int64_t> EncodedDataset::lengths() const {
  std::vector<int64_t> lengths(static_cast<size_t>(rows()));
  for (int64_t row = 0; row < rows(); ++row) lengths[static_cast<size_t>(row)] = length(row);
  return lengths;
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

std::string text_fingerprint(const fs::path& model_folder, std::string_view template_source) {
  std::string all = content_hash(template_source);
  for (const char* name : {"tokenizer.json", "tokenizer.json.gz", "tokenizer_config.json",
                           "special_tokens_map.json", "config.json"}) {
    const fs::path file = model_folder / name;
    all += fmt::format(" {}={}", name, fs::exists(file) ? content_hash_of_file(file) : "none");
  }
  return content_hash(all);
}

EncodedDataset prepare_sft_data(const DataSpec& spec, const Tokenizer& tokenizer,
                                const std::optional<ChatTemplate>& chat,
                                std::string_view fingerprint, const EncodeOptions& options,
                                const fs::path& cache_folder, Statistics* statistics) {
  const std::vector<fs::path> files = all_files(spec);
  const UnchangedFiles unchanged(files);
  std::vector<std::string> names;
  std::map<std::string, int32_t> numbers;
  for (const fs::path& file : files) {
    numbers.emplace(file.string(), static_cast<int32_t>(names.size()));
    names.push_back(file.string());
  }
  const CacheRecipe recipe{.folder = cache_folder,
                           .key = {{"encoding", kEncodingVersion},
                                   {"method", "sft"},
                                   {"data", data_key(spec, hash_files(cache_folder, files))},
                                   {"text", fingerprint},
                                   {"options", options.key()}},
                           .columns = columns()};
  std::shared_ptr<const RaggedCache> cache = find_cache(recipe);
  if (cache == nullptr) {
    const Encoder encoder(tokenizer, chat ? &*chat : nullptr, options);
    cache = build(spec, recipe, encoder, numbers, unchanged, chat.has_value());
  }
  Statistics counts;
  for (const Json& note : cache->notes()) counts.merge(Statistics::from_json(note));
  if (statistics != nullptr) *statistics = counts;
  if (cache->rows() == 0) {
    throw UserError(names.front(),
                    "a row to learn from was expected, none is left.\n" + counts.table(),
                    "raise max_length, or look at the rows that were dropped.");
  }
  return {std::move(cache), std::move(names)};
}

}  // namespace rlhf
