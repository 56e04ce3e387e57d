#include "rlhf/report/run_record.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>
#include <unordered_map>

#include "rlhf/core/config_node.h"
#include "rlhf/report/json_lines.h"

namespace rlhf {
namespace {

/// Adds one value; what the series had from `step` on was said before the file went back to it.
void add_value(MetricSeries& series, int64_t step, double value) {
  while (!series.steps.empty() && series.steps.back() >= step) {
    series.steps.pop_back();
    series.values.pop_back();
  }
  series.steps.push_back(step);
  series.values.push_back(std::isfinite(value) ? value : std::numeric_limits<double>::quiet_NaN());
}

std::string line_text(const ConfigNode& node) {
  return node.kind == ConfigNode::Kind::scalar && !node.is_null() ? node.text
                                                                  : yaml_flow(to_json(node));
}

std::vector<std::pair<std::string, std::string>> read_config(const fs::path& path,
                                                             std::vector<std::string>& notes) {
  std::vector<std::pair<std::string, std::string>> config;
  if (!fs::exists(path)) {
    notes.push_back(Problem{.where = path.string(),
                            .what = "the configuration of the run was expected, there is none.",
                            .hint = "curves and completions are shown without it."}
                        .text());
    return config;
  }
  try {
    for (const auto& [key, node] : read_config_file(path).entries)
      config.emplace_back(key, line_text(node));
  } catch (const UserError& error) {
    for (const auto& problem : error.problems()) notes.push_back(problem.text());
  }
  return config;
}

/// Absolute, without dots and without a slash at its end.
fs::path plain_path(const fs::path& path) {
  fs::path plain = fs::absolute(path).lexically_normal();
  return plain.has_filename() || !plain.has_parent_path() ? plain : plain.parent_path();
}

std::string last_parts(const fs::path& path, size_t parts) {
  std::vector<fs::path> all(path.begin(), path.end());
  fs::path kept;
  for (size_t i = all.size() - std::min(parts, all.size()); i < all.size(); ++i) kept /= all[i];
  return kept.string();
}

void check_folders(const std::vector<fs::path>& folders) {
  Problems problems;
  std::set<fs::path> seen;
  for (const auto& folder : folders) {
    if (!fs::is_regular_file(folder / "metrics.jsonl")) {
      problems.add(folder.string(),
                   !fs::exists(folder) ? "a run folder was expected, there is nothing of this name."
                                       : "a run folder was expected, it has no metrics.jsonl.",
                   "name the output_dir of a training command.");
    } else if (!seen.insert(fs::canonical(folder)).second) {
      problems.add(folder.string(), "each run was expected once, it stands there twice.",
                   "leave one out.");
    }
  }
  problems.throw_if_any();
}

}  // namespace

std::vector<MetricSeries> parse_metrics(std::string_view text, const std::string& where,
                                        std::vector<std::string>& notes) {
  std::vector<MetricSeries> metrics;
  std::unordered_map<std::string, size_t> places;
  std::set<std::string> no_numbers;
  std::istringstream lines{std::string(text)};
  for_each_step_line(lines, where, notes, [&](const Json& row, int64_t) {
    const auto step = row.at("step").get<int64_t>();
    for (const auto& [name, value] : row.items()) {
      if (name == "step") continue;
      if (!value.is_number() && !value.is_null()) {
        no_numbers.insert(name);
        continue;
      }
      const auto [place, added] = places.try_emplace(name, metrics.size());
      if (added) metrics.push_back({.name = name, .steps = {}, .values = {}});
      add_value(metrics[place->second], step, number_or_nan(row, name));
    }
  });
  for (const auto& name : no_numbers)
    notes.push_back(
        fmt::format("[{}] `{}` has values that are no numbers; they were left out.", where, name));
  return metrics;
}

std::vector<std::string> distinct_names(const std::vector<fs::path>& folders) {
  std::vector<fs::path> paths;
  size_t longest = 1;
  for (const auto& folder : folders) {
    paths.push_back(plain_path(folder));
    longest = std::max<size_t>(longest, std::distance(paths.back().begin(), paths.back().end()));
  }
  std::vector<std::string> names(paths.size());
  for (size_t i = 0; i < paths.size(); ++i) {
    for (size_t parts = 1; parts <= longest; ++parts) {
      names[i] = last_parts(paths[i], parts);
      const auto same = std::count_if(paths.begin(), paths.end(), [&](const fs::path& other) {
        return last_parts(other, parts) == names[i];
      });
      if (same == 1) break;
    }
  }
  return names;
}

std::vector<RunRecord> read_runs(const std::vector<fs::path>& folders, const KeepLimits& limits) {
  check_folders(folders);
  const auto names = distinct_names(folders);
  std::vector<RunRecord> runs;
  for (size_t i = 0; i < folders.size(); ++i) {
    RunRecord run{.name = names[i],
                  .folder = folders[i],
                  .metrics = {},
                  .config = {},
                  .completions = {},
                  .notes = {}};
    const fs::path metrics = folders[i] / "metrics.jsonl";
    run.metrics = parse_metrics(read_file(metrics), metrics.string(), run.notes);
    if (run.metrics.empty()) {
      run.notes.push_back(Problem{.where = metrics.string(),
                                  .what = "no step is logged yet.",
                                  .hint = "logging_steps says how often a run logs."}
                              .text());
    }
    run.config = read_config(folders[i] / "config.yaml", run.notes);
    run.completions = read_completions(folders[i] / "completions.jsonl", limits, run.notes);
    runs.push_back(std::move(run));
  }
  return runs;
}

}  // namespace rlhf
