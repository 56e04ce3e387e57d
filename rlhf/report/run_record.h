// A run folder read back, as far as its files are whole: a run may still be writing them, or may
// have been killed. What could not be read is said in `notes`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/file.h"
#include "rlhf/report/completion_log.h"

namespace rlhf {

/// One metric over steps, in order of steps, each step once.
struct MetricSeries {
  std::string name;
  std::vector<int64_t> steps;
  std::vector<double> values;  ///< NaN where the run logged a number that is not finite
};

struct RunRecord {
  std::string name;  ///< the folder's name, with as much of its path as tells it from the others
  fs::path folder;
  std::vector<MetricSeries> metrics;                        ///< in order of first appearance
  std::vector<std::pair<std::string, std::string>> config;  ///< key and value of config.yaml
  CompletionLog completions;
  std::vector<std::string> notes;  ///< what is missing or broken, as messages
};

/// The metrics in the text of a metrics.jsonl. A step that stands again, as in a file that was
/// pieced together, replaces what was said from it on. Messages about lines that could not be used
/// go to `notes`; `where` names the file in them.
std::vector<MetricSeries> parse_metrics(std::string_view text, const std::string& where,
                                        std::vector<std::string>& notes);

/// The names of folders: the last part of each path, and more of it where two are equal.
std::vector<std::string> distinct_names(const std::vector<fs::path>& folders);

/// Reads the runs. UserError naming every path that is no run folder (it has no metrics.jsonl) or
/// stands there twice.
std::vector<RunRecord> read_runs(const std::vector<fs::path>& folders, const KeepLimits& limits);

}  // namespace rlhf
