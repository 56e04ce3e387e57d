#include "rlhf/train/kto.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>

#include "rlhf/core/error.h"
#include "rlhf/data/prepare.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/losses/bco.h"
#include "rlhf/losses/kto.h"
#include "rlhf/losses/unpaired.h"
#include "rlhf/math/sequence_logps.h"
#include "rlhf/train/answer_batch.h"
#include "rlhf/train/kto_pairing.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/reference_maker.h"
#include "rlhf/train/run_data.h"

namespace rlhf {
namespace {

/// Everything a run reads, checked.
struct KtoSetup : Prepared {
  RunData<AnswerDataset> data;
};

ReadRows<AnswerDataset> read_answers(const KtoConfig& config, const TextSide& text,
                                     const DataSpec& spec) {
  const AnswerOptions options{.max_length = config.kto.max_length,
                              .unpair = config.kto.unpair,
                              .text = text_options(text, config.data)};
  Statistics statistics;
  auto data = prepare_answers(spec, text.tokenizer, text.chat,
                              text_fingerprint(text.folder, text.template_text), options,
                              cache_folder(config.data), &statistics);
  return {std::move(data), statistics.table()};
}

KtoSetup set_up(KtoConfig& config, const TrainHooks& hooks) {
  SetupChecks checks;
  const PolicyRequest request{
      .adapter_dropout = adapter_dropout(config.lora, config.kto.disable_dropout),
      .keeps_start_adapter = true};
  KtoSetup setup{prepare_run(
                     config, run_memory(config), [&](const TextSide*) { return request; }, checks),
                 {}};
  if (setup.text) {
    setup.data = read_run_data<AnswerDataset>(
        config, hooks, setup.policy, checks,
        [&](const DataSpec& spec, bool) { return read_answers(config, *setup.text, spec); });
  }
  if (setup.policy)
    checks.attempt([&] { check_reference_folder(config.kto.reference, *setup.policy); });
  checks.throw_if_any();
  return setup;
}

/// One data set with its references: of its own answers and of mismatched ones.
struct Side {
  const AnswerDataset* data = nullptr;
  std::string fingerprint;
  MismatchedAnswers mismatched;
  std::optional<Reference> reference;
  std::optional<Reference> mismatched_reference;

  void let_go() const {
    for (const auto* one : {&reference, &mismatched_reference}) {
      if (*one) (*one)->let_go();
    }
  }
};

class KtoTrainer {
 public:
  KtoTrainer(const KtoConfig& config, KtoSetup& setup, const MicrobatchSize& size, TrainRun& run)
      : config_(config), policy_(*setup.policy), size_(size), run_(run) {
    train_.data = &*setup.data.train;
    train_.fingerprint = setup.data.train_fingerprint;
    if (setup.data.eval) {
      eval_.data = &*setup.data.eval;
      eval_.fingerprint = setup.data.eval_fingerprint;
    }
    if (!run.resumed_extra().is_null()) moments_ = RunningMoments::from_json(run.resumed_extra());
    run.set_extra_state([this] { return moments_.to_json(); });
    pair_answers();
  }

  /// False when a stop was asked for while tables were made.
  bool make_references(const TrainHooks& hooks);

  struct Result {
    double loss = 0.0;
    Metrics metrics;
    int64_t tokens = 0;
  };
  /// Gradients of the loss over `rows`, all rows of a step.
  Result step(const std::vector<int64_t>& rows);
  void evaluate_and_note();
  void follow() { references_.follow(policy_, config_.kto.reference, run_.step()); }

 private:
  /// Sums over the answers of a step or an evaluation, by class: desirable first.
  struct Sums {
    std::array<double, 2> reward{}, logp{}, logits{};
    std::array<int64_t, 2> answers{}, scored{};
    double entropy = 0.0;
    double loss = 0.0;
    int64_t tokens = 0;
  };
  /// One pass over a batch of answers, whose reference log-probabilities are `fixed`.
  struct Pass {
    RowLogprobs policy;
    at::Tensor logps;       // (B)
    at::Tensor log_ratios;  // (B)
    at::Tensor desirable;   // (B) bool
  };

