// How the rows of a step are cut into micro-batches.
//
// A micro-batch's graph is gone when the next one begins; its gradients stay, and stand beside the
// graphs of all that follow. The first one meets none: with the same peak it may be larger than the
// others by its head start, the tokens whose graph takes as many bytes as gradients do. So a step
// goes through the model in as many micro-batches as their limit asks for, its longest rows first
// (completions stay with their prompts, in order), and those behind the first are as small as that
// number allows. No cut changes a result.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace rlhf {

struct MicrobatchSize {
  int64_t tokens = 0;      ///< at most; a longer row stands alone
  int64_t most_first = 0;  ///< of a step's first at most; 0: rows stay in order
  int64_t head_start = 0;  ///< tokens that the first may have more than the others
};

/// Tokens of a step's micro-batches.
struct StepTokenLimits {
  int64_t first = 0;
  int64_t others = 0;
};

/// The limits with the smallest `others` with which a step has as many micro-batches as where all
/// may have `size.tokens`, and none behind the first has more than its limit. `cut` says the tokens
/// of a step's micro-batches.
StepTokenLimits smallest_limits(
    const MicrobatchSize& size,
    const std::function<std::vector<int64_t>(const StepTokenLimits&)>& cut);

/// The rows of each micro-batch, as indices into `lengths`, in rising order within each.
std::vector<std::vector<int64_t>> cut_rows(std::span<const int64_t> lengths,
                                           const MicrobatchSize& size);

}  // namespace rlhf
