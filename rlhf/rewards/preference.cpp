#include "rlhf/rewards/preference.h"

#include <cmath>
#include <vector>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

/// 1 where the first is larger, 0 where the second is, ½ between.
template <class Number>
double above(Number a, Number b) {
  if (a == b) return 0.5;
  return a > b ? 1.0 : 0.0;
}

double mean(std::span<const double> values) {
  double sum = 0.0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

/// Of values 0, ½ and 1.
Estimate share(std::span<const double> values) {
  const double found = mean(values);
  return {found, wilson_interval_of_mean(found, std::ssize(values)), "wilson"};
}

}  // namespace

double length_preference(int64_t chosen_tokens, int64_t rejected_tokens) {
  return above(chosen_tokens, rejected_tokens);
}

PreferenceSummary summarize(std::span<const ScoredPair> pairs) {
  check(!pairs.empty(), "summarize", "expected at least one pair, got none");
  PreferenceSummary summary;
  std::vector<double> right;
  std::vector<double> margins;
  std::vector<double> longer;
  for (const ScoredPair& pair : pairs) {
    check(!std::isnan(pair.chosen) && !std::isnan(pair.rejected), "summarize",
          "expected numbers as scores, got {} and {} for pair {}", pair.chosen, pair.rejected,
          right.size());
    summary.ties += pair.chosen == pair.rejected;
    right.push_back(above(pair.chosen, pair.rejected));
    margins.push_back(pair.chosen - pair.rejected);
    longer.push_back(length_preference(pair.chosen_tokens, pair.rejected_tokens));
  }
  summary.pairs = std::ssize(pairs);
  summary.accuracy = share(right);
  summary.margin = {mean(margins), bootstrap_interval(margins), "bootstrap over pairs"};
  summary.length_baseline = share(longer);
  return summary;
}

}  // namespace rlhf
