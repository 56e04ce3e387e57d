// How often a judge agrees with preference pairs, and how often length alone would.
//
//   accuracy         share of pairs whose chosen answer scores above the rejected one
//   margin           chosen score − rejected score
//   length baseline  accuracy of preferring the longer answer: what a judge must beat to have
//   learned more than length (Singhal et al., arXiv 2310.03716)
//
// A tie counts half, for the judge as for the baseline: a judge that cannot tell is right half the
// time. The pairs are the sample: Wilson's interval of accuracies, the bootstrap of the margin.
#pragma once

#include <cstdint>
#include <span>

#include "rlhf/rewards/estimates.h"

namespace rlhf {

/// What is known of one pair.
struct ScoredPair {
  double chosen = 0.0;        ///< score of the chosen answer
  double rejected = 0.0;      ///< score of the rejected one
  int64_t chosen_tokens = 0;  ///< length of the answer
  int64_t rejected_tokens = 0;
};

struct PreferenceSummary {
  int64_t pairs = 0;
  int64_t ties = 0;  ///< pairs with equal scores
  Estimate accuracy{};
  Estimate margin{};  ///< mean margin
  Estimate length_baseline{};
};

/// How right preferring the longer answer is about one pair: 1, 0, or ½ at equal lengths.
double length_preference(int64_t chosen_tokens, int64_t rejected_tokens);

/// Of one pair or more. Error where a score is not a number.
PreferenceSummary summarize(std::span<const ScoredPair> pairs);

}  // namespace rlhf
