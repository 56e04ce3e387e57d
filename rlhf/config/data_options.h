// Where rows come from. Names: TRL 1.16's ScriptArguments, DatasetMixtureConfig and the data keys
// its trainers share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rlhf/config/handbook_mixture.h"
#include "rlhf/core/options.h"

namespace rlhf {

enum class BadRowPolicy { error, drop };
template <>
struct EnumNames<BadRowPolicy> {
  static constexpr std::array<std::string_view, 2> names = {"error", "drop"};
};

/// Which end of a row longer than max_length is kept.
enum class TruncationChoice { keep_start, keep_end };
template <>
struct EnumNames<TruncationChoice> {
  static constexpr std::array<std::string_view, 2> names = {"keep_start", "keep_end"};
};

/// One part of a mixture.
struct DatasetSource {
  std::string path;                     ///< file or folder
  std::optional<std::string> data_dir;  ///< folder inside `path`
  std::optional<std::vector<std::string>>
      data_files;               ///< files inside `path` (and `data_dir`); null: by split
  std::string split = "train";  ///< the file `<split>.jsonl` of a folder
  std::optional<std::vector<std::string>> columns;  ///< columns to keep; null: all
  std::optional<double> fraction;  ///< share of this part in the mixture, before normalisation
  std::optional<double> weight;    ///< share of the part's own rows that is taken; null: all
};

/// TRL's `dataset_kwargs`: known, and nothing of it is needed.
struct DatasetKwargs {};

struct DataOptions {
  std::vector<std::string> dataset_name;
  std::string dataset_train_split = "train";
  std::string dataset_test_split = "test";
  std::vector<DatasetSource> datasets;
  HandbookData handbook;  ///< empty once resolved: read as the keys around it
  std::optional<double> test_split_size;
  std::string dataset_text_field = "text";
  Json dataset_columns =
      nullptr;  ///< object: wanted column to its name in the file; null: none is renamed
  std::optional<int64_t> dataset_num_proc;
  DatasetKwargs dataset_kwargs;
  BadRowPolicy on_bad_row = BadRowPolicy::error;
  std::optional<std::string> cache_dir;
};

void declare(OptionSet& set, DataOptions& options);

/// Reads the alignment-handbook's mixtures as `datasets`, `dataset_name` and the splits. Adds a note
/// where `dataset_name` is not read because of `datasets`.
void resolve(DataOptions& options, std::vector<std::string>* notes);
void validate(const DataOptions& options, bool needs_rows, Problems& problems);

}  // namespace rlhf
