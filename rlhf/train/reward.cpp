#include "rlhf/train/reward.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/data/prepare.h"
#include "rlhf/kernels/weight_gradient.h"
#include "rlhf/losses/bradley_terry.h"
#include "rlhf/models/classifier.h"
#include "rlhf/models/packed_forward.h"
#include "rlhf/rewards/estimates.h"
#include "rlhf/rewards/preference.h"
#include "rlhf/train/answer_batch.h"
#include "rlhf/train/classifier_setup.h"
#include "rlhf/train/memory_run.h"
#include "rlhf/train/run_data.h"

namespace rlhf {
namespace {

/// Everything a run reads, checked.
struct RewardSetup : Prepared {
  RunData<PairDataset> data;
};

ReadRows<PairDataset> read_pairs(const RewardConfig& config, const TextSide& text,
                                 const DataSpec& spec) {
  const PairOptions options{.mode = PairMode::reward,
                            .max_length = config.reward.max_length,
                            .drop_identical = config.reward.drop_identical_pairs,
                            .text = text_options(text, config.data)};
  Statistics statistics;
  auto data = prepare_pairs(spec, text.tokenizer, text.chat,
                            text_fingerprint(text.folder, text.template_text), options,
                            cache_folder(config.data), &statistics);
  return {std::move(data), statistics.table()};
}

RewardSetup set_up(RewardConfig& config, const TrainHooks& hooks) {
  SetupChecks checks;
  const ClassifierWish wish{.task = ModelTask::sequence_classification,
                            .labels = 1,
                            .dropout = adapter_dropout(config.lora, config.reward.disable_dropout)};
  RewardSetup setup{prepare_classifier(config, run_memory(config), wish, checks), {}};
  if (setup.text) {
    setup.data = read_run_data<PairDataset>(
        config, hooks, setup.policy, checks,
        [&](const DataSpec& spec, bool) { return read_pairs(config, *setup.text, spec); });
  }
  checks.throw_if_any();
  return setup;
}

/// Scores of a batch's pairs, (B) each.
struct PairRewards {
  at::Tensor chosen;
  at::Tensor rejected;
};
PairRewards score_pairs(const Policy& policy, const AnswerBatch& batch,
                        const ForwardOptions& forward) {
  const auto hidden =
      packed_forward(policy.decoder(), batch.packed, index_tensor(batch.packed.row_end), forward);
  const auto scores = policy.decoder().score(hidden).view({batch.size(), 2});
  return {scores.select(1, 0), scores.select(1, 1)};
}

at::Tensor margins(const PairDataset& data, const AnswerBatch& batch, const at::Tensor& like) {
  auto made = at::empty({batch.size()}, at::kFloat);
  std::transform(batch.rows.begin(), batch.rows.end(), made.data_ptr<float>(),
                 [&](int64_t row) { return data.margin(row).value_or(0.0F); });
  return made.to(like.options());
}

/// Sums over the pairs of a step or an evaluation; divided once.
struct RewardSums {
  double loss = 0.0;
  double sum = 0.0;
  double squares = 0.0;
  double margin = 0.0;
  double least = std::numeric_limits<double>::infinity();
  double largest = -std::numeric_limits<double>::infinity();
  int64_t wins = 0;
  int64_t pairs = 0;
  int64_t tokens = 0;  ///< of both members of all pairs, prompts counted twice, as TRL counts

