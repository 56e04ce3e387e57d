// The rows of a run, as every method reads them: training rows, and evaluation rows where the run
// evaluates, checked against the model.
#pragma once

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "rlhf/train/policy.h"
#include "rlhf/train/run.h"
#include "rlhf/train/setup.h"

namespace rlhf {

/// `Data` is an encoded set: rows(), lengths(), content().
template <class Data>
struct RunData {
  std::optional<Data> train;
  std::optional<Data> eval;
  std::string train_fingerprint;
  std::string eval_fingerprint;
};

/// Tokens of the longest row.
template <class Data>
int64_t longest_row(const Data& data) {
  const auto lengths = data.lengths();
  return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
}

/// One set of rows, and what became of them as text.
template <class Data>
struct ReadRows {
  Data data;
  std::string statistics;
};

/// Reads both sets with `read(spec, for_evaluation)`, says what became of the rows, and checks ids
/// and lengths against the policy, if there is one. What is wrong goes into `checks`.
template <class Data, class Read>
RunData<Data> read_run_data(const CommonConfig& config, const TrainHooks& hooks,
                            const std::optional<Policy>& policy, SetupChecks& checks, Read read) {
  RunData<Data> made;
  RowLimits limits;
  const auto take = [&](const DataSpec& spec, bool evaluation, std::optional<Data>& data,
                        std::string& fingerprint) {
    ReadRows<Data> rows = read(spec, evaluation);
    if (hooks.on_text) {
      hooks.on_text(
          fmt::format("{} data\n{}", evaluation ? "evaluation" : "training", rows.statistics));
    }
    data.emplace(std::move(rows.data));
    const auto content = data->content();
    fingerprint = content.fingerprint;
    limits.widen(content.least, content.largest);
    limits.longest = std::max(limits.longest, longest_row(*data));
  };
  std::optional<DataSpecs> specs;
  checks.attempt(
      [&] { specs = data_specs(config.data, static_cast<uint64_t>(config.training.seed)); });
  if (!specs) return made;
  checks.attempt([&] { take(specs->train, false, made.train, made.train_fingerprint); });
  if (evaluates(config.training)) {
    checks.attempt([&] {
      take(evaluation_spec(*specs, config.data), true, made.eval, made.eval_fingerprint);
    });
  }
  if (policy) checks.attempt([&] { check_rows_fit(limits, policy->config()); });
  return made;
}

/// 0, 1, …, rows − 1.
inline std::vector<int64_t> all_rows(int64_t rows) {
  std::vector<int64_t> all(static_cast<size_t>(rows));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

}  // namespace rlhf
