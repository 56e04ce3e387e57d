#include "rlhf/train/grpo_step.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/losses/entropy_bonus.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/train/answer_batch.h"
#include "rlhf/train/rollout_batch.h"

namespace rlhf {
namespace {

/// Of a pass without gradients.
MicrobatchSize batch_size(const GrpoConfig& config) {
  return {.tokens = microbatch_tokens(config.training, config.grpo.rollout)};
}

bool teaches(const RolloutRow& row) {
  return std::any_of(row.sample->advantages.begin(), row.sample->advantages.end(),
                     [](float value) { return value != 0.0F; });
}

/// What one micro-batch knows of its step.
struct StepContext {
  const GrpoConfig& config;
  const Policy& policy;
  int64_t step;
  bool keep_old;
  double entropy_weight;
  double tokens = 0.0;     ///< of the step that count
  double effective = 0.0;  ///< of them, those above the entropy quantile
  /// Threshold of the quantile; none: not known yet, since the step is one batch.
  std::optional<double> entropy_floor = std::nullopt;
  int64_t first_token = 0;

  const GrpoOptions& grpo() const { return config.grpo; }
  bool by_quantile() const { return config.grpo.top_entropy_quantile < 1.0; }
};

struct StepSums {
  PolicyMetrics metrics;
  double loss = 0.0;
  double policy = 0.0;
  double entropy = 0.0;            ///< Σ over tokens that count
  double effective_entropy = 0.0;  ///< Σ over those above the quantile
  double rows = 0.0;               ///< completions of the step
  double forward_only = 0.0;       ///< of them, those without a backward pass
};

LogprobOptions head_options(const StepContext& context, bool gradients) {
  LogprobOptions head;
  head.temperature = context.grpo().rollout.temperature;
  head.entropy = true;
  head.entropy_grad = gradients && context.entropy_weight != 0.0;
  head.keep_logits_bytes = gradients ? kKeepLogitsBytes : 0;
  return head;
}

StepCounts counts_of(const StepContext& context, const Slice& slice) {
  const auto& training = context.config.training;
  const auto& rollout = context.grpo().rollout;
  const double share = static_cast<double>(training.gradient_accumulation_steps) /
                       static_cast<double>(rollout.steps_per_generation.value_or(1));
  const double drawn =
      static_cast<double>(slice.rollout->completion_tokens(rollout.mask_truncated_completions));
  const bool by_drawn = divides_by_drawn_tokens(context.grpo().loss.loss_type);
  return {.tokens = std::max(1.0, by_drawn ? drawn * share : context.tokens),
          .sequences = static_cast<double>(completions_per_step(training)),
          .constant = static_cast<double>(rollout.max_completion_length)};
}

/// Takes the quantile of `entropies`, those of all tokens of the step that count.
void set_entropy_floor(StepContext& context, const at::Tensor& entropies) {
  const double floor = entropy_floor(entropies, context.grpo().top_entropy_quantile);
  context.entropy_floor = floor;
  context.effective = static_cast<double>(entropies.ge(floor).sum().item<int64_t>());
}

/// One pass over a micro-batch; `gradients` says whether it has a backward.
void pass_over(StepContext& context, const Slice& slice, const RolloutBatch& batch, bool gradients,
               StepSums& sums) {
  const auto device = context.policy.device;
  const auto& grpo = context.grpo();
  const at::AutoGradMode mode(gradients);
  const auto logprobs = batch_logprobs(
      context.policy.decoder(), batch.packed, head_options(context, gradients),
      context.policy.training_pass(context.config.training, context.step, context.first_token));
  context.first_token += batch.packed.tokens();
  const bool fresh = slice.rollout->step == context.step;
  if (fresh && context.keep_old) note_values(batch, logprobs.logprobs, &Sample::old_logprobs);
  PolicyInputs inputs;
  inputs.logprobs = logprobs.logprobs;
  const auto values = [&](std::vector<float> Sample::*member) {
    return token_values(batch, member, device);
  };
  if (!fresh) inputs.old_logprobs = values(&Sample::old_logprobs);
  if (grpo.loss.beta > 0) inputs.ref_logprobs = values(&Sample::ref_logprobs);
  inputs.advantages = values(&Sample::advantages);
  inputs.mask = mask_of(batch, grpo.rollout.mask_truncated_completions, device);
  inputs.sequence = sequence_of(batch.packed, device);
  inputs.sequences = std::ssize(batch.rows);
  auto effective = inputs.mask;
  if (context.by_quantile()) {
    const auto entropy = logprobs.entropy.detach();
    if (!context.entropy_floor) set_entropy_floor(context, entropy.masked_select(inputs.mask));
    inputs.keep = entropy.ge(*context.entropy_floor);
    effective = inputs.mask.logical_and(inputs.keep);
  }
  auto result = policy_loss(grpo.loss, inputs, counts_of(context, slice));
  const double policy = result.loss.item<double>();
  auto loss = result.loss;
  if (grpo.has_entropy_bonus() && context.entropy_weight != 0.0) {
    loss = loss - context.entropy_weight / std::max(1.0, context.effective) *
                      masked_sum(logprobs.entropy, effective);
  }
  if (gradients) backward(loss);
  const auto rows = static_cast<double>(batch.rows.size());
  sums.rows += rows;
  sums.forward_only += gradients ? 0.0 : rows;
  sums.metrics.add(result.metrics);
  sums.policy += policy;
  sums.loss += loss.item<double>();
  sums.entropy += masked_sum(logprobs.entropy.detach(), inputs.mask).item<double>();
  sums.effective_entropy += masked_sum(logprobs.entropy.detach(), effective).item<double>();
}

/// A micro-batch of the step.
struct StepBatch {
  const Slice* slice;
  RolloutBatch batch;
  bool gradients;
};

/// The step's micro-batches in order; of each slice first the rows that teach.
std::vector<StepBatch> cut_step(const StepContext& context, const MicrobatchSize& size,
                                const std::vector<Slice>& slices) {
  const bool all_teach = context.grpo().loss.beta > 0 || context.entropy_weight != 0.0;
  const bool mask_truncated = context.grpo().rollout.mask_truncated_completions;
  std::vector<StepBatch> step;
  for (const auto& slice : slices) {
    for (const bool gradients : {true, false}) {
      std::vector<RolloutRow> rows;
      std::copy_if(slice.rows.begin(), slice.rows.end(), std::back_inserter(rows),
                   [&](const auto& row) {
                     const bool counts = row.sample->counts(mask_truncated);
                     return (counts && (all_teach || teaches(row))) == gradients;
                   });
      // What follows the first slice meets its gradients, and a pass without gradients none.
      const bool starts = step.empty() && gradients;
      for (auto& batch : batches_of(rows, starts ? size : MicrobatchSize{.tokens = size.tokens},
                                    context.policy.config().shared_prefix_limit()))
        step.push_back({.slice = &slice, .batch = std::move(batch), .gradients = gradients});
    }
  }
  return step;
}

/// The entropy quantile over all tokens of the step that count: a first look at them without
/// gradients, with the dropout of the second. A step of one batch takes it from its only pass.
void find_entropy_floor(StepContext& context, const std::vector<StepBatch>& step) {
  if (step.size() == 1) return;
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> entropies;
  int64_t first_token = 0;
  for (const auto& [slice, batch, gradients] : step) {
    const auto logprobs = batch_logprobs(
        context.policy.decoder(), batch.packed, head_options(context, /*gradients=*/false),
        context.policy.training_pass(context.config.training, context.step, first_token));
    first_token += batch.packed.tokens();
    entropies.push_back(logprobs.entropy.masked_select(
        mask_of(batch, context.grpo().rollout.mask_truncated_completions, context.policy.device)));
  }
  set_entropy_floor(context, at::cat(entropies));
}

/// The gradient of a step that teaches nothing is 0, not missing: moments and weight decay act in
/// it, as they do where a backward says so.
void set_zero_gradients(const Policy& policy) {
  for (const auto& named : policy.decoder().trainable())
    at::Tensor(named.tensor).mutable_grad() = at::zeros_like(named.tensor);
}

AdaptiveEntropy bounds_of(const GrpoOptions& options) {
  return {.least = options.entropy_coef_min,
          .most = options.entropy_coef_max,
          .delta = options.entropy_coef_delta,
          .target = options.entropy_target};
}

Metrics metrics_of(const GrpoConfig& config, const StepSums& sums) {
  const auto& loss = config.grpo.loss;
  const PolicyMetrics& found = sums.metrics;
  const double tokens = std::max(1.0, found.tokens);
  const double ratios = std::max(1.0, found.ratios);
  Metrics metrics;
  if (loss.beta > 0) metrics.emplace_back("kl", found.kl / tokens);
  metrics.emplace_back("entropy", sums.entropy / tokens);
  metrics.emplace_back("frac_forward_only", sums.forward_only / std::max(1.0, sums.rows));
  if (clips_ratio(loss.loss_type) || loss.loss_type == PolicyLoss::gmpo) {
    metrics.emplace_back("clip_ratio/low_mean", found.low / ratios);
    metrics.emplace_back("clip_ratio/high_mean", found.high / ratios);
    metrics.emplace_back("clip_ratio/region_mean", (found.low + found.high) / ratios);
    if (std::isfinite(found.low_min)) {
      metrics.emplace_back("clip_ratio/low_min", found.low_min);
      metrics.emplace_back("clip_ratio/high_max", found.high_max);
    }
  } else if (loss.loss_type == PolicyLoss::cispo) {
    metrics.emplace_back("cispo_clip_ratio", found.capped / ratios);
  } else if (loss.loss_type == PolicyLoss::vespo) {
    metrics.emplace_back("vespo/phi_seq_mean", found.weight / std::max(1.0, found.sequences));
  }
  if (config.grpo.has_entropy_bonus()) metrics.emplace_back("policy_loss", sums.policy);
  return metrics;
}

}  // namespace

double EntropyControl::weight(const GrpoOptions& options) const {
  return options.use_adaptive_entropy
             ? acting_coefficient(bounds_of(options), coefficient, last_entropy)
             : coefficient;
}

void EntropyControl::follow(const GrpoOptions& options, double entropy) {
  if (!options.use_adaptive_entropy) return;
  coefficient = moved_coefficient(bounds_of(options), coefficient, entropy);
  last_entropy = entropy;
}

Json EntropyControl::to_json() const {
  return {{"coefficient", coefficient}, {"last", last_entropy ? Json(*last_entropy) : Json()}};
}

EntropyControl EntropyControl::from_json(const Json& json) {
  EntropyControl control{.coefficient = json.at("coefficient").get<double>()};
  if (const Json& last = json.at("last"); !last.is_null())
    control.last_entropy = last.get<double>();
  return control;
}

GrpoStepResult accumulate_gradients(const GrpoConfig& config, const Policy& policy,
                                    const MicrobatchSize& size, std::vector<Slice>& slices,
                                    int64_t step, bool keep_old, double entropy_weight) {
  StepContext context{.config = config,
                      .policy = policy,
                      .step = step,
                      .keep_old = keep_old,
                      .entropy_weight = entropy_weight};
  for (const auto& slice : slices) {
    for (const auto& row : slice.rows) {
      const bool counts = row.sample->counts(config.grpo.rollout.mask_truncated_completions);
      context.tokens += counts ? static_cast<double>(row.sample->tokens()) : 0.0;
    }
  }
  context.effective = context.tokens;
  const auto batches = cut_step(context, size, slices);
  if (context.by_quantile()) find_entropy_floor(context, batches);
  StepSums sums;
  for (const auto& [slice, batch, gradients] : batches)
    pass_over(context, *slice, batch, gradients, sums);
  if (sums.forward_only == sums.rows) set_zero_gradients(policy);
  return {.loss = sums.loss,
          .metrics = metrics_of(config, sums),
          .entropy = sums.effective_entropy / std::max(1.0, context.effective),
          .sums = sums.metrics};
}

void add_reference(const GrpoConfig& config, const Policy& policy, const Reference& reference,
                   Rollout& rollout) {
  const auto rows = rows_of(rollout, 0, rollout.samples());
  for (const auto& batch :
       batches_of(rows, batch_size(config), policy.config().shared_prefix_limit()))
    note_values(batch, reference.logprobs(batch.packed, {}), &Sample::ref_logprobs);
  reference.let_go();
}

void add_old_logprobs(const GrpoConfig& config, const Policy& policy,
                      std::vector<RolloutRow> rows) {
  const at::NoGradGuard no_grad;
  for (const auto& batch :
       batches_of(rows, batch_size(config), policy.config().shared_prefix_limit())) {
    const auto logprobs = batch_logprobs(policy.decoder(), batch.packed,
                                         {.temperature = config.grpo.rollout.temperature});
    note_values(batch, logprobs.logprobs, &Sample::old_logprobs);
  }
}

}  // namespace rlhf
