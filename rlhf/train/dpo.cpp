#include "rlhf/train/dpo.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/train/answer_batch.h"
#include "rlhf/train/dpo_objective.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/reference_maker.h"
#include "rlhf/train/run_data.h"

namespace rlhf {
namespace {

/// Everything a run reads, checked.
struct DpoSetup : Prepared {
  RunData<PairDataset> data;
};

ReadRows<PairDataset> read_pairs(const DpoConfig& config, const TextSide& text,
                                 const DataSpec& spec) {
  const auto& dpo = config.dpo;
  const PairOptions options{.mode = PairMode::dpo,
                            .max_length = dpo.max_length,
                            .truncation_mode = dpo.truncation_mode == TruncationChoice::keep_end
                                                   ? TruncationMode::keep_end
                                                   : TruncationMode::keep_start,
                            .drop_identical = dpo.drop_identical_pairs,
                            .text = text_options(text, config.data)};
  Statistics statistics;
  auto data = prepare_pairs(spec, text.tokenizer, text.chat,
                            text_fingerprint(text.folder, text.template_text), options,
                            cache_folder(config.data), &statistics);
  return {std::move(data), statistics.table()};
}

DpoSetup set_up(DpoConfig& config, const TrainHooks& hooks) {
  SetupChecks checks;
  const PolicyRequest request{
      .adapter_dropout = adapter_dropout(config.lora, config.dpo.disable_dropout),
      .keeps_start_adapter = uses_reference(config.dpo)};
  DpoSetup setup{prepare_run(
                     config, run_memory(config), [&](const TextSide*) { return request; }, checks),
                 {}};
  if (setup.text) {
    setup.data = read_run_data<PairDataset>(
        config, hooks, setup.policy, checks,
        [&](const DataSpec& spec, bool) { return read_pairs(config, *setup.text, spec); });
  }
  if (setup.policy)
    checks.attempt([&] { check_reference_folder(config.dpo.reference, *setup.policy); });
  checks.throw_if_any();
  return setup;
}

/// `rows` of a data set as items of a table.
ReferenceItems pair_items(const PairDataset& data, const std::vector<int64_t>& rows,
                          const std::string& fingerprint) {
  return {.size = std::ssize(rows),
          .prompts =
              [&data, &rows](int64_t item) {
                return pack_pair(data, rows[static_cast<size_t>(item)], item);
              },
          .fingerprint = fingerprint_of_rows(fingerprint, rows)};
}

/// The reference of both data sets, from wherever it costs least. False when a stop was asked for
/// while tables were made.
bool make_references(const DpoConfig& config, DpoSetup& setup, const TrainHooks& hooks,
                     TrainRun& run, References& references) {
  if (!uses_reference(config.dpo)) return true;
  ReferenceMaker maker(config, config.dpo.reference, *setup.policy, run, hooks);
  if (!maker.tabulates()) {
    references = maker.live();
    return true;
  }
  const auto train_rows = run.rows_of_run();
  if (!maker.tabulate(pair_items(*setup.data.train, train_rows, setup.data.train_fingerprint),
                      train_rows, references.train)) {
    return false;
  }
  if (!setup.data.eval) return true;
  const auto eval_rows = all_rows(setup.data.eval->rows());
  return maker.tabulate(pair_items(*setup.data.eval, eval_rows, setup.data.eval_fingerprint),
                        eval_rows, references.eval);
}

/// The reference's log-probabilities of each batch; undefined where the loss has none.
std::vector<at::Tensor> fixed_logprobs(const std::optional<Reference>& reference,
                                       const std::vector<AnswerBatch>& batches) {
  return reference ? reference->logprobs(batches) : std::vector<at::Tensor>(batches.size());
}

void let_go(const std::optional<Reference>& reference) {
  if (reference) reference->let_go();
}

/// One pass over a batch of pairs, whose reference log-probabilities are `fixed`.
struct PairPass {
  RowLogprobs policy;
  PairScores scores;
};
PairPass pass_over(const DpoConfig& config, const Policy& policy, const PairDataset& data,
                   const AnswerBatch& batch, const at::Tensor& fixed,
                   const ForwardOptions& forward) {
  PairPass pass{.policy = batch_logprobs(policy.decoder(), batch.packed,
                                         head_options(config.dpo, kKeepLogitsBytes), forward),
                .scores = {}};
  pass.scores = pair_scores(config.dpo, data, batch, pass.policy, fixed);
  return pass;
}

struct StepResult {
  PairCounts counts;
  double loss = 0.0;
  PairMetrics metrics{};
};

/// The gradient of the step's loss with respect to what pair_scores() gives, where the loss needs
/// all pairs of the step at once: a first look at them without gradients, with the dropout of the
/// second.
std::vector<PairScores> whole_step_gradient(const DpoConfig& config, const Policy& policy,
                                            const PairDataset& data,
                                            const std::vector<AnswerBatch>& batches,
                                            const std::vector<at::Tensor>& fixed, int64_t step,
                                            StepResult& result) {
  std::vector<PairScores> parts;
  {
    const at::NoGradGuard no_grad;
    int64_t first_token = 0;
    for (size_t i = 0; i < batches.size(); ++i) {
      const auto forward = policy.training_pass(config.training, step, first_token);
      first_token += batches[i].packed.tokens();
      parts.push_back(pass_over(config, policy, data, batches[i], fixed[i], forward).scores);
    }
  }
  PairScores joined = join_scores(parts);
  for (auto* tensor : {&joined.logps.chosen, &joined.logps.rejected, &joined.chosen_nll})
    tensor->requires_grad_(true);
  const auto loss = dpo_objective(config.dpo, joined, result.counts);
  loss.backward();
  result.loss = loss.item<double>();
  std::vector<PairScores> gradients;
  int64_t begin = 0;
  for (const auto& batch : batches) {
    const auto cut = [&](const at::Tensor& of) {
      return of.grad().defined() ? of.grad().narrow(0, begin, batch.size())
                                 : at::zeros({batch.size()}, of.options().requires_grad(false));
    };
    gradients.push_back(
        {.logps = {.chosen = cut(joined.logps.chosen), .rejected = cut(joined.logps.rejected)},
         .chosen_nll = cut(joined.chosen_nll)});
    begin += batch.size();
  }
  return gradients;
}

/// Σ gradient · score: its backward is the step's.
at::Tensor surrogate(const PairScores& scores, const PairScores& gradient) {
  return (scores.logps.chosen * gradient.logps.chosen +
          scores.logps.rejected * gradient.logps.rejected + scores.chosen_nll * gradient.chosen_nll)
      .sum();
}

bool needs_whole_step(const DpoOptions& options) {
  return std::any_of(options.loss_type.begin(), options.loss_type.end(),
                     [](DpoLoss loss) { return needs_whole_step(loss); });
}

/// Gradients of the step's loss, micro-batch by micro-batch.
StepResult accumulate_gradients(const DpoConfig& config, const Policy& policy,
                                const MicrobatchSize& size, const PairDataset& data,
                                const std::vector<int64_t>& rows, int64_t step,
                                const std::optional<Reference>& reference) {
  StepResult result{PairCounts::of(data, rows)};
  const auto batches = pair_batches(data, rows, size, policy.config().shared_prefix_limit(),
                                    scores_prompts(config.dpo));
  const auto fixed = fixed_logprobs(reference, batches);
  let_go(reference);
  std::vector<PairScores> gradients;
  if (needs_whole_step(config.dpo) && batches.size() > 1)
    gradients = whole_step_gradient(config, policy, data, batches, fixed, step, result);
  int64_t first_token = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto& batch = batches[i];
    const auto pass = pass_over(config, policy, data, batch, fixed[i],
                                policy.training_pass(config.training, step, first_token));
    first_token += batch.packed.tokens();
    if (gradients.empty()) {
      const auto loss = dpo_objective(config.dpo, pass.scores, result.counts);
      backward(loss);
      result.loss += loss.item<double>();
    } else {
      backward(surrogate(pass.scores, gradients[i]));
    }
    result.metrics.add(config.dpo, batch, pass.scores, pass.policy);
  }
  return result;
}

/// The loss over all evaluation pairs. Losses over a whole step see per_device_eval_batch_size
/// pairs at once, and are averaged by pairs.
StepResult evaluate(const DpoConfig& config, const Policy& policy, const PairDataset& data,
                    const std::optional<Reference>& reference) {
  const at::NoGradGuard no_grad;
  const auto rows = all_rows(data.rows());
  const bool whole = needs_whole_step(config.dpo);
  const int64_t at_once =
      whole ? std::max<int64_t>(1, config.training.per_device_eval_batch_size) : data.rows();
  StepResult result{PairCounts::of(data, rows)};
  for (int64_t begin = 0; begin < data.rows(); begin += at_once) {
    const auto some = std::span(rows).subspan(
        static_cast<size_t>(begin), static_cast<size_t>(std::min(at_once, data.rows() - begin)));
    const auto counts = PairCounts::of(data, some);
    const auto batches =
        pair_batches(data, some, {.tokens = microbatch_tokens(config.training)},
                     policy.config().shared_prefix_limit(), scores_prompts(config.dpo));
    const auto fixed = fixed_logprobs(reference, batches);
    std::vector<PairScores> parts;
    for (size_t i = 0; i < batches.size(); ++i) {
      const auto pass = pass_over(config, policy, data, batches[i], fixed[i], {});
      result.metrics.add(config.dpo, batches[i], pass.scores, pass.policy);
      parts.push_back(pass.scores);
    }
    const auto loss = dpo_objective(config.dpo, join_scores(parts), counts).item<double>();
    result.loss += loss * static_cast<double>(counts.pairs) / static_cast<double>(data.rows());
  }
  let_go(reference);
  return result;
}

void evaluate_and_note(const DpoConfig& config, DpoSetup& setup, const References& references,
                       TrainRun& run) {
  const auto start = std::chrono::steady_clock::now();
  const auto result = evaluate(config, *setup.policy, *setup.data.eval, references.eval);
  Metrics metrics = {{"eval_loss", result.loss}};
  for (auto& metric : result.metrics.means(config.dpo, result.counts, "eval_"))
    metrics.push_back(std::move(metric));
  run.note_evaluation(metrics, seconds_since(start), setup.data.eval->rows());
}

}  // namespace

