// Policy-gradient objectives on sampled completions as data: which there are, what sets them, and
// which option each of them uses. No tensor here, so that a configuration can be read and judged
// without one. Names and defaults: TRL 1.16's GRPOConfig and RLOOConfig.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "rlhf/core/options.h"
#include "rlhf/math/kl_estimator.h"

namespace rlhf {

/// Each has its header or stands with its kin: grpo_clip.h (the first five), cispo.h, sapo.h,
/// vespo.h, gmpo.h.
enum class PolicyLoss { grpo, bnpo, dapo, dr_grpo, luspo, cispo, sapo, vespo, gmpo };
template <>
struct EnumNames<PolicyLoss> {
  static constexpr std::array<std::string_view, 9> names = {
      "grpo", "bnpo", "dapo", "dr_grpo", "luspo", "cispo", "sapo", "vespo", "gmpo"};
};

/// What one importance ratio belongs to.
///   token            r_t = π(y_t) / π_old(y_t)
///   sequence         s = exp(mean_t log r_t), one for all tokens (GSPO, arXiv 2507.18071)
///   sequence_token   sg(s) · π_t / sg(π_t): the value of s, each token's gradient (GSPO-token)
///   sequence_sum     exp(Σ_t log r_t): the sequence's own likelihood ratio (RLOO, rloo.h)
enum class ImportanceLevel { token, sequence, sequence_token, sequence_sum };
template <>
struct EnumNames<ImportanceLevel> {
  static constexpr std::array<std::string_view, 4> names = {"token", "sequence", "sequence_token",
                                                            "sequence_sum"};
};

struct PolicyLossOptions {
  PolicyLoss loss_type = PolicyLoss::dapo;
  ImportanceLevel importance_sampling_level = ImportanceLevel::token;
  double epsilon = 0.2;                  ///< ε >= 0
  std::optional<double> epsilon_high{};  ///< null: ε; an absolute cap for cispo
  std::optional<double> delta{};         ///< δ > 0: cap of the unclipped ratio, or the dual clip's
                                         ///< c (grpo_clip.h); null: none
  double beta = 0.0;                     ///< β >= 0, weight of the KL term; 0: no reference
  KlEstimator kl_estimator = KlEstimator::k3;
  bool use_bias_correction_kl = true;  ///< the KL term times the ratio
  double sapo_temperature_pos = 1.0;
  double sapo_temperature_neg = 1.05;
  double vespo_k_pos = 2.0;
  double vespo_lambda_pos = 3.0;
  double vespo_k_neg = 3.0;
  double vespo_lambda_neg = 2.0;
  double gmpo_clip = 0.4;                             ///< of gmpo's log-ratio
  std::optional<double> off_policy_mask_threshold{};  ///< DeepSeek-V3.2's sequence mask; null: none

  double upper() const { return epsilon_high.value_or(epsilon); }
};

/// min(rA, clip(r)A), whatever it is divided by.
constexpr bool clips_ratio(PolicyLoss loss) {
  return loss == PolicyLoss::grpo || loss == PolicyLoss::bnpo || loss == PolicyLoss::dapo ||
         loss == PolicyLoss::dr_grpo || loss == PolicyLoss::luspo;
}

/// The loss reads ε (all others have bounds of their own, or none).
constexpr bool takes_epsilon(PolicyLoss loss) {
  return clips_ratio(loss) || loss == PolicyLoss::cispo;
}

/// The loss divides by tokens of all that was drawn at once.
constexpr bool divides_by_drawn_tokens(PolicyLoss loss) {
  return loss == PolicyLoss::dapo || loss == PolicyLoss::cispo || loss == PolicyLoss::vespo;
}

}  // namespace rlhf
