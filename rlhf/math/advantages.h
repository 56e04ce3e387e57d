// Advantages from the rewards of groups: P prompts with G completions each, group by group. A
// reward of none takes its completion out of every statistic and gives it advantage 0.
//
//   group    A_i = (R_i − mean_g) / (std_g + 1e−4)        GRPO (arXiv 2402.03300, section 4.1.2)
//   batch    A_i = (R_i − mean_g) / (std_all + 1e−4)      Lite PPO (arXiv 2508.08221)
//   none     A_i = R_i − mean_g                           Dr. GRPO (arXiv 2503.20783)
//   gdpo     z_k = (R_k − mean_g) / (std_g + 1e−4) of each judge k, S = Σ_k w_k z_k,
//            A_i = (S_i − mean_all S) / (std_all S + 1e−4)     GDPO (arXiv 2601.05242)
//   rloo     A_i = R_i − mean of the others in the group       RLOO (arXiv 2402.14740)
//   opo      A_i = R_i − Σ_j |o_j| R_j / Σ_j |o_j|             OPO (arXiv 2505.23585)
//
// Standard deviations are those of a sample (n − 1); 1e−4 is TRL's. Equal rewards give exactly 0.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace rlhf {

using OptionalRewards = std::vector<std::optional<double>>;

/// Σ_k w_k R_k of each completion, over the judges that apply; none where none does. `rewards` is
/// (completions) of (judges).
OptionalRewards weigh_rewards(std::span<const OptionalRewards> rewards,
                              std::span<const double> weights);

enum class RewardScale { group, batch, none };

/// Advantages, and which completions stand in a group (or, by batch, a batch) without spread: they
/// teach nothing.
struct GroupAdvantages {
  std::vector<double> values;
  std::vector<bool> no_spread;
};

/// Error where rewards are no whole groups.
GroupAdvantages group_advantages(std::span<const std::optional<double>> rewards,
                                 int64_t generations, RewardScale scale);

/// GDPO. `rewards` is (completions) of (judges).
GroupAdvantages gdpo_advantages(std::span<const OptionalRewards> rewards,
                                std::span<const double> weights, int64_t generations);

/// Leave-one-out; with `normalize` (A − mean_all) / (std_all + 1e−4). A completion without a rated
/// sibling gets 0.
std::vector<double> rloo_advantages(std::span<const std::optional<double>> rewards,
                                    int64_t generations, bool normalize);

/// `tokens`: |o_i|.
std::vector<double> opo_advantages(std::span<const std::optional<double>> rewards,
                                   std::span<const int64_t> tokens, int64_t generations);

/// Mean and standard deviation (n − 1) of the rewards that are there; none where there are too few.
struct RewardMoments {
  std::optional<double> mean;
  std::optional<double> deviation;
};
RewardMoments reward_moments(std::span<const std::optional<double>> rewards);

}  // namespace rlhf
