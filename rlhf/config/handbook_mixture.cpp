#include "rlhf/config/handbook_mixture.h"

#include <algorithm>

#include "rlhf/config/data_options.h"
#include "rlhf/core/file.h"

namespace rlhf {
namespace {

void declare_part(OptionSet& set, HandbookPart& part) {
  set.add("id", part.id, "A JSONL file (plain or gzip), or a folder with a file for each split.");
  set.add("config", part.config, "Folder inside id, where there is one of that name.");
  set.add("split", part.split, "Which file of a folder: train reads train.jsonl.");
  set.add("columns", part.columns, "Columns to keep; null: all.");
  set.add("weight", part.weight, "Share of the part's own rows that is taken, from its first on.")
      .between(0, 1)
      .above(0);
}

void declare_mixture(OptionSet& set, HandbookMixture& mixture) {
  set.add_records("datasets", mixture.datasets, "The parts.", declare_part);
  set.add("test_split_size", mixture.test_split_size, "Read as test_split_size.").above(0);
  set.add_inert({InertKey::Status::accepted, "seed", 0,
                 "the run's seed chooses the rows that test_split_size sets aside."});
}

struct Splits {
  std::vector<std::string> train;
  std::vector<std::string> test;
  bool complete = true;  ///< every name says which it is
};

/// As the handbook takes them: by the word in their names.
Splits splits_of(const std::optional<std::vector<std::string>>& names) {
  Splits splits;
  for (const auto& name : names.value_or(std::vector<std::string>{"train", "test"})) {
    if (name.find("train") != std::string::npos) {
      splits.train.push_back(name);
    } else if (name.find("test") != std::string::npos) {
      splits.test.push_back(name);
    } else {
      splits.complete = false;
    }
  }
  return splits;
}

bool is_share(const Json& value) {
  return value.is_number() && value.get<double>() > 0 && value.get<double>() <= 1;
}

bool is_mixer(const Json& mixer) {
  return mixer.is_object() && !mixer.empty() && std::all_of(mixer.begin(), mixer.end(), is_share);
}

DatasetSource source_of(HandbookPart& part) {
  DatasetSource source{.path = std::move(part.id),
                       .data_dir = {},
                       .data_files = {},
                       .split = std::move(part.split),
                       .columns = std::move(part.columns),
                       .fraction = {},
                       .weight = {}};
  if (part.config && fs::is_directory(fs::path(source.path) / *part.config))
    source.data_dir = part.config;
  if (part.weight != 1.0) source.weight = part.weight;
  return source;
}

void fold_mixture(DataOptions& options) {
  HandbookMixture& mixture = options.handbook.mixture;
  if (mixture.datasets.empty() || !options.datasets.empty()) return;
  for (auto& part : mixture.datasets) options.datasets.push_back(source_of(part));
  if (mixture.test_split_size) options.test_split_size = mixture.test_split_size;
  mixture = {};
}

/// Whole sets of one split are named by `dataset_name`, which has a test split; others are parts.
void fold_mixer(DataOptions& options) {
  HandbookData& handbook = options.handbook;
  const Splits splits = splits_of(handbook.splits);
  if (!splits.complete || splits.train.empty()) return;
  const bool one_each = splits.train.size() == 1 && splits.test.size() <= 1;
  if (handbook.mixer.is_null()) {
    if (!handbook.splits || !one_each) return;
  } else if (!is_mixer(handbook.mixer) || !options.datasets.empty() ||
             !options.dataset_name.empty()) {
    return;
  }
  const bool whole = std::all_of(handbook.mixer.begin(), handbook.mixer.end(),
                                 [](const Json& share) { return share.get<double>() == 1.0; });
  if (whole && one_each) {
    for (const auto& [path, share] : handbook.mixer.items()) options.dataset_name.push_back(path);
    options.dataset_train_split = splits.train.front();
    if (!splits.test.empty()) options.dataset_test_split = splits.test.front();
  } else {
    for (const auto& [path, share] : handbook.mixer.items()) {
      for (const auto& split : splits.train) {
        HandbookPart part{
            .id = path, .config = {}, .split = split, .columns = {}, .weight = share.get<double>()};
        options.datasets.push_back(source_of(part));
      }
    }
  }
  handbook.mixer = nullptr;
  handbook.splits.reset();
}

}  // namespace

void declare(OptionSet& set, HandbookData& data) {
  set.add_record("dataset_mixture", data.mixture,
                 "The alignment-handbook's mixture, read as datasets and test_split_size.",
                 declare_mixture);
  set.add("dataset_mixer", data.mixer,
          "The alignment-handbook's older mixture, {path: share of its rows}; read as dataset_name "
          "where all shares are 1, else as datasets.");
  set.add("dataset_splits", data.splits,
          "Of dataset_mixer: names with train in them are trained on, those with test evaluated; "
          "null: train and test.");
}

bool is_empty(const HandbookData& data) {
  return data.mixture.datasets.empty() && data.mixer.is_null();
}

void fold_handbook_data(DataOptions& options) {
  fold_mixture(options);
  if (!options.handbook.mixer.is_null() || options.handbook.splits) fold_mixer(options);
}

void validate(const HandbookData& data, Problems& problems) {
  const std::string keep = "keep one of the two.";
  if (!data.mixture.datasets.empty())
    problems.add("dataset_mixture", "datasets names the parts already.", keep);
  const Splits splits = splits_of(data.splits);
  const bool usable = splits.complete && !splits.train.empty();
  if (data.splits && !usable) {
    problems.add("dataset_splits",
                 fmt::format("expected names with train or test in them, one with train at least, "
                             "got {}.",
                             fmt::join(*data.splits, ", ")),
                 "set dataset_train_split and dataset_test_split.");
  }
  if (!data.mixer.is_null()) {
    if (!is_mixer(data.mixer)) {
      problems.add(
          "dataset_mixer",
          fmt::format("expected paths with a share above 0, at most 1, got {}.", data.mixer.dump()),
          "for example {data/preferences: 1.0}.");
    } else if (usable) {
      problems.add("dataset_mixer", "dataset_name or datasets names the data already.", keep);
    }
  } else if (data.splits && usable) {
    problems.add("dataset_splits", "there is no dataset_mixer to take several splits of.",
                 "list the parts under datasets: path and split.");
  }
}

}  // namespace rlhf
