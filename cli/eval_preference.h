// rlhf eval on preference data: how often a model prefers the chosen answer.
#pragma once

#include <string>

#include "cli/eval_measures.h"
#include "cli/inference.h"

namespace rlhf::cli {

/// Scores every pair and gives the line that is written. A reward model judges by its scores, a
/// language model by its implicit reward, β (log π(y|x) − log π_ref(y|x)) (Rafailov et al., arXiv
/// 2305.18290, section 4), without the second term where there is no reference.
/// Of `options` the reference and the size of a pass count.
Json evaluate_preference(const InferenceOptions& inference, const MeasureOptions& options,
                         double beta);

/// The same for people.
std::string readable_preference(const Json& result);

}  // namespace rlhf::cli
