#include "rlhf/config/data_options.h"

#include <algorithm>
#include <cmath>

#include "rlhf/config/inert_keys.h"

namespace rlhf {
namespace {

void declare_source(OptionSet& set, DatasetSource& source) {
  set.add("path", source.path,
          "A JSONL file (plain or gzip), or a folder with a file for each split.");
  set.add("data_dir", source.data_dir, "Folder inside path.");
  set.add("data_files", source.data_files, "Files inside path; null: the one of the split.")
      .advice("list the files of one part; another split is another part.");
  set.add("split", source.split, "Which file of a folder: train reads train.jsonl.");
  set.add("columns", source.columns, "Columns to keep; null: all.");
  set.add("fraction", source.fraction,
          "Share in the mixture. Shares are normalised to sum to 1; no row is used twice. For all "
          "parts or none.")
      .above(0);
  set.add("weight", source.weight,
          "Share of the part's own rows that is taken, from its first on; null: all. Not beside "
          "fraction.")
      .between(0, 1)
      .above(0);
  set.add_inert({InertKey::Status::accepted, "name", nullptr,
                 "configurations are a notion of the Hub; name the folder or file in path."});
}

void declare_dataset_kwargs(OptionSet& set, DatasetKwargs&) {
  set.add_inert({InertKey::Status::accepted, "skip_prepare_dataset", false,
                 "rows that carry token ids are always taken as they are."});
  set.add_inert({InertKey::Status::accepted, "add_special_tokens", true,
                 "TRL does not read it either: conversations get the chat template's tokens alone, "
                 "plain text those of the tokenizer."});
  set.add_inert({InertKey::Status::accepted, "append_concat_token", false,
                 "it separated packed rows, which never see each other here."});
}

}  // namespace

void declare(OptionSet& set, DataOptions& options) {
  set.group("Data");
  set.add("dataset_name", options.dataset_name,
          "One or several JSONL files (plain or gzip) or folders with train.jsonl and test.jsonl.");
  set.add("dataset_train_split", options.dataset_train_split, "Split to train on.");
  set.add("dataset_test_split", options.dataset_test_split, "Split to evaluate on.");
  set.add_records("datasets", options.datasets, "A mixture, in place of dataset_name.",
                  declare_source);
  declare(set, options.handbook);
  set.add("test_split_size", options.test_split_size,
          "Rows of the training split to hold out for evaluation: a share below 1, or a count.")
      .above(0);
  set.add("dataset_text_field", options.dataset_text_field, "Column of plain text rows.");
  set.add("dataset_columns", options.dataset_columns,
          "Columns to rename: wanted name to the name in the file, such as {prompt: question, "
          "completion: answer}.");
  set.add("dataset_num_proc", options.dataset_num_proc,
          "Threads that encode rows; null: all of threads.")
      .at_least(1)
      .old_name("preprocessing_num_workers");
  set.add_record("dataset_kwargs", options.dataset_kwargs,
                 "TRL's keys for preparing a dataset; none is needed here.",
                 declare_dataset_kwargs);
  set.add("on_bad_row", options.on_bad_row,
          "What a row that cannot be read or encoded does: stop, or be counted and left out.");
  set.add("cache_dir", options.cache_dir,
          "Folder for encoded rows, shared by runs; null: rlhf in $XDG_CACHE_HOME or in ~/.cache.");
}

void resolve(DataOptions& options, std::vector<std::string>* notes) {
  fold_handbook_data(options);
  if (notes != nullptr && !options.datasets.empty() && !options.dataset_name.empty()) {
    notes->emplace_back("[dataset_name] has no effect: datasets is given and takes its place.");
  }
}

void validate(const DataOptions& options, bool needs_rows, Problems& problems) {
  const Json& columns = options.dataset_columns;
  const bool names =
      columns.is_object() && std::all_of(columns.begin(), columns.end(),
                                         [](const Json& name) { return name.is_string(); });
  if (!columns.is_null() && !names) {
    problems.add("dataset_columns",
                 fmt::format("expected a mapping of names to names, got {}.", columns.dump()),
                 "write --dataset_columns '{prompt: question, completion: answer}'.");
  }
  const bool named =
      !options.datasets.empty() || !options.dataset_name.empty() || !is_empty(options.handbook);
  if (needs_rows && !named) {
    problems.add("dataset_name", "expected a data file or folder, got nothing.",
                 "pass --dataset_name FILE, or list several under datasets.");
  }
  const auto shared = std::count_if(options.datasets.begin(), options.datasets.end(),
                                    [](const auto& source) { return source.fraction.has_value(); });
  if (shared != 0 && shared != static_cast<std::ptrdiff_t>(options.datasets.size())) {
    problems.add(
        "datasets",
        fmt::format("fraction is set for {} of {} parts.", shared, options.datasets.size()),
        "set it for all or for none.");
  }
  for (size_t i = 0; i < options.datasets.size(); ++i) {
    if (options.datasets[i].path.empty()) {
      problems.add(fmt::format("datasets[{}].path", i), "expected a file or folder, got nothing.");
    }
    if (options.datasets[i].weight && options.datasets[i].fraction) {
      problems.add(fmt::format("datasets[{}].weight", i),
                   "fraction says how many rows the part gives.", "keep one of the two.");
    }
  }
  validate(options.handbook, problems);
  if (options.test_split_size && *options.test_split_size >= 1 &&
      std::trunc(*options.test_split_size) != *options.test_split_size) {
    problems.add("test_split_size",
                 fmt::format("expected a share below 1 or a whole number of rows, got {}.",
                             *options.test_split_size));
  }
}

}  // namespace rlhf
