#include "rlhf/losses/policy_loss.h"

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/losses/cispo.h"
#include "rlhf/losses/gmpo.h"
#include "rlhf/losses/grpo_clip.h"
#include "rlhf/losses/sapo.h"
#include "rlhf/losses/vespo.h"
#include "rlhf/math/kl.h"

namespace rlhf {
namespace {

constexpr double kLogRatioLimit = 20.0;  // of vespo's token log-ratios

void check_inputs(const PolicyLossOptions& options, const PolicyInputs& inputs) {
  const auto fits = [&](const torch::Tensor& tensor, const char* name) {
    check(tensor.defined() && tensor.sizes() == inputs.logprobs.sizes(), "policy_loss",
          "{} of {} tokens were expected.", name, inputs.logprobs.numel());
  };
  check(inputs.logprobs.dim() == 1, "policy_loss", "flat log-probabilities were expected.");
  fits(inputs.advantages, "advantages");
  fits(inputs.mask, "mask");
  fits(inputs.sequence, "sequence");
  if (inputs.old_logprobs.defined()) fits(inputs.old_logprobs, "old_logprobs");
  if (inputs.keep.defined()) fits(inputs.keep, "keep");
  if (options.beta > 0) fits(inputs.ref_logprobs, "ref_logprobs");
  check(options.beta >= 0 && options.epsilon >= 0 && options.upper() >= 0, "policy_loss",
        "beta and epsilon of at least 0 were expected, got {} and {}.", options.beta,
        options.epsilon);
}

bool by_sequence(ImportanceLevel level) {
  return level == ImportanceLevel::sequence || level == ImportanceLevel::sequence_sum;
}

/// Everything a surrogate is made of.
struct Terms {
  const PolicyLossOptions& options;
  const PolicyInputs& inputs;
  torch::Tensor log_ratio;  // (R)
  torch::Tensor ratio;      // (R)

