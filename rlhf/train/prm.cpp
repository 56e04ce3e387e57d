#include "rlhf/train/prm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"
#include "rlhf/data/steps.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/models/packed_forward.h"
#include "rlhf/nn/packed_batch.h"
#include "rlhf/rewards/estimates.h"
#include "rlhf/train/classifier_setup.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/microbatches.h"
#include "rlhf/train/run_data.h"

namespace rlhf {
namespace {

/// Wrong and right.
constexpr int64_t kLabels = 2;

/// Everything a run reads, checked.
struct PrmSetup : Prepared {
  RunData<StepsDataset> data;
};

ReadRows<StepsDataset> read_steps(const PrmConfig& config, const TextSide& text,
                                  const DataSpec& spec, bool evaluation) {
  const auto& prm = config.prm;
  const StepsOptions options{.max_length = prm.max_length,
                             .max_completion_length = prm.max_completion_length,
                             .step_separator = prm.step_separator,
                             // As in TRL, evaluation judges every step.
                             .train_on_last_step_only = prm.train_on_last_step_only && !evaluation,
                             .on_bad_row = text_options(text, config.data).on_bad_row};
  Statistics statistics;
  auto data = prepare_steps(spec, text.tokenizer, text_fingerprint(text.folder, text.template_text),
                            options, cache_folder(config.data), &statistics);
  return {std::move(data), statistics.table()};
}

PrmSetup set_up(PrmConfig& config, const TrainHooks& hooks) {
  SetupChecks checks;
  const ClassifierWish wish{.task = ModelTask::token_classification,
                            .labels = kLabels,
                            .dropout = adapter_dropout(config.lora, config.prm.disable_dropout)};
  PrmSetup setup{prepare_classifier(config, run_memory(config), wish, checks), {}};
  if (setup.text) {
    setup.data = read_run_data<StepsDataset>(
        config, hooks, setup.policy, checks, [&](const DataSpec& spec, bool evaluation) {
          return read_steps(config, *setup.text, spec, evaluation);
        });
  }
  checks.throw_if_any();
  return setup;
}

/// Rows side by side, and the tokens that carry a label.
struct StepBatch {
  PackedBatch packed;
  std::vector<int64_t> at;      ///< tokens of the batch
  std::vector<int64_t> labels;  ///< of each
};

std::vector<StepBatch> step_batches(const StepsDataset& data, std::span<const int64_t> rows,
                                    const MicrobatchSize& size) {
  std::vector<int64_t> lengths;
  for (const int64_t row : rows) lengths.push_back(data.length(row));
  std::vector<StepBatch> batches;
  for (const auto& some : cut_rows(lengths, size)) {
    std::vector<PackRow> packed;
    std::vector<std::vector<uint8_t>> masks;  // nothing is predicted: all zero
    StepBatch batch;
    int64_t begin = 0;
    for (const int64_t i : some) {
      const int64_t row = rows[static_cast<size_t>(i)];
      masks.emplace_back(data.ids(row).size(), uint8_t{0});
      packed.push_back({.ids = data.ids(row), .supervised = masks.back(), .row = row});
      const auto labels = data.labels(row);
      for (size_t t = 0; t < labels.size(); ++t) {
        if (labels[t] == StepsDataset::kNotLearned) continue;
        batch.at.push_back(begin + static_cast<int64_t>(t));
        batch.labels.push_back(labels[t]);
      }
      begin += data.length(row);
    }
    batch.packed = batch_rows(packed);
    batches.push_back(std::move(batch));
  }
  return batches;
}

struct StepSums {
  double loss = 0.0;
  int64_t correct = 0;
  int64_t labelled = 0;
  int64_t tokens = 0;