  void add(const PairDataset& data, const AnswerBatch& batch, const PairRewards& rewards) {
    const auto chosen = rewards.chosen.detach().to(at::kCPU, at::kDouble);
    const auto rejected = rewards.rejected.detach().to(at::kCPU, at::kDouble);
    const auto both = at::cat({chosen, rejected});
    sum += both.sum().item<double>();
    squares += both.square().sum().item<double>();
    margin += (chosen - rejected).sum().item<double>();
    least = std::min(least, both.min().item<double>());
    largest = std::max(largest, both.max().item<double>());
    wins += (chosen > rejected).sum().item<int64_t>();
    pairs += batch.size();
    for (const int64_t row : batch.rows) {
      tokens += 2 * std::ssize(data.prompt(row)) + std::ssize(data.chosen(row)) +
                std::ssize(data.rejected(row));
    }
  }
  double mean() const { return sum / (2.0 * static_cast<double>(pairs)); }
  double deviation() const {
    const double mean_square = squares / (2.0 * static_cast<double>(pairs));
    return std::sqrt(std::max(0.0, mean_square - mean() * mean()));
  }
  Metrics means(const std::string& prefix) const {
    const auto count = static_cast<double>(pairs);
    return {{prefix + "accuracy", static_cast<double>(wins) / count},
            {prefix + "margin", margin / count},
            {prefix + "min_reward", least},
            {prefix + "mean_reward", mean()},
            {prefix + "max_reward", largest}};
  }
};

at::Tensor loss_of(const RewardConfig& config, const PairDataset& data, const AnswerBatch& batch,
                   const PairRewards& rewards, size_t pairs) {
  const auto each =
      bradley_terry_loss(rewards.chosen, rewards.rejected, margins(data, batch, rewards.chosen),
                         config.reward.center_rewards_coefficient.value_or(0.0));
  return each.sum() / static_cast<double>(pairs);
}

/// Gradients of the mean loss over the pairs of the step, micro-batch by micro-batch.
RewardSums accumulate_gradients(const RewardConfig& config, const Policy& policy,
                                const MicrobatchSize& size, const PairDataset& data,
                                const std::vector<int64_t>& rows, int64_t step) {
  RewardSums sums;
  int64_t first_token = 0;
  for (const auto& batch : pair_batches(data, rows, size, policy.config().shared_prefix_limit())) {
    const auto rewards =
        score_pairs(policy, batch, policy.training_pass(config.training, step, first_token));
    first_token += batch.packed.tokens();
    const auto loss = loss_of(config, data, batch, rewards, rows.size());
    backward(loss);
    sums.loss += loss.item<double>();
    sums.add(data, batch, rewards);
  }
  return sums;
}

/// The same over all pairs, without gradients.
RewardSums measure(const RewardConfig& config, const Policy& policy, const PairDataset& data) {
  const at::NoGradGuard no_grad;
  const auto rows = all_rows(data.rows());
  RewardSums sums;
  for (const auto& batch : pair_batches(data, rows, {.tokens = microbatch_tokens(config.training)},
                                        policy.config().shared_prefix_limit())) {
    const auto rewards = score_pairs(policy, batch, {});
    sums.loss += loss_of(config, data, batch, rewards, rows.size()).item<double>();
    sums.add(data, batch, rewards);
  }
  return sums;
}

/// What a model that has learned nothing but length would reach.
double length_baseline(const PairDataset& data) {
  double wins = 0.0;
  for (int64_t row = 0; row < data.rows(); ++row)
    wins += length_preference(std::ssize(data.chosen(row)), std::ssize(data.rejected(row)));
  return wins / static_cast<double>(data.rows());
}

void evaluate_and_note(const RewardConfig& config, RewardSetup& setup, TrainRun& run) {
  const auto start = std::chrono::steady_clock::now();
  const auto sums = measure(config, *setup.policy, *setup.data.eval);
  Metrics metrics = {{"eval_loss", sums.loss}};
  for (auto& metric : sums.means("eval_")) metrics.push_back(std::move(metric));
  const Bounds interval = wilson_interval(sums.wins, sums.pairs);
  metrics.emplace_back("eval_accuracy_low", interval.low);
  metrics.emplace_back("eval_accuracy_high", interval.high);
  metrics.emplace_back("eval_accuracy_of_length", length_baseline(*setup.data.eval));
  run.note_evaluation(metrics, seconds_since(start), sums.pairs);
}

/// Mean and deviation of the scores of all training answers, for its folder.
void store_statistics(const RewardConfig& config, RewardSetup& setup) {
  const auto sums = measure(config, *setup.policy, *setup.data.train);
  const double deviation = sums.deviation();
  if (!std::isfinite(deviation) || deviation <= 0.0) {
    log_warning("[reward] all training answers have the same score: no statistics are stored.");
    return;
  }
  log_info("[reward] scores of the training answers: mean {:.6g}, deviation {:.6g}.", sums.mean(),
           deviation);
  set_reward_statistics(setup.policy->model.config, {.mean = sums.mean(), .std = deviation});
}

}  // namespace

TrainResult train_reward(RewardConfig config, const TrainHooks& hooks) {
  if (hooks.on_text) hooks.on_text(resolved_table(config));
  // Everything that can be wrong is looked at before anything is written, and reported together.
  RewardSetup setup = set_up(config, hooks);
  RunMemory memory = run_memory(config);
  fit_rows(memory, longest_pair(*setup.data.train, setup.policy->config().shared_prefix_limit()),
           setup.data.train->lengths());
  check_memory(memory, setup.policy->device.is_cpu());
  const MicrobatchSize size = memory_request(memory).size;
  TrainRun run({.method = "reward",
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
    // 1. The pairs of this step: a function of the step alone.
    const auto rows = run.begin_step();
    // 2. Gradients of the mean loss over the pairs of the step.
    const auto sums =
        accumulate_gradients(config, *setup.policy, size, *setup.data.train, rows, run.step());
    // 3. Clip by the norm over all trained tensors, update, and say what happened.
    run.update(sums.loss, sums.means(""), sums.tokens);
    // 4. Evaluate and save when it is time; stop when asked.
    if (run.evaluation_is_due()) evaluate_and_note(config, setup, run);
    run.end_step();
  }
  // 5. The scale of the scores belongs to the model that is kept.
  run.load_best();
  if (!run.interrupted()) store_statistics(config, setup);
  return run.finish();
}

}  // namespace rlhf