  void pair_answers();
  std::vector<AnswerBatch> batches(const Side& side, const std::vector<int64_t>& rows,
                                   const MicrobatchSize& size) const;
  Pass pass_over(const Side& side, const AnswerBatch& batch, const at::Tensor& fixed,
                 const ForwardOptions& forward) const;
  double mismatched_mean(const Side& side, const std::vector<int64_t>& rows) const;
  std::optional<Pass> update_running_mean(const std::vector<AnswerBatch>& batches,
                                          const std::vector<at::Tensor>& fixed);
  double anchor(const Side& side, const std::vector<int64_t>& rows) const;
  void take(const Pass& pass, const AnswerBatch& batch, Sums& sums) const;
  Metrics metrics_of(const Sums& sums, double anchor, const std::string& prefix) const;
  at::Tensor loss_of(const Pass& pass, double anchor, int64_t rows) const;

  const KtoConfig& config_;
  Policy& policy_;
  MicrobatchSize size_;
  TrainRun& run_;
  Side train_;
  Side eval_;
  References references_;
  RunningMoments moments_;
};

void KtoTrainer::pair_answers() {
  if (!needs_mismatched_answers(config_.kto.loss_type)) return;
  const auto most = config_.kto.max_length;
  train_.mismatched = MismatchedAnswers(*train_.data, most);
  for (int64_t step = 0; step < run_.total_steps(); ++step)
    train_.mismatched.add_block(run_.rows_of_step(step));
  if (eval_.data == nullptr) return;
  eval_.mismatched = MismatchedAnswers(*eval_.data, most);
  const auto rows = all_rows(eval_.data->rows());
  for (const auto& block : blocks_of(rows, config_.training.per_device_eval_batch_size))
    eval_.mismatched.add_block(block);
}

bool KtoTrainer::make_references(const TrainHooks& hooks) {
  ReferenceMaker maker(config_, config_.kto.reference, policy_, run_, hooks);
  if (!maker.tabulates()) {
    references_ = maker.live();
    for (Side* side : {&train_, &eval_})
      side->reference = side->mismatched_reference = references_.train;
    return true;
  }
  for (Side* side : {&train_, &eval_}) {
    if (side->data == nullptr) continue;
    const auto rows = side == &train_ ? run_.rows_of_run() : all_rows(side->data->rows());
    const ReferenceItems own{
        .size = std::ssize(rows),
        .prompts =
            [&](int64_t item) {
              return std::vector{pack_answer(*side->data, rows[static_cast<size_t>(item)], item)};
            },
        .fingerprint = fingerprint_of_rows(side->fingerprint, rows)};
    if (!maker.tabulate(own, rows, side->reference)) return false;
    const auto& mismatched = side->mismatched;
    if (mismatched.size() == 0) continue;
    const ReferenceItems others{
        .size = mismatched.size(),
        .prompts = [&](int64_t item) { return std::vector{mismatched.pack(item, item)}; },
        .fingerprint = fingerprint_of_rows(side->fingerprint, mismatched.flat())};
    if (!maker.tabulate(others, all_rows(mismatched.size()), side->mismatched_reference))
      return false;
  }
  return true;
}

std::vector<AnswerBatch> KtoTrainer::batches(const Side& side, const std::vector<int64_t>& rows,
                                             const MicrobatchSize& size) const {
  return answer_batches(rows, size, [&](int64_t row, int64_t number) {
    return pack_answer(*side.data, row, number);
  });
}

KtoTrainer::Pass KtoTrainer::pass_over(const Side& side, const AnswerBatch& batch,
                                       const at::Tensor& fixed,
                                       const ForwardOptions& forward) const {
  Pass pass;
  pass.policy = batch_logprobs(
      policy_.decoder(), batch.packed,
      {.entropy = true, .mean_logit = true, .keep_logits_bytes = kKeepLogitsBytes}, forward);
  const auto sequence = sequence_of(batch.packed, pass.policy.logprobs.device());
  pass.logps = sequence_logps(pass.policy.logprobs, sequence, batch.size()).sums;
  pass.log_ratios =
      pass.logps -
      sequence_logps(fixed.to(pass.policy.logprobs.options()), sequence, batch.size()).sums;
  auto desirable = at::empty({batch.size()}, at::kBool);
  std::transform(batch.rows.begin(), batch.rows.end(), desirable.data_ptr<bool>(),
                 [&](int64_t row) { return side.data->desirable(row); });
  pass.desirable = desirable.to(pass.logps.device());
  return pass;
}

/// Mean of D over the step's mismatched prompts and answers.
double KtoTrainer::mismatched_mean(const Side& side, const std::vector<int64_t>& rows) const {
  const at::NoGradGuard no_grad;
  const auto pairs = side.mismatched.of_block(rows);
  const auto batches = answer_batches(
      pairs, {.tokens = microbatch_tokens(config_.training)},
      [&](int64_t pair, int64_t number) { return side.mismatched.pack(pair, number); });
  const auto fixed = side.mismatched_reference->logprobs(batches);
  std::vector<at::Tensor> ratios;
  for (size_t i = 0; i < batches.size(); ++i) {
    const auto& batch = batches[i];
    const auto policy = batch_logprobs(policy_.decoder(), batch.packed, {}).logprobs;
    const auto sequence = sequence_of(batch.packed, policy.device());
    ratios.push_back(
        sequence_logps(policy - fixed[i].to(policy.options()), sequence, batch.size()).sums);
  }
  return kto_reference_point(at::cat(ratios));
}

/// Takes the step's rewards into δ. A step of one batch gives its pass back for the backward; of
/// several, each has a first look without gradients, with the dropout of its second.
std::optional<KtoTrainer::Pass> KtoTrainer::update_running_mean(
    const std::vector<AnswerBatch>& batches, const std::vector<at::Tensor>& fixed) {
  const bool one = batches.size() == 1;
  const at::AutoGradMode with_gradients(one);
  std::optional<Pass> kept;
  std::vector<at::Tensor> rewards;
  int64_t first_token = 0;
  for (size_t i = 0; i < batches.size(); ++i) {
    auto pass = pass_over(train_, batches[i], fixed[i],
                          policy_.training_pass(config_.training, run_.step(), first_token));
    first_token += batches[i].packed.tokens();
    rewards.push_back(pass.log_ratios.detach() * config_.kto.loss.beta);
    if (one) kept = std::move(pass);
  }
  moments_.update(at::cat(rewards));
  return kept;
}

/// z of the rows, or δ as it stands; 0 for losses without either.
double KtoTrainer::anchor(const Side& side, const std::vector<int64_t>& rows) const {
  if (needs_mismatched_answers(config_.kto.loss_type)) return mismatched_mean(side, rows);
  return needs_running_mean(config_.kto.loss_type) ? moments_.mean : 0.0;
}

at::Tensor KtoTrainer::loss_of(const Pass& pass, double anchor, int64_t rows) const {
  const auto each = unpaired_loss(config_.kto.loss_type, pass.log_ratios, pass.desirable, anchor,
                                  config_.kto.loss);
  return each.sum(at::kDouble).to(each.scalar_type()) / static_cast<double>(rows);
}

void KtoTrainer::take(const Pass& pass, const AnswerBatch& batch, Sums& sums) const {
  const at::NoGradGuard no_grad;
  const auto total = [](const at::Tensor& values) {
    return values.sum(at::kDouble).item<double>();
  };
  const auto of_token =
      pass.desirable.index_select(0, sequence_of(batch.packed, pass.desirable.device()));
  for (const size_t side : {0U, 1U}) {
    const auto answers = side == 0 ? pass.desirable : pass.desirable.logical_not();
    const auto tokens = side == 0 ? of_token : of_token.logical_not();
    sums.reward[side] += config_.kto.loss.beta * total(pass.log_ratios.masked_select(answers));
    sums.logp[side] += total(pass.logps.masked_select(answers));
    sums.logits[side] += total(pass.policy.mean_logit.masked_select(tokens));
    sums.answers[side] += answers.sum().item<int64_t>();
    sums.scored[side] += tokens.sum().item<int64_t>();
  }
  sums.entropy += total(pass.policy.entropy);
  sums.tokens += batch.packed.tokens();
}

Metrics KtoTrainer::metrics_of(const Sums& sums, double anchor, const std::string& prefix) const {
  Metrics metrics;
  const auto mean = [](double sum, int64_t count) { return sum / static_cast<double>(count); };
  const int64_t scored = sums.scored[0] + sums.scored[1];
  if (needs_running_mean(config_.kto.loss_type)) {
    metrics.emplace_back("delta", anchor);
  } else {
    metrics.emplace_back("kl", anchor);
  }
  metrics.emplace_back("entropy", mean(sums.entropy, std::max<int64_t>(1, scored)));
  // A class without an answer has no mean: it is left out.
  constexpr std::array kNames = {"chosen", "rejected"};
  for (const size_t side : {0U, 1U}) {
    if (sums.answers[side] == 0) continue;
    metrics.emplace_back(fmt::format("rewards/{}", kNames[side]),
                         mean(sums.reward[side], sums.answers[side]));
    metrics.emplace_back(fmt::format("logps/{}", kNames[side]),
                         mean(sums.logp[side], sums.answers[side]));
    metrics.emplace_back(fmt::format("logits/{}", kNames[side]),
                         mean(sums.logits[side], std::max<int64_t>(1, sums.scored[side])));
  }
  if (sums.answers[0] > 0 && sums.answers[1] > 0) {
    metrics.emplace_back("rewards/margins", mean(sums.reward[0], sums.answers[0]) -
                                                mean(sums.reward[1], sums.answers[1]));
  }
  for (auto& [name, value] : metrics) name = prefix + name;
  return metrics;
}

KtoTrainer::Result KtoTrainer::step(const std::vector<int64_t>& rows) {
  const auto cut = batches(train_, rows, size_);
  const auto fixed = train_.reference->logprobs(cut);
  std::optional<Pass> kept;
  if (needs_running_mean(config_.kto.loss_type)) {
    train_.let_go();  // a graph may be kept
    kept = update_running_mean(cut, fixed);
  }
  const double shift = anchor(train_, rows);
  train_.let_go();
  Sums sums;
  for (size_t i = 0; i < cut.size(); ++i) {
    const auto pass =
        kept ? *kept
             : pass_over(train_, cut[i], fixed[i],
                         policy_.training_pass(config_.training, run_.step(), sums.tokens));
    const auto loss = loss_of(pass, shift, std::ssize(rows));
    backward(loss);
    sums.loss += loss.item<double>();
    take(pass, cut[i], sums);
  }
  return {.loss = sums.loss, .metrics = metrics_of(sums, shift, ""), .tokens = sums.tokens};
}

void KtoTrainer::evaluate_and_note() {
  const auto start = std::chrono::steady_clock::now();
  const at::NoGradGuard no_grad;
  Sums sums;
  double anchors = 0.0;
  const int64_t total = eval_.data->rows();
  for (const auto& block :
       blocks_of(all_rows(total), config_.training.per_device_eval_batch_size)) {
    const auto cut = batches(eval_, block, {.tokens = microbatch_tokens(config_.training)});
    const double shift = anchor(eval_, block);
    anchors += shift * static_cast<double>(block.size()) / static_cast<double>(total);
    const auto fixed = eval_.reference->logprobs(cut);
    for (size_t i = 0; i < cut.size(); ++i) {
      const auto pass = pass_over(eval_, cut[i], fixed[i], {});
      sums.loss += loss_of(pass, shift, total).item<double>();
      take(pass, cut[i], sums);
    }
  }
  eval_.let_go();
  Metrics metrics = {{"eval_loss", sums.loss}};
  for (auto& metric : metrics_of(sums, anchors, "eval_")) metrics.push_back(std::move(metric));
  run_.note_evaluation(metrics, seconds_since(start), total);
}

}  // namespace

TrainResult train_kto(KtoConfig config, const TrainHooks& hooks) {
  if (hooks.on_text) hooks.on_text(resolved_table(config));
  // Everything that can be wrong is looked at before anything is written, and reported together.
  KtoSetup setup = set_up(config, hooks);
  RunMemory memory = run_memory(config);
  fit_rows(memory, longest_row(*setup.data.train), setup.data.train->lengths());
  check_memory(memory, setup.policy->device.is_cpu());
  const MicrobatchSize size = memory_request(memory).size;
  TrainRun run({.method = "kto",
                .training = config.training,
                .hooks = hooks,
                .text = *setup.text,
                .config_yaml = resolved_yaml(config),
                .rows = setup.data.train->rows(),
                .data_fingerprint = setup.data.train_fingerprint,
                .lengths = setup.data.train->lengths()},
               *setup.policy);
  KtoTrainer trainer(config, setup, size, run);
  if (!run.over() && !trainer.make_references(hooks)) run.interrupt();
  if (!run.over() && run.evaluation_is_due()) trainer.evaluate_and_note();

  while (!run.over()) {
    // 1. The rows of this step: a function of the step alone.
    const auto rows = run.begin_step();
    // 2. z or δ of the step, then gradients of the loss over all its rows.
    const auto result = trainer.step(rows);
    // 3. Clip by the norm over all trained tensors, update, and say what happened.
    run.update(result.loss, result.metrics, result.tokens);
    // 4. TR-DPO: the reference follows the policy.
    trainer.follow();
    // 5. Evaluate and save when it is time; stop when asked.
    if (run.evaluation_is_due()) trainer.evaluate_and_note();
    run.end_step();
  }
  return run.finish();
}

}  // namespace rlhf
