// Where rows come from, as recipes of the alignment-handbook say it: `dataset_mixture` (parts with a
// weight each), and the older `dataset_mixer` (paths with a share each) with `dataset_splits`. They
// are read as `datasets`, `dataset_name` and the splits, and then are empty.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rlhf/core/options.h"

namespace rlhf {

struct DataOptions;

struct HandbookPart {
  std::string id;                     ///< file or folder
  std::optional<std::string> config;  ///< a folder inside `id`, where there is one of that name
  std::string split = "train";
  std::optional<std::vector<std::string>> columns;  ///< columns to keep; null: all
  double weight = 1.0;                              ///< share of the part's own rows
};

struct HandbookMixture {
  std::vector<HandbookPart> datasets;
  std::optional<double> test_split_size;
};

struct HandbookData {
  HandbookMixture mixture;
  Json mixer = nullptr;  ///< object: path to the share of its rows
  std::optional<std::vector<std::string>> splits;
};

void declare(OptionSet& set, HandbookData& data);

bool is_empty(const HandbookData& data);

/// Moves `options.handbook` into the keys it stands for. What contradicts another key or is not of
/// its form stays, and validate() says so.
void fold_handbook_data(DataOptions& options);

/// Problems of what fold_handbook_data() left.
void validate(const HandbookData& data, Problems& problems);

}  // namespace rlhf
