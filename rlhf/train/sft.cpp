#include "rlhf/train/sft.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/math/linear_logprobs.h"
#include "rlhf/models/packed_forward.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/run_data.h"
#include "rlhf/train/sft_batch.h"

namespace rlhf {
namespace {

/// Sums over the scored tokens of a step (or of an evaluation); divided once, by the count over all
/// of it.
struct TokenSums {
  double loss = 0.0;  ///< of a step: its loss; of an evaluation: −Σ log p
  double entropy = 0.0;
  double correct = 0.0;
  int64_t scored = 0;
  int64_t tokens = 0;  ///< read, scored or not

  void add(const at::Tensor& row_entropy, const at::Tensor& top1) {
    entropy += row_entropy.sum(at::kDouble).item<double>();
    correct += static_cast<double>(top1.sum().item<int64_t>());
    scored += top1.numel();
  }
  Metrics means(const std::string& prefix) const {
    const double count = std::max(1.0, static_cast<double>(scored));
    return {{prefix + "entropy", entropy / count},
            {prefix + "mean_token_accuracy", correct / count}};
  }
};

PackStrategy pack_strategy(PackingChoice choice) {
  switch (choice) {
    case PackingChoice::bfd:
      return PackStrategy::bfd;
    case PackingChoice::bfd_split:
      return PackStrategy::bfd_split;
    case PackingChoice::wrapped:
      return PackStrategy::wrapped;
  }
  return PackStrategy::bfd;
}

/// The rows of `spec`, encoded and packed as the options ask.
ReadRows<SftRows> read_rows(const SftConfig& config, const TextSide& text, const DataSpec& spec,
                            bool packing) {
  const auto& sft = config.sft;
  EncodeOptions options{.max_length = sft.max_length,
                        .truncation_mode = sft.truncation_mode == TruncationChoice::keep_end
                                               ? TruncationMode::keep_end
                                               : TruncationMode::keep_start,
                        .completion_only_loss = sft.completion_only_loss,
                        .assistant_only_loss = sft.assistant_only_loss,
                        .eos_token = text.eos_token,
                        .stop_ids = {},
                        .chat_template_kwargs = Json::object(),
                        .on_bad_row = config.data.on_bad_row == BadRowPolicy::drop
                                          ? OnBadRow::drop
                                          : OnBadRow::error};
  // Packing does its own cutting: a row longer than max_length is split or cut by the strategy.
  if (packing) options.max_length.reset();
  Statistics statistics;
  auto data = prepare_sft_data(spec, text.tokenizer, text.chat,
                               text_fingerprint(text.folder, text.template_text), options,
                               cache_folder(config.data), &statistics);
  std::optional<PackPlan> plan;
  if (packing) {
    plan =
        data.pack({.max_length = *sft.max_length, .strategy = pack_strategy(sft.packing_strategy)},
                  &statistics);
  }
  SftRows rows(std::move(data), std::move(plan));
  if (rows.rows() == 0)
    throw UserError("dataset_name", "no row is left to train on.", statistics.table());
  return {std::move(rows), statistics.table()};
}

/// Everything a run reads, checked.
struct SftSetup : Prepared {
  RunData<SftRows> data;
};

SftSetup set_up(SftConfig& config, const TrainHooks& hooks) {
  SetupChecks checks;
  const PolicyRequest request{.adapter_dropout = config.lora.lora_dropout};
  SftSetup setup{prepare_run(
                     config, run_memory(config), [&](const TextSide*) { return request; }, checks),
                 {}};
  if (setup.text) {
    setup.data = read_run_data<SftRows>(
        config, hooks, setup.policy, checks, [&](const DataSpec& spec, bool evaluation) {
          const bool packing = config.sft.packing;
          return read_rows(config, *setup.text, spec,
                           evaluation ? config.sft.eval_packing.value_or(packing) : packing);
        });
  }
  checks.throw_if_any();
  return setup;
}

/// Gradients of the mean over all supervised tokens of the step, micro-batch by micro-batch.
TokenSums accumulate_gradients(const SftConfig& config, Policy& policy, const MicrobatchSize& size,
                               int64_t step, std::span<const PackRow> pieces) {
  const auto& training = config.training;
  const double weight = 1.0 / static_cast<double>(std::max<int64_t>(1, count_supervised(pieces)));
  const auto objective =
      config.sft.loss_type == SftLoss::dft ? RowObjective::dft : RowObjective::nll;
  const DirectGradients direct;  // every loss goes to backward() as it is
  TokenSums sums;
  for (const auto& cut : cut_into_batches(pieces, size)) {
    const PackedBatch& batch = cut.packed;
    auto forward = policy.training_pass(training, step, sums.tokens);
    if (training.neftune_noise_alpha) {
      forward.on_embeddings = [&](const at::Tensor& embeddings) {
        return add_neftune_noise(embeddings, cut, *training.neftune_noise_alpha,
                                 static_cast<uint64_t>(training.seed), step);
      };
    }
    sums.tokens += batch.tokens();
    if (batch.scored() == 0) continue;
    const auto hidden = packed_forward(policy.decoder(), batch, batch.rows, forward);
    const auto weights =
        at::full({batch.scored()}, weight, at::TensorOptions(at::kFloat).device(policy.device));
    const auto part = linear_supervised_loss(
        hidden, policy.decoder().head(), batch.targets.to(policy.device), weights, objective,
        training.label_smoothing_factor, {.entropy = true, .top1 = true});
    backward(part.loss);
    sums.loss += part.loss.item<double>();
    sums.add(part.entropy, part.top1);
  }
  return sums;
}

/// Mean −log p over all supervised tokens of the evaluation rows.
TokenSums evaluate(const SftConfig& config, Policy& policy, const SftRows& rows) {
  const at::NoGradGuard no_grad;
  TokenSums sums;
  const int64_t at_once = std::max<int64_t>(1, config.training.per_device_eval_batch_size);
  for (int64_t first = 0; first < rows.rows(); first += at_once) {
    std::vector<int64_t> some(static_cast<size_t>(std::min(at_once, rows.rows() - first)));
    std::iota(some.begin(), some.end(), first);
    const auto pieces = rows.pieces(some);
    for (const auto& cut :
         cut_into_batches(pieces, {.tokens = microbatch_tokens(config.training)})) {
      const PackedBatch& batch = cut.packed;
      sums.tokens += batch.tokens();
      if (batch.scored() == 0) continue;
      const auto part = linear_logprobs(packed_forward(policy.decoder(), batch, batch.rows),
                                        policy.decoder().head(), batch.targets.to(policy.device),
                                        {.entropy = true, .top1 = true});
      sums.loss -= part.logprobs.sum(at::kDouble).item<double>();
      sums.add(part.entropy, part.top1);
    }
  }
  return sums;
}

void evaluate_and_note(const SftConfig& config, SftSetup& setup, TrainRun& run) {
  const auto start = std::chrono::steady_clock::now();
  const TokenSums sums = evaluate(config, *setup.policy, *setup.data.eval);
  const double scored = std::max(1.0, static_cast<double>(sums.scored));
  Metrics metrics = {{"eval_loss", sums.loss / scored}};
  for (auto& metric : sums.means("eval_")) metrics.push_back(std::move(metric));
  run.note_evaluation(metrics, seconds_since(start), setup.data.eval->rows());
}

}  // namespace

TrainResult train_sft(SftConfig config, const TrainHooks& hooks) {
  if (hooks.on_text) hooks.on_text(resolved_table(config));
  // Everything that can be wrong is looked at before anything is written, and reported together.
  SftSetup setup = set_up(config, hooks);
  RunMemory memory = run_memory(config);
  fit_rows(memory, longest_row(*setup.data.train), setup.data.train->lengths());
  check_memory(memory, setup.policy->device.is_cpu());
  const MicrobatchSize size = memory_request(memory).size;
  TrainRun run({.method = "sft",
                .training = config.training,
                .hooks = hooks,
                .text = *setup.text,
                .config_yaml = resolved_yaml(config),
                .rows = setup.data.train->rows(),
                .data_fingerprint = setup.data.train_fingerprint,
                .lengths = setup.data.train->lengths()},
               *setup.policy);
  if (run.evaluation_is_due()) evaluate_and_note(config, setup, run);

  while (!run.over()) {
    // 1. The rows of this step: a function of the step alone.
    const auto pieces = setup.data.train->pieces(run.begin_step());
    // 2. Gradients of the mean over all supervised tokens of the step.
    const TokenSums sums = accumulate_gradients(config, *setup.policy, size, run.step(), pieces);
    // 3. Clip by the norm over all tensors, update, and say what happened.
    run.update(sums.loss, sums.means(""), sums.tokens);
    // 4. Evaluate and save when it is time; stop when asked.
    if (run.evaluation_is_due()) evaluate_and_note(config, setup, run);
    run.end_step();
  }
  return run.finish();
}

}  // namespace rlhf