  double accuracy() const {
    return static_cast<double>(correct) / static_cast<double>(std::max<int64_t>(1, labelled));
  }
};

int64_t count_labels(const StepsDataset& data, std::span<const int64_t> rows) {
  int64_t count = 0;
  for (const int64_t row : rows) {
    const auto labels = data.labels(row);
    count += std::count_if(labels.begin(), labels.end(),
                           [](int32_t label) { return label != StepsDataset::kNotLearned; });
  }
  return count;
}

/// The share of a batch in the mean over `labelled` steps; differentiable. Adds to `sums`.
at::Tensor loss_of(const Policy& policy, const StepBatch& batch, const ForwardOptions& forward,
                   int64_t labelled, StepSums& sums) {
  const auto labels = index_tensor(batch.labels).to(policy.device);
  const auto hidden =
      packed_forward(policy.decoder(), batch.packed, index_tensor(batch.at), forward);
  const auto scores = policy.decoder().score(hidden);  // (R, 2)
  const auto each = at::log_softmax(scores, 1).gather(1, labels.unsqueeze(1));
  const auto loss = -each.sum() / static_cast<double>(std::max<int64_t>(1, labelled));
  sums.loss += loss.item<double>();
  sums.correct += (scores.argmax(1) == labels).sum().item<int64_t>();
  sums.labelled += labels.numel();
  sums.tokens += batch.packed.tokens();
  return loss;
}

/// Gradients of the mean over all labelled steps of the rows, micro-batch by micro-batch.
StepSums accumulate_gradients(const PrmConfig& config, const Policy& policy,
                              const MicrobatchSize& size, const StepsDataset& data,
                              const std::vector<int64_t>& rows, int64_t step) {
  StepSums sums;
  const int64_t labelled = count_labels(data, rows);
  for (const auto& batch : step_batches(data, rows, size)) {
    if (batch.at.empty()) continue;
    const auto pass = policy.training_pass(config.training, step, sums.tokens);
    backward(loss_of(policy, batch, pass, labelled, sums));
  }
  return sums;
}

void evaluate_and_note(const PrmConfig& config, PrmSetup& setup, TrainRun& run) {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  const auto& data = *setup.data.eval;
  const auto rows = all_rows(data.rows());
  StepSums sums;
  const int64_t labelled = count_labels(data, rows);
  for (const auto& batch :
       step_batches(data, rows, {.tokens = microbatch_tokens(config.training)})) {
    if (!batch.at.empty()) loss_of(*setup.policy, batch, {}, labelled, sums);
  }
  const Bounds interval = wilson_interval(sums.correct, sums.labelled);
  run.note_evaluation({{"eval_loss", sums.loss},
                       {"eval_accuracy", sums.accuracy()},
                       {"eval_accuracy_low", interval.low},
                       {"eval_accuracy_high", interval.high}},
                      seconds_since(start), data.rows());
}

}  // namespace

TrainResult train_prm(PrmConfig config, const TrainHooks& hooks) {
  if (hooks.on_text) hooks.on_text(resolved_table(config));
  // Everything that can be wrong is looked at before anything is written, and reported together.
  PrmSetup setup = set_up(config, hooks);
  RunMemory memory = run_memory(config);
  fit_rows(memory, longest_row(*setup.data.train), setup.data.train->lengths());
  check_memory(memory, setup.policy->device.is_cpu());
  const MicrobatchSize size = memory_request(memory).size;
  TrainRun run({.method = "prm",
                .training = config.training,
                .hooks = hooks,
                .text = *setup.text,
                .config_yaml = resolved_yaml(config),
                .rows = setup.data.train->rows(),
                .data_fingerprint = setup.data.train_fingerprint,
                .lengths = setup.data.train->lengths()},
               *setup.policy);
  if (!run.over() && run.evaluation_is_due()) evaluate_and_note(config, setup, run);

  while (!run.over()) {
    // 1. The rows of this step: a function of the step alone.
    const auto rows = run.begin_step();
    // 2. Gradients of the mean over all labelled steps of these rows.
    const auto sums =
        accumulate_gradients(config, *setup.policy, size, *setup.data.train, rows, run.step());
    // 3. Clip by the norm over all trained tensors, update, and say what happened.
    run.update(sums.loss, {{"accuracy", sums.accuracy()}}, sums.tokens);
    // 4. Evaluate and save when it is time; stop when asked.
    if (run.evaluation_is_due()) evaluate_and_note(config, setup, run);
    run.end_step();
  }
  return run.finish();
}

}  // namespace rlhf
