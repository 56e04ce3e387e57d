// What `rlhf dpo` minimises, from the log-probabilities of pairs to a number, and what it logs.
//
//   L = Σ_k w_k · (1/B) Σ_pairs l_k · ω  +  w_sft · NLL+ / N+  +  pref_ftx · (1/B) Σ_pairs NLL+ /
//   |y+|
//
// B pairs and N+ chosen tokens of the whole step; l_k of rlhf/losses; ω the weights of WPO; NLL+
// the negative log-likelihood of a chosen answer. cpo and simpo add cpo_alpha · NLL+ / N+, orpo the
// token mean over prompts and chosen answers. Every term is a sum over pairs with a divisor that is
// known before the first backward, so a step may be cut between any two pairs.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rlhf/config/dpo_config.h"
#include "rlhf/data/pairs.h"
#include "rlhf/losses/dpo.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/train/answer_batch.h"
#include "rlhf/train/run.h"

namespace rlhf {

/// What the objective sees of b pairs. All (b), on the policy's device.
struct PairScores {
  PairLogps logps;             ///< differentiable in the policy's part
  at::Tensor chosen_nll;       ///< −Σ log p over chosen answers, differentiable
  at::Tensor prompt_nll = {};  ///< of their prompts; orpo only
  at::Tensor weights = {};     ///< ω, no gradient; with use_weighting only

  int64_t size() const { return logps.chosen.size(0); }
};

/// Counts over a whole step, or a whole evaluation.
struct PairCounts {
  int64_t pairs = 0;
  int64_t chosen_tokens = 0;         ///< scored tokens of chosen answers
  int64_t chosen_prompt_tokens = 0;  ///< the same and their prompts'
  int64_t tokens = 0;  ///< of both members of all pairs, prompts counted twice, as TRL counts

  static PairCounts of(const PairDataset& data, std::span<const int64_t> rows);
};

/// Whether the batch must score prompts, too.
bool scores_prompts(const DpoOptions& options);

/// What is asked of the head for these options.
LogprobOptions head_options(const DpoOptions& options, int64_t keep_logits_bytes);

/// Sums a pass's log-probabilities by pair. `reference` (R) or undefined.
PairScores pair_scores(const DpoOptions& options, const PairDataset& data, const AnswerBatch& batch,
                       const RowLogprobs& policy, const at::Tensor& reference);

/// The share of these pairs in the step's loss; differentiable.
at::Tensor dpo_objective(const DpoOptions& options, const PairScores& scores,
                         const PairCounts& counts);

/// Pairs of several passes as one, without their gradients: what losses over the whole step see.
PairScores join_scores(std::span<const PairScores> parts);

/// Sums of what is logged, over pairs and tokens, divided once.
class PairMetrics {
 public:
  void add(const DpoOptions& options, const AnswerBatch& batch, const PairScores& scores,
           const RowLogprobs& policy);
  /// TRL's names, after `prefix`.
  Metrics means(const DpoOptions& options, const PairCounts& counts,
                const std::string& prefix) const;

 private:
  struct Side {
    double reward = 0.0;
    double logp = 0.0;
    double logits = 0.0;
    int64_t tokens = 0;
  };
  Side chosen_;
  Side rejected_;
  double wins_ = 0.0;
  double entropy_ = 0.0;
  double correct_ = 0.0;
  double nll_ = 0.0;
  double odds_ratio_ = 0.0;
  double odds_ = 0.0;
};

}  // namespace rlhf
