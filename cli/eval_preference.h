// rlhf eval on preference data: how often a model prefers the chosen answer.
#pragma once

#include <optional>
#include <string>

#include "cli/inference.h"

namespace rlhf::cli {

/// Keys of it alone.
struct PreferenceOptions {
  std::optional<std::string> ref_model;
  double beta = 0.1;
  int64_t max_tokens = 8192;
};
void declare(OptionSet& set, PreferenceOptions& options);

/// Scores every pair and gives the line that is written. A reward model judges by its scores, a
/// language model by its implicit reward, β (log π(y|x) − log π_ref(y|x)) (Rafailov et al., arXiv
/// 2305.18290, section 4), without the second term where there is no reference.
Json evaluate_preference(const InferenceOptions& inference, const PreferenceOptions& options);

/// The same for people.
std::string readable_preference(const Json& result);

}  // namespace rlhf::cli
