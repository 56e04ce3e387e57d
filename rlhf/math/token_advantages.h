// Advantages of single tokens.
//
//   reinforce_pp            G_t = Σ_{s≥t} γ^{s−t} (R [s = last] − β KL_s),   KL_s = log π_old − log π_ref
//   reinforce_pp_baseline   G_t = R_i − mean_g, the same for all tokens
//                           A_t = (G_t − mean_all G) / √(var_all G + 1e−8), over all tokens
//   process                 z = (r − mean_g) / (std_g + 1e−4) over all step rewards of the group,
//                           A_t = Σ z of the steps that end at t or later
//
//   | symbol | parameter                | range                                       |
//   |--------|--------------------------|---------------------------------------------|
//   | β      | beta                     | at least 0; 0: no penalty                   |
//   | γ      | gamma                    | in [0, 1]; 1                                |
//   | r      | StepReward::reward       | one a step; none where none applies         |
//
// A completion without a reward (none) is no part of any statistic; its advantages are 0. Variances
// and deviations are those of a sample (n − 1); no spread gives exactly 0.
//
// Source: Hu et al., REINFORCE++ (arXiv 2501.03262); Shao et al., DeepSeekMath (arXiv 2402.03300),
// section 4.1.3.
//
// Worked case, reinforce_pp: β = 1, γ = 1, one completion of two tokens, R = 3, KL = (1, 2):
// G = (−1 + 1, 1) = (0, 1); mean ½, variance ½: ∓½/√(½ + 1e−8). process: a group of two, steps that
// end at tokens 0 and 2 with rewards 1 and 3, and one at token 1 with reward 2: mean 2, deviation 1:
// z = −1, 1 and 0 (over 1.0001): A = (0, 1, 1) and (0, 0).
//
// Departures: the 1e−8 in the root and the 1e−4 beside the deviation, which the papers do not have.
#pragma once

#include "rlhf/math/advantages.h"

namespace rlhf {

using TokenValues = std::vector<std::vector<double>>;  ///< (completions) of (tokens)

/// `tokens` (completions): |o_i|. `kl` gives KL of each token; it is not read where beta is 0. No
/// group is needed. Error where shapes do not fit or γ is out of range.
TokenValues reinforce_pp_advantages(std::span<const std::optional<double>> rewards,
                                    std::span<const int64_t> tokens, const TokenValues& kl,
                                    double beta, double gamma = 1.0);

/// Error for a group of one.
TokenValues reinforce_pp_baseline_advantages(std::span<const std::optional<double>> rewards,
                                             std::span<const int64_t> tokens,
                                             const GroupSizes& groups);

/// One step of a completion.
struct StepReward {
  int64_t last_token = 0;  ///< its last, counted from the completion's first
  std::optional<double> reward;
};

/// Process supervision. `steps` is (completions) of (steps). By batch the deviation is that of all
/// step rewards, by none there is no division. Error for a group of one, and for a step that ends
/// outside its completion.
TokenValues process_advantages(std::span<const std::vector<StepReward>> steps,
                               std::span<const int64_t> tokens, const GroupSizes& groups,
                               RewardScale scale);

}  // namespace rlhf
