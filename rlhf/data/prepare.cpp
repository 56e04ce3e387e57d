#include "rlhf/data/prepare.h"

#include <algorithm>
#include <array>

#include "rlhf/core/error.h"
#include "rlhf/data/file_hashes.h"

namespace rlhf {
namespace {

constexpr uint64_t kShardBytes = uint64_t{8} << 20;
constexpr int64_t kShardRows = int64_t{1} << 15;

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
  Json key = {{"files", std::move(files)},
              {"rename", source.reshape.rename},
              {"select", source.reshape.select},
              {"fraction", source.fraction ? Json(*source.fraction) : Json()}};
  if (source.weight != 1.0) key["weight"] = source.weight;
  return key;
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

/// Takes the rows of one shard through reading, checking and encoding.
class ShardLoop {
 public:
  ShardLoop(const RowSet& rows, const PrepareRecipe& recipe, RowSink sink)
      : rows_(rows), recipe_(recipe), sink_(sink), cursor_(rows), encoder_(recipe.encoder()) {}

  void run(int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      one(row);
      if (row + 1 == end || (row + 1) % recipe_.block_rows == 0) encoder_->end_block(sink_);
    }
  }

  Statistics& statistics() { return statistics_; }
  ShardProblems& problems() { return problems_; }

 private:
  void one(int64_t row) {
    ++statistics_.rows_read;
    Record record;
    std::optional<Problem> problem = cursor_.read(row, record);
    if (!problem) problem = encode(record, rows_.schema(row));
    if (!problem) return;
    if (recipe_.on_bad_row == OnBadRow::drop) {
      statistics_.dropped["bad row"].add(problem->where);
    } else {
      problems_.add(*std::move(problem));
    }
  }

  std::optional<Problem> encode(const Record& record, const Schema& schema) {
    try {
      encoder_->encode(record, schema, sink_, statistics_);
    } catch (const UserError& error) {
      const Problem& problem = error.problems().front();
      return problem.where == record.where ? problem : Problem{record.where, problem.text(), ""};
    }
    return std::nullopt;
  }

  const RowSet& rows_;
  const PrepareRecipe& recipe_;
  RowSink sink_;
  RowSet::Cursor cursor_;
  std::unique_ptr<RowEncoder> encoder_;
  Statistics statistics_;
  ShardProblems problems_;
};

/// Ends of the shards, each but the last a multiple of `block`.
std::vector<int64_t> shard_ends(const RowSet& rows, int64_t block) {
  std::vector<int64_t> ends;
  for (const int64_t end : rows.pieces(kShardBytes, kShardRows)) {
    const int64_t rounded = std::min((end + block - 1) / block * block, rows.rows());
    if (ends.empty() || ends.back() < rounded) ends.push_back(rounded);
  }
  return ends;
}

std::shared_ptr<const RaggedCache> build(const DataSpec& spec, const PrepareRecipe& recipe,
                                         const CacheRecipe& cache_recipe,
                                         const std::map<std::string, int32_t>& file_numbers,
                                         const UnchangedFiles& unchanged) {
  const RowSet rows(spec, recipe.wanted);
  const std::vector<Schema> schemas = rows.schemas();
  if (recipe.check_schemas) recipe.check_schemas(schemas);
  const std::vector<int64_t> ends = shard_ends(rows, recipe.block_rows);
  std::vector<ShardProblems> problems(ends.size());
  const auto fill = [&](int64_t shard, ShardBuilder& builder) {
    const auto s = static_cast<size_t>(shard);
    ShardLoop loop(rows, recipe, RowSink(builder, recipe.columns.size(), file_numbers));
    loop.run(s == 0 ? 0 : ends[s - 1], ends[s]);
    unchanged.require();
    if (s == 0) loop.statistics().blank_lines = rows.blank_lines();
    builder.set_note(loop.statistics().to_json());
    problems[s] = std::move(loop.problems());
    return problems[s].count == 0;
  };
  auto cache = build_cache(cache_recipe, static_cast<int64_t>(ends.size()), fill);
  throw_all(problems);
  return cache;
}

}  // namespace

std::string text_fingerprint(const fs::path& model_folder, std::string_view template_source) {
  std::string all = content_hash(template_source);
  for (const char* name : {"tokenizer.json", "tokenizer.json.gz", "tokenizer_config.json",
                           "special_tokens_map.json", "config.json"}) {
    const fs::path file = model_folder / name;
    all += fmt::format(" {}={}", name, fs::exists(file) ? content_hash_of_file(file) : "none");
  }
  return content_hash(all);
}

void RowSink::end_row(const std::string& where) {
  const size_t colon = where.rfind(':');
  const std::array<int32_t, 2> source = {file_numbers_.at(where.substr(0, colon)),
                                         static_cast<int32_t>(std::stoll(where.substr(colon + 1)))};
  builder_.put(source_, source);
  builder_.end_row();
}

PreparedRows prepare_rows(const DataSpec& spec, std::string_view fingerprint,
                          const PrepareRecipe& recipe, const fs::path& cache_folder,
                          Statistics* statistics) {
  const std::vector<fs::path> files = all_files(spec);
  const UnchangedFiles unchanged(files);
  PreparedRows prepared;
  std::map<std::string, int32_t> numbers;
  for (const fs::path& file : files) {
    numbers.emplace(file.string(), static_cast<int32_t>(prepared.files.size()));
    prepared.files.push_back(file.string());
  }
  CacheRecipe cache_recipe{.folder = cache_folder,
                           .key = {{"encoding", recipe.version},
                                   {"method", recipe.method},
                                   {"data", data_key(spec, hash_files(cache_folder, files))},
                                   {"text", fingerprint},
                                   {"options", recipe.options}},
                           .columns = recipe.columns};
  cache_recipe.columns.push_back({"source", ColumnType::int32});
  prepared.cache = find_cache(cache_recipe);
  if (prepared.cache == nullptr)
    prepared.cache = build(spec, recipe, cache_recipe, numbers, unchanged);
  Statistics counts;
  for (const Json& note : prepared.cache->notes()) counts.merge(Statistics::from_json(note));
  if (statistics != nullptr) *statistics = counts;
  if (prepared.cache->rows() == 0) {
    throw UserError(
        prepared.files.front(),
        "a row to learn from was expected, none is left.\n" + counts.table(),
        "raise max_length (of prompts: max_prompt_length), or look at the rows that were dropped.");
  }
  return prepared;
}

std::string longer_than(int64_t max_length) {
  return fmt::format("longer than max_length ({})", max_length);
}

std::string nothing_left_within(int64_t max_length) {
  return fmt::format("nothing to learn is left within max_length ({})", max_length);
}

std::string rows_are(const Schema& schema) {
  return fmt::format("the rows are of type {} ({})", name_of(schema.type), name_of(schema.form));
}

void require_chat(const Schema& schema, bool has_chat, Problems& problems) {
  if (schema.form != RowForm::messages || has_chat) return;
  problems.add("chat_template",
               fmt::format("a model with a chat template was expected; {}.", rows_are(schema)),
               "set `chat_template_path`.");
}

}  // namespace rlhf