TrainResult train_dpo(DpoConfig config, const TrainHooks& hooks) {
  if (hooks.on_text) hooks.on_text(resolved_table(config));
  // Everything that can be wrong is looked at before anything is written, and reported together.
  DpoSetup setup = set_up(config, hooks);
  RunMemory memory = run_memory(config);
  const int64_t share_limit = setup.policy->config().shared_prefix_limit();
  fit_rows(memory, longest_pair(*setup.data.train, share_limit), setup.data.train->lengths());
  if (!scores_prompts(config.dpo))
    memory.scored_share = largest_answer_share(*setup.data.train, share_limit);
  check_memory(memory, setup.policy->device.is_cpu());
  const MicrobatchSize size = memory_request(memory).size;
  TrainRun run({.method = "dpo",
                .training = config.training,
                .hooks = hooks,
                .text = *setup.text,
                .config_yaml = resolved_yaml(config),
                .rows = setup.data.train->rows(),
                .data_fingerprint = setup.data.train_fingerprint,
                .lengths = setup.data.train->lengths()},
               *setup.policy);
  References references;
  if (!run.over() && !make_references(config, setup, hooks, run, references)) run.interrupt();
  if (!run.over() && run.evaluation_is_due()) evaluate_and_note(config, setup, references, run);

  while (!run.over()) {
    // 1. The pairs of this step: a function of the step alone.
    const auto rows = run.begin_step();
    // 2. Gradients of the loss over all pairs of the step.
    const auto result = accumulate_gradients(config, *setup.policy, size, *setup.data.train, rows,
                                             run.step(), references.train);
    // 3. Clip by the norm over all trained tensors, update, and say what happened.
    run.update(result.loss, result.metrics.means(config.dpo, result.counts, ""),
               result.counts.tokens);
    // 4. TR-DPO: the reference follows the policy.
    references.follow(*setup.policy, config.dpo.reference, run.step());
    // 5. Evaluate and save when it is time; stop when asked.
    if (run.evaluation_is_due()) evaluate_and_note(config, setup, references, run);
    run.end_step();
  }
  return run.finish();
}

}  // namespace rlhf
