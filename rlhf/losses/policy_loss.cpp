#include "rlhf/losses/policy_loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

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

void check_options(const PolicyLossOptions& options) {
  const auto where = enum_text(options.loss_type);
  const auto at_least_0 = [&](double value, const char* name) {
    check(value >= 0, where, "{} of at least 0 was expected, got {}.", name, value);
  };
  const auto above_0 = [&](double value, const char* name) {
    check(value > 0, where, "{} above 0 was expected, got {}.", name, value);
  };
  at_least_0(options.beta, "beta");
  at_least_0(options.epsilon, "epsilon");
  at_least_0(options.upper(), "epsilon_high");
  above_0(options.delta.value_or(1.0), "delta");
  above_0(options.sapo_temperature_pos, "sapo_temperature_pos");
  above_0(options.sapo_temperature_neg, "sapo_temperature_neg");
  at_least_0(options.vespo_k_pos, "vespo_k_pos");
  at_least_0(options.vespo_k_neg, "vespo_k_neg");
  at_least_0(options.vespo_lambda_pos, "vespo_lambda_pos");
  at_least_0(options.vespo_lambda_neg, "vespo_lambda_neg");
  above_0(options.gmpo_clip, "gmpo_clip");
}

void check_inputs(const PolicyInputs& inputs, bool reference) {
  const auto fits = [&](const at::Tensor& tensor, const char* name, at::ScalarType type) {
    check(tensor.defined() && tensor.sizes() == inputs.logprobs.sizes() &&
              tensor.scalar_type() == type,
          "policy_loss", "{} ({}) of type {} was expected, got {}.", name, inputs.logprobs.numel(),
          toString(type),
          tensor.defined() ? fmt::format("({}) of type {}", fmt::join(tensor.sizes(), ", "),
                                         toString(tensor.scalar_type()))
                           : "none");
  };
  check(inputs.logprobs.defined() && inputs.logprobs.dim() == 1, "policy_loss",
        "flat log-probabilities were expected, got {}.",
        inputs.logprobs.defined() ? fmt::format("({})", fmt::join(inputs.logprobs.sizes(), ", "))
                                  : "none");
  const auto type = inputs.logprobs.scalar_type();
  fits(inputs.advantages, "advantages", type);
  fits(inputs.mask, "mask", at::kBool);
  fits(inputs.sequence, "sequence", at::kLong);
  if (inputs.old_logprobs.defined()) fits(inputs.old_logprobs, "old_logprobs", type);
  if (inputs.keep.defined()) fits(inputs.keep, "keep", at::kBool);
  if (reference) fits(inputs.ref_logprobs, "ref_logprobs", type);
}

bool by_sequence(ImportanceLevel level) {
  return level == ImportanceLevel::sequence || level == ImportanceLevel::sequence_sum;
}

/// The inputs with 0 in place of what the mask leaves out: that may be −∞ or NaN, and 0 times its
/// slope would be NaN too. Old log-probabilities are filled in.
PolicyInputs counted(const PolicyInputs& inputs) {
  PolicyInputs made = inputs;
  const auto zero = at::zeros({}, inputs.logprobs.options());
  const auto kept = [&](const at::Tensor& values) { return at::where(inputs.mask, values, zero); };
  made.logprobs = kept(inputs.logprobs);
  made.old_logprobs =
      inputs.old_logprobs.defined() ? kept(inputs.old_logprobs) : made.logprobs.detach();
  if (inputs.ref_logprobs.defined()) made.ref_logprobs = kept(inputs.ref_logprobs);
  return made;
}

/// Everything a surrogate is made of.
struct Terms {
  const PolicyLossOptions& options;
  const PolicyInputs& inputs;  // counted()
  at::Tensor lengths;          // (B) tokens that count
  at::Tensor log_ratio;        // (R)
  at::Tensor ratio;            // (R)

  at::Tensor of_sequence(const at::Tensor& per_sequence) const {
    return per_sequence.index_select(0, inputs.sequence);
  }
  at::Tensor sums(const at::Tensor& values) const {
    return sequence_sums(values, inputs.mask, inputs.sequence, inputs.sequences);
  }
  at::Tensor sequence_mean(const at::Tensor& values) const {
    return sums(values) / lengths.clamp_min(1.0);
  }
  /// sequence_mean() over tokens whose policy term counts.
  at::Tensor kept_mean(const at::Tensor& values) const {
    if (!inputs.keep.defined()) return sequence_mean(values);
    return sums(values * inputs.keep) / sums(inputs.keep.to(values.scalar_type())).clamp_min(1.0);
  }
  /// The value that all tokens of a sequence share, whether they count or not, (B).
  at::Tensor shared(const at::Tensor& values) const {
    const auto all = at::ones_like(inputs.mask);
    const auto every = [&](const at::Tensor& x) {
      return sequence_sums(x, all, inputs.sequence, inputs.sequences);
    };
    return every(values) / every(at::ones_like(values)).clamp_min(1.0);
  }
};