  torch::Tensor of_sequence(const torch::Tensor& per_sequence) const {
    return per_sequence.index_select(0, inputs.sequence);
  }
  torch::Tensor sums(const torch::Tensor& values) const {
    return sequence_sums(values, inputs.mask, inputs.sequence, inputs.sequences);
  }
  /// Tokens that count of each sequence, (B), at least 1.
  torch::Tensor lengths() const { return sums(torch::ones_like(inputs.advantages)).clamp_min(1.0); }
  torch::Tensor sequence_mean(const torch::Tensor& values) const {
    return sums(values) / lengths();
  }
  /// sequence_mean() over tokens whose policy term counts.
  torch::Tensor kept_mean(const torch::Tensor& values) const {
    if (!inputs.keep.defined()) return sequence_mean(values);
    return sums(values * inputs.keep) / sums(inputs.keep.to(values.scalar_type())).clamp_min(1.0);
  }
};

torch::Tensor old_or_own(const PolicyInputs& inputs) {
  return inputs.old_logprobs.defined() ? inputs.old_logprobs : inputs.logprobs.detach();
}

torch::Tensor ratio_of(ImportanceLevel level, const Terms& terms) {
  switch (level) {
    case ImportanceLevel::token:
      return bounded_exp(terms.log_ratio);
    case ImportanceLevel::sequence:
      return terms.of_sequence(bounded_exp(terms.sequence_mean(terms.log_ratio)));
    case ImportanceLevel::sequence_sum:
      return terms.of_sequence(bounded_exp(terms.sums(terms.log_ratio)));
    case ImportanceLevel::sequence_token: {
      const auto value = terms.of_sequence(bounded_exp(terms.sequence_mean(terms.log_ratio)));
      return value.detach() * (terms.inputs.logprobs - terms.inputs.logprobs.detach()).exp();
    }
  }
  fail("policy_loss", "a known importance_sampling_level was expected.");
}

/// φ of each token's sequence, (R).
torch::Tensor vespo_weights(const Terms& terms) {
  const auto& options = terms.options;
  const auto limited = terms.log_ratio.detach().clamp(-kLogRatioLimit, kLogRatioLimit);
  return vespo_weight(terms.of_sequence(terms.sums(limited)), terms.inputs.advantages,
                      options.vespo_k_pos, options.vespo_lambda_pos, options.vespo_k_neg,
                      options.vespo_lambda_neg);
}

/// l_t, (R).
torch::Tensor surrogate(const Terms& terms) {
  const auto& options = terms.options;
  const auto& advantages = terms.inputs.advantages;
  switch (options.loss_type) {
    case PolicyLoss::grpo:
    case PolicyLoss::bnpo:
    case PolicyLoss::dapo:
    case PolicyLoss::dr_grpo:
    case PolicyLoss::luspo:
      return grpo_clip_loss(terms.ratio, advantages, options.epsilon, options.upper(),
                            options.delta.value_or(std::numeric_limits<double>::infinity()));
    case PolicyLoss::cispo:
      return cispo_loss(terms.ratio, advantages, terms.inputs.logprobs, options.upper());
    case PolicyLoss::sapo:
      return sapo_loss(terms.ratio, advantages, options.sapo_temperature_pos,
                       options.sapo_temperature_neg);
    case PolicyLoss::vespo:
      return -vespo_weights(terms) * advantages * terms.inputs.logprobs;
    case PolicyLoss::gmpo: {
      const auto cut = gmpo_log_ratios(terms.log_ratio, advantages, options.gmpo_clip);
      return -advantages * terms.of_sequence(bounded_exp(terms.kept_mean(cut)));
    }
  }
  fail("policy_loss", "a known loss_type was expected.");
}

/// DeepSeek-V3.2's off-policy sequence mask: tokens with A >= 0, and those of sequences that the
/// policy has not left by more than the threshold (arXiv 2512.02556).
torch::Tensor on_policy(const Terms& terms, double threshold) {
  const auto drift = terms.sequence_mean(-terms.log_ratio.detach());
  return terms.inputs.advantages.ge(0).logical_or(terms.of_sequence(drift.le(threshold)));
}

Aggregation aggregation_of(PolicyLoss loss) {
  switch (loss) {
    case PolicyLoss::grpo:
    case PolicyLoss::sapo:
    case PolicyLoss::gmpo:
      return Aggregation::sequence_mean;
    case PolicyLoss::bnpo:
    case PolicyLoss::dapo:
    case PolicyLoss::cispo:
    case PolicyLoss::vespo:
      return Aggregation::token_mean;
    case PolicyLoss::dr_grpo:
    case PolicyLoss::luspo:
      return Aggregation::sequence_constant;
  }
  fail("policy_loss", "a known loss_type was expected.");
}

double number(const torch::Tensor& scalar) { return scalar.item<double>(); }

/// Takes the clipped of `flags` into low or high, and the least or largest share of a sequence.
void count_flags(const Terms& terms, const torch::Tensor& flags, bool low, PolicyMetrics& metrics) {
  const auto real = flags.to(torch::kDouble);
  const auto lengths = terms.sums(torch::ones_like(terms.inputs.advantages));
  const auto shares = terms.sums(real) / terms.lengths();
  const auto counted = shares.masked_select(lengths.gt(0));
  // Where a ratio is its sequence's, the share is the flag itself.
  const bool whole = by_sequence(terms.options.importance_sampling_level);
  const double sum = whole ? number(counted.sum()) : number(terms.sums(real).sum());
  if (low) {
    metrics.low = sum;
    if (counted.numel() > 0) metrics.low_min = number(counted.min());
  } else {
    metrics.high = sum;
    if (counted.numel() > 0) metrics.high_max = number(counted.max());
  }
}

PolicyMetrics metrics_of(const Terms& terms, const torch::Tensor& kl) {
  const torch::NoGradGuard no_grad;
  const auto& options = terms.options;
  const auto& inputs = terms.inputs;
  PolicyMetrics metrics;
  metrics.tokens = static_cast<double>(inputs.mask.sum().item<int64_t>());
  metrics.sequences = static_cast<double>(inputs.sequences);
  metrics.ratios =
      by_sequence(options.importance_sampling_level) ? metrics.sequences : metrics.tokens;
  if (kl.defined()) metrics.kl = number(masked_sum(kl.detach(), inputs.mask));
  const auto ratio = terms.ratio.detach();
  if (clips_ratio(options.loss_type)) {
    const auto capped = options.delta ? ratio.clamp_max(*options.delta) : ratio;
    const auto flags = clip_flags(capped, inputs.advantages, options.epsilon, options.upper());
    count_flags(terms, flags.low, /*low=*/true, metrics);
    count_flags(terms, flags.high, /*low=*/false, metrics);
  } else if (options.loss_type == PolicyLoss::gmpo) {
    const auto log_ratio = terms.log_ratio.detach();
    const double c = options.gmpo_clip;
    count_flags(terms, log_ratio.lt(-c).logical_and(inputs.advantages.lt(0)), /*low=*/true,
                metrics);
    count_flags(terms, log_ratio.gt(c).logical_and(inputs.advantages.gt(0)), /*low=*/false,
                metrics);
  } else if (options.loss_type == PolicyLoss::cispo) {
    const auto over = ratio.gt(options.upper()).logical_and(inputs.advantages.gt(0));
    const auto shares = terms.sequence_mean(over.to(torch::kDouble));
    metrics.capped = by_sequence(options.importance_sampling_level)
                         ? number(shares.sum())
                         : number(masked_sum(over.to(torch::kDouble), inputs.mask));
  } else if (options.loss_type == PolicyLoss::vespo) {
    metrics.weight = number(terms.sequence_mean(vespo_weights(terms)).sum());
  }
  return metrics;
}

}  // namespace

void PolicyMetrics::add(const PolicyMetrics& other) {
  tokens += other.tokens;
  kl += other.kl;
  ratios += other.ratios;
  low += other.low;
  high += other.high;
  capped += other.capped;
  weight += other.weight;
  sequences += other.sequences;
  low_min = std::min(low_min, other.low_min);
  high_max = std::max(high_max, other.high_max);
}

torch::Tensor importance_ratio(ImportanceLevel level, const PolicyInputs& inputs) {
  const PolicyLossOptions options{.importance_sampling_level = level};
  check_inputs(options, inputs);
  const Terms terms{options, inputs, inputs.logprobs - old_or_own(inputs), {}};
  return ratio_of(level, terms);
}

PolicyLossResult policy_loss(const PolicyLossOptions& options, const PolicyInputs& inputs,
                             const StepCounts& counts) {
  check_inputs(options, inputs);
  Terms terms{options, inputs, inputs.logprobs - old_or_own(inputs), {}};
  terms.ratio = ratio_of(options.importance_sampling_level, terms);
  auto losses = surrogate(terms);
  if (options.off_policy_mask_threshold)
    losses = losses * on_policy(terms, *options.off_policy_mask_threshold);
  if (inputs.keep.defined() &&
      options.loss_type != PolicyLoss::gmpo)  // whose mean has left them out
    losses = losses * inputs.keep;
  torch::Tensor kl;
  if (options.beta > 0) {
    kl = kl_estimate(KlEstimator::k3, inputs.logprobs, inputs.ref_logprobs);
    if (options.use_bias_correction_kl) kl = kl * terms.ratio;
    losses = losses + options.beta * kl;
  }
  StepCounts divisors = counts;
  if (options.loss_type == PolicyLoss::luspo) divisors.constant = 1.0;
  return {.loss = aggregate(aggregation_of(options.loss_type), losses, inputs.mask, inputs.sequence,
                            divisors),
          .metrics = metrics_of(terms, kl)};
}

}  // namespace rlhf
