// The choice of one token from one row of logits.
//
// Filters act in the order of transformers' generate():
//   repetition penalty   z := z / p where z > 0, z · p else, for every token of the row so far
//                        (CTRL, arXiv 1909.05858)
//   temperature          z := z / T
//   top-k                z >= the k-th largest (ties with it stay)
//   top-p                the smallest set of most likely tokens with mass >= p, after top-k
//                        (arXiv 1904.09751)
//   min-p                probability >= min_p · the largest (arXiv 2407.01082)
//
// and one uniform number picks from what is kept, by the inverse of the distribution function in
// order of token ids. T = 0 takes the largest logit after the penalty, the lowest id where several
// are equal.
//
// Two log-probabilities: `logprob` under the full softmax of the raw logits at T (at 1 where T =
// 0), what the trainer computes and `rlhf score --temperature T` prints; `sampling_logprob` under
// what was sampled from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/error.h"

namespace rlhf {

struct SamplingOptions {
  double temperature = 1.0;         ///< T; 0 is greedy
  int64_t top_k = 0;                ///< 0 for none
  double top_p = 1.0;               ///< 1 for none
  double min_p = 0.0;               ///< 0 for none
  double repetition_penalty = 1.0;  ///< p; 1 for none
  int64_t max_new_tokens = 256;
  int64_t num_generations = 1;         ///< samples a prompt
  std::vector<int32_t> stop_ids = {};  ///< any of these ends a completion and belongs to it
  bool ignore_eos =
      false;  ///< stop_ids do not end a completion: all have max_new_tokens (benchmarks)
  uint64_t seed = 0;
  uint64_t step = 0;  ///< the trainer's step: a second key of the random streams

  /// Adds every value out of range, `where` as in "generate".
  void check(const std::string& where, Problems& problems) const;
  /// Whether the sampling distribution can differ from the full softmax at T.
  bool filters() const;
};

struct ChosenToken {
  int32_t id = 0;
  float logprob = 0.0f;
  float sampling_logprob = 0.0f;  ///< equal to logprob where nothing filters; 0 at T = 0
};

/// Chooses tokens; holds the scratch rows of one thread and no state between choices.
class Sampler {
 public:
  /// `logits` (V) are overwritten. `seen`: distinct tokens of the row so far, read only with a
  /// repetition penalty. `uniform` in [0, 1). Error where a logit is NaN.
  ChosenToken choose(std::span<float> logits, std::span<const int32_t> seen,
                     const SamplingOptions& options, double uniform);

  /// Ids that the filters keep, ascending; for tests and inspection. `logits` are overwritten.
  std::vector<int32_t> kept(std::span<float> logits, std::span<const int32_t> seen,
                            const SamplingOptions& options);

 private:
  void keep_most_likely(std::span<const float> logits, const SamplingOptions& options);

  std::vector<float> weights_;  ///< e^(z − max), by id
  std::vector<float> sorted_;
  std::vector<int32_t> kept_;
};

}  // namespace rlhf