at::Tensor ratio_of(ImportanceLevel level, const Terms& terms) {
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
at::Tensor vespo_weights(const Terms& terms) {
  const auto& options = terms.options;
  const auto limited = terms.log_ratio.detach().clamp(-kLogRatioLimit, kLogRatioLimit);
  return vespo_weight(terms.of_sequence(terms.sums(limited)), terms.inputs.advantages,
                      options.vespo_k_pos, options.vespo_lambda_pos, options.vespo_k_neg,
                      options.vespo_lambda_neg);
}

/// l_t, (R).
at::Tensor surrogate(const Terms& terms) {
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
at::Tensor on_policy(const Terms& terms, double threshold) {
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

double number(const at::Tensor& scalar) { return scalar.item<double>(); }

/// How many ratios `flags` (R) holds for, and the share of each sequence that has any, as TRL has
/// it: a sequence's own ratio is one, and is there where no token counts.
struct FlagCounts {
  double sum;
  at::Tensor shares;  // (sequences with ratios)
};
FlagCounts count_flags(const Terms& terms, const at::Tensor& flags) {
  const auto real = flags.to(at::kDouble);
  if (by_sequence(terms.options.importance_sampling_level)) {
    const auto shares = terms.shared(real);
    return {number(shares.sum()), shares};
  }
  return {number(masked_sum(real, terms.inputs.mask)),
          terms.sequence_mean(real).masked_select(terms.lengths.gt(0))};
}

void count_clipped(const Terms& terms, const ClipFlags& flags, PolicyMetrics& metrics) {
  const auto low = count_flags(terms, flags.low);
  const auto high = count_flags(terms, flags.high);
  metrics.low = low.sum;
  metrics.high = high.sum;
  if (low.shares.numel() == 0) return;
  metrics.low_min = number(low.shares.min());
  metrics.high_max = number(high.shares.max());
}

PolicyMetrics metrics_of(const Terms& terms, const at::Tensor& kl) {
  const at::NoGradGuard no_grad;
  const auto& options = terms.options;
  const auto& inputs = terms.inputs;
  PolicyMetrics metrics;
  metrics.tokens = static_cast<double>(inputs.mask.sum().item<int64_t>());
  metrics.sequences = static_cast<double>(inputs.sequences);
  metrics.ratios =
      by_sequence(options.importance_sampling_level) ? metrics.sequences : metrics.tokens;
  if (kl.defined()) metrics.kl = number(masked_sum(kl.detach(), inputs.mask));
  const auto ratio = terms.ratio.detach();
  metrics.ratio_sum = number(masked_sum(ratio, inputs.mask));
  metrics.ratio_squares = number(masked_sum(ratio.square(), inputs.mask));
  metrics.log_ratio_squares = number(masked_sum(terms.log_ratio.detach().square(), inputs.mask));
  if (clips_ratio(options.loss_type)) {
    const auto capped = options.delta ? ratio.clamp_max(*options.delta) : ratio;
    count_clipped(terms, clip_flags(capped, inputs.advantages, options.epsilon, options.upper()),
                  metrics);
  } else if (options.loss_type == PolicyLoss::gmpo) {
    count_clipped(terms,
                  gmpo_clip_flags(terms.log_ratio.detach(), inputs.advantages, options.gmpo_clip),
                  metrics);
  } else if (options.loss_type == PolicyLoss::cispo) {
    const auto over = ratio.gt(options.upper()).logical_and(inputs.advantages.gt(0));
    metrics.capped = count_flags(terms, over).sum;
  } else if (options.loss_type == PolicyLoss::vespo) {
    metrics.weight = number(terms.shared(vespo_weights(terms)).sum());
  }
  return metrics;
}

Terms terms_of(const PolicyLossOptions& options, const PolicyInputs& inputs) {
  Terms terms{options, inputs, {}, inputs.logprobs - inputs.old_logprobs, {}};
  terms.lengths = terms.sums(at::ones_like(inputs.advantages));
  terms.ratio = ratio_of(options.importance_sampling_level, terms);
  return terms;
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
  ratio_sum += other.ratio_sum;
  ratio_squares += other.ratio_squares;
  log_ratio_squares += other.log_ratio_squares;
  low_min = std::min(low_min, other.low_min);
  high_max = std::max(high_max, other.high_max);
}

at::Tensor importance_ratio(ImportanceLevel level, const PolicyInputs& inputs) {
  check_inputs(inputs, /*reference=*/false);
  return terms_of({.importance_sampling_level = level}, counted(inputs)).ratio;
}

PolicyLossResult policy_loss(const PolicyLossOptions& options, const PolicyInputs& inputs,
                             const StepCounts& counts) {
  check_options(options);
  check_inputs(inputs, /*reference=*/options.beta > 0);
  const PolicyInputs clean = counted(inputs);
  const Terms terms = terms_of(options, clean);
  auto losses = surrogate(terms);
  if (options.off_policy_mask_threshold)
    losses = losses * on_policy(terms, *options.off_policy_mask_threshold);
  // gmpo's mean has left them out already.
  if (clean.keep.defined() && options.loss_type != PolicyLoss::gmpo) losses = losses * clean.keep;
  at::Tensor kl;
  if (options.beta > 0) {
    kl = kl_estimate(options.kl_estimator, clean.logprobs, clean.ref_logprobs);
    if (options.use_bias_correction_kl) kl = kl * terms.ratio;
    losses = losses + options.beta * kl;
  }
  StepCounts divisors = counts;
  if (options.loss_type == PolicyLoss::luspo) divisors.constant = 1.0;
  return {.loss = aggregate(aggregation_of(options.loss_type), losses, clean.mask, clean.sequence,
                            divisors),
          .metrics = metrics_of(terms, kl)};
}

}  // namespace rlhf
