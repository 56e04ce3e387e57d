// Advantages from the rewards of groups: P prompts with their completions, group by group. A reward
// of none takes its completion out of every statistic and gives it advantage 0.
//
//   group    A_i = (R_i − mean_g) / (std_g + 1e−4)        GRPO (arXiv 2402.03300, section 4.1.2)
//   batch    A_i = (R_i − mean_g) / (std_all + 1e−4)      Lite PPO (arXiv 2508.08221)
//   none     A_i = R_i − mean_g                           Dr. GRPO (arXiv 2503.20783)
//   gdpo     z_k = (R_k − mean_g) / (std_g + 1e−4) of each judge k, S = Σ_k w_k z_k,
//            A_i = (S_i − mean_all S) / (std_all S + 1e−4)     GDPO (arXiv 2601.05242)
//   rloo     A_i = R_i − mean of the others in the group       RLOO (arXiv 2402.14740)
//   opo      A_i = R_i − Σ_j |o_j| R_j / Σ_j |o_j|             OPO (arXiv 2505.23585)
//   remax    A_i = R_i − R of the greedy completion            ReMax (arXiv 2310.10505)
//   pass@k   A_i = max_j R_j − max_{j≠i} R_j, scaled as above  arXiv 2503.19595
//
// Standard deviations are those of a sample (n − 1); 1e−4 is TRL's. Equal rewards give exactly 0.
// Advantages of single tokens: token_advantages.h.
//
// Worked case: rewards 1, 2, 6. group: mean 3, std √7: −2, −1, 3 over √7 + 1e−4. rloo: the others
// have means 4, 3.5, 1.5: −3, −1.5, 4.5. pass@k, none: 0, 0, 6 − 2 = 4. opo with lengths 1, 1, 2:
// baseline 15/4: −2.75, −1.75, 2.25.
//
// Departures: TRL's deviation of equal rewards is what rounding leaves of it in fp32.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace rlhf {

using OptionalRewards = std::vector<std::optional<double>>;

/// How many completions each group has: the same number for all, or a number for each.
class GroupSizes {
 public:
  GroupSizes(int64_t generations) : generations_(generations) {}  // NOLINT: a number says it
  explicit GroupSizes(std::vector<int64_t> sizes) : sizes_(std::move(sizes)) {}

  /// Of all groups, in order. Error where the groups are not positive or do not hold `completions`.
  std::vector<int64_t> of(size_t completions) const;

 private:
  int64_t generations_ = 0;
  std::vector<int64_t> sizes_;
};

/// Σ_k w_k R_k of each completion, over the judges that apply; none where none does. `rewards` is
/// (completions) of (judges). Error for a reward that is not finite.
OptionalRewards weigh_rewards(std::span<const OptionalRewards> rewards,
                              std::span<const double> weights);

/// R_i, clipped to [first, second] of `range` where given, less β Σ_t (log π_old − log π_ref): k1
/// over the completion, as RLOO has it. `kl` (completions) holds the sums; it is not read where
/// beta is 0.
OptionalRewards penalised_rewards(std::span<const std::optional<double>> rewards,
                                  std::optional<std::pair<double, double>> range,
                                  std::span<const double> kl, double beta);

/// Mean and standard deviation (n − 1) of the rewards that are there; none where there are too few.
/// TRL's `reward` and `reward_std`, `rewards/{name}/mean` and `/std`.
struct RewardMoments {
  std::optional<double> mean;
  std::optional<double> deviation;
};
RewardMoments reward_moments(std::span<const std::optional<double>> rewards);

enum class RewardScale { group, batch, none };

/// Which completions stand in a group (by batch: a batch) whose rewards have no spread: they teach
/// nothing. TRL's `frac_reward_zero_std` is their share; as there a group of one has none, and a
/// larger one with fewer than two rewards is not counted. Groups of one are allowed here:
/// evaluations may have them.
std::vector<bool> without_spread(std::span<const std::optional<double>> rewards,
                                 const GroupSizes& groups, RewardScale scale);

// All estimators return (completions). Those that compare a completion with its group refuse groups
// of one with an Error; ReMax, which does not, takes them.

/// Advantages, and without_spread() of the same rewards. Evaluations may have groups of one, which
/// get 0.
struct GroupAdvantages {
  std::vector<double> values;
  std::vector<bool> no_spread;
};
GroupAdvantages group_advantages(std::span<const std::optional<double>> rewards,
                                 const GroupSizes& groups, RewardScale scale);

/// `rewards` is (completions) of (judges). no_spread: whether the sums S of the batch have none.
GroupAdvantages gdpo_advantages(std::span<const OptionalRewards> rewards,
                                std::span<const double> weights, const GroupSizes& groups);

/// With `normalize` (A − mean_all) / (std_all + 1e−4). A completion without a rated sibling gets 0
/// and is not part of these.
std::vector<double> rloo_advantages(std::span<const std::optional<double>> rewards,
                                    const GroupSizes& groups, bool normalize);

/// `tokens` (completions): |o_i|.
std::vector<double> opo_advantages(std::span<const std::optional<double>> rewards,
                                   std::span<const int64_t> tokens, const GroupSizes& groups);

/// `greedy` (groups): the reward of each prompt's greedy completion; none gives its group 0.
std::vector<double> remax_advantages(std::span<const std::optional<double>> rewards,
                                     std::span<const std::optional<double>> greedy,
                                     const GroupSizes& groups);

/// Only the best of a group is above 0, and none of several that are equally good.
std::vector<double> pass_at_k_advantages(std::span<const std::optional<double>> rewards,
                                         const GroupSizes& groups, RewardScale scale);

}  // namespace rlhf
