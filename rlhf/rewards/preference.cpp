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

}  // namespace

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
    longer.push_back(above(pair.chosen_tokens, pair.rejected_tokens));
  }
  summary.pairs = std::ssize(pairs);
  summary.accuracy = estimate(right);
  summary.margin = estimate(margins);
  summary.length_baseline = estimate(longer);
  return summary;
}

}  // namespace rlhf
