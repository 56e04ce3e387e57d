#include "rlhf/train/critic.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "rlhf/core/error.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/models/packed_forward.h"
#include "rlhf/train/classifier_setup.h"
#include "rlhf/train/rollout_batch.h"

namespace rlhf {
namespace {

/// A policy's adapter is no critic: its base is what a new one starts from.
std::string start_of(const std::string& folder) {
  const bool policy =
      is_adapter_folder(folder) && load_lora_config(folder).task == ModelTask::language_model;
  return policy ? base_of_adapter(folder).string() : folder;
}

CommonConfig critic_config(CommonConfig config, const std::string& named) {
  const std::string folder = start_of(named);
  config.model.from_scratch =
      config.model.from_scratch && folder == *config.model.model_name_or_path;
  config.model.model_name_or_path = folder;
  config.lora.adapter_name_or_path.reset();  // the policy's
  return config;
}

Policy load_critic(CommonConfig& config, TextSide& text, const Policy& policy, const Model* judge) {
  const PadToken pad = choose_pad(config, text);
  if (pad.replaced) text.set_pad_token(pad.text);
  PolicyRequest request{.task = ModelTask::sequence_classification,
                        .labels = 1,
                        .pad_id = pad.id,
                        .held = {&policy.model}};
  if (judge != nullptr) request.held.push_back(judge);
  Policy critic = load_policy(config, request, policy.device, std::nullopt);
  if (critic.config().vocab_size != policy.config().vocab_size) {
    throw UserError(
        "value_model_name_or_path",
        fmt::format("a model with the policy's vocabulary of {} was expected, got one of {}.",
                    policy.config().vocab_size, critic.config().vocab_size),
        "the critic reads the policy's ids: start it from the same base.");
  }
  return critic;
}

}  // namespace

Critic::Critic(const CommonConfig& config, const RolloutOptions& rollout, CriticOptions options,
               const TextSide& text, const Policy& policy, const Model* judge)
    : config_(critic_config(config, options.folder)),
      max_tokens_(microbatch_tokens(config.training, rollout)),
      options_(std::move(options)),
      text_(text),
      model_(load_critic(config_, text_, policy, judge)),
      optimizer_(optimizer_options(config_.training), model_.decoder().trainable()) {}

void Critic::resume(const fs::path& checkpoint, int64_t steps, bool moments) {
  if (!moments) return restore(checkpoint);
  load_tensors_into(checkpoint / kFile, with_moments());
  optimizer_.set_state(optimizer_.state(), steps);
}

void Critic::restore(const fs::path& checkpoint) {
  load_tensors_into(checkpoint / kFile, model_.decoder().trainable());
  optimizer_.follow_weights();
}

at::Tensor Critic::values_of(const PackedBatch& batch, const ForwardOptions& forward) const {
  const Decoder& decoder = model_.decoder();
  return decoder.score(packed_forward(decoder, batch, batch.rows, forward)).squeeze(1);
}

void Critic::add_values(const std::vector<RolloutRow>& rows) const {
  const at::NoGradGuard no_grad;
  for (const auto& batch :
       batches_of(rows, {.tokens = max_tokens_}, model_.config().shared_prefix_limit()))
    note_values(batch, values_of(batch.packed, {}), &Sample::values);
}

double Critic::accumulate_gradients(const std::vector<Slice>& slices, const MicrobatchSize& size,
                                    bool mask_truncated, int64_t step, Metrics& metrics) {
  double tokens = 0.0;
  for (const auto& slice : slices) {
    for (const auto& row : slice.rows)
      tokens +=
          row.sample->counts(mask_truncated) ? static_cast<double>(row.sample->tokens()) : 0.0;
  }
  ValueMetrics sums;
  double loss = 0.0;
  int64_t first_token = 0;
  for (const auto& slice : slices) {
    // What follows the first slice meets its gradients.
    const bool starts = &slice == slices.data();
    for (const auto& batch :
         batches_of(slice.rows, starts ? size : MicrobatchSize{.tokens = size.tokens},
                    model_.config().shared_prefix_limit())) {
      ValueInputs inputs;
      inputs.values =
          values_of(batch.packed, model_.training_pass(config_.training, step, first_token));
      first_token += batch.packed.tokens();
      inputs.old_values = token_values(batch, &Sample::values, model_.device);
      inputs.returns = token_values(batch, &Sample::returns, model_.device);
      inputs.mask = mask_of(batch, mask_truncated, model_.device);
      const auto result = value_loss(inputs, options_.cliprange_value, std::max(1.0, tokens));
      backward(options_.vf_coef * result.loss);
      loss += result.loss.item<double>();
      sums.add(result.metrics);
    }
  }
  const double count = std::max(1.0, sums.tokens);
  metrics.emplace_back("loss/value_avg", loss);
  metrics.emplace_back("val/clipfrac_avg", sums.clipped / count);
  metrics.emplace_back("val/mean", sums.values / count);
  if (const auto explained = sums.explained_variance())
    metrics.emplace_back("val/explained_variance", *explained);
  return options_.vf_coef * loss;
}

void Critic::update(double learning_rate, Metrics& metrics) {
  const double norm = optimizer_.gradient_norm();
  if (!std::isfinite(norm)) {
    fail("critic", fmt::format("a finite gradient was expected, its norm is {}.", norm),
         "lower critic_learning_rate, which is learning_rate where it is not set, or look at the "
         "rewards.");
  }
  const double limit = config_.training.max_grad_norm;
  const double scale = limit > 0.0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0;
  optimizer_.step(learning_rate * options_.learning_rate_scale, scale);
  metrics.emplace_back("val/grad_norm", norm);
}

std::vector<NamedTensor> Critic::tensors() const {
  return config_.training.save_only_model ? model_.decoder().trainable() : with_moments();
}

std::vector<NamedTensor> Critic::with_moments() const {
  std::vector<NamedTensor> tensors = model_.decoder().trainable();
  for (const auto& [name, tensor] : optimizer_.state()) tensors.push_back({name, tensor});
  return tensors;
}

void Critic::save(const fs::path& run_folder) const {
  const fs::path folder = run_folder / "critic";
  fs::create_directories(folder);
  save_final_model(folder, {.model = &model_.model, .save = model_.save, .files = text_.files});
}

}  // namespace rlhf
