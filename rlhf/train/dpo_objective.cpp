#include "rlhf/train/dpo_objective.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "rlhf/config/dpo_checks.h"
#include "rlhf/losses/orpo.h"
#include "rlhf/math/sequence_logps.h"

namespace rlhf {
namespace {

/// |y| of every answer: chosen, rejected, chosen, …
std::vector<int64_t> answer_lengths(const PairDataset& data, std::span<const int64_t> rows) {
  std::vector<int64_t> lengths;
  for (const int64_t row : rows) {
    lengths.push_back(std::ssize(data.chosen(row)));
    lengths.push_back(std::ssize(data.rejected(row)));
  }
  return lengths;
}

/// For each answer the length of the shorter of its pair.
std::vector<int64_t> common_lengths(const std::vector<int64_t>& lengths) {
  std::vector<int64_t> common(lengths.size());
  for (size_t i = 0; i < lengths.size(); i += 2)
    common[i] = common[i + 1] = std::min(lengths[i], lengths[i + 1]);
  return common;
}

/// Every second value from `first`: the chosen (0) or the rejected (1) of b pairs.
at::Tensor side(const at::Tensor& values, int64_t pairs, int64_t first) {
  return values.narrow(0, 0, 2 * pairs).view({pairs, 2}).select(1, first);
}

double total(const at::Tensor& values) { return values.detach().sum(at::kDouble).item<double>(); }

/// exp of the mean over an answer's scored tokens of log p − log Σ p² (Zhou et al., arXiv
/// 2406.11827), the product over the pair.
at::Tensor pair_weights(const RowLogprobs& policy, const at::Tensor& sequence, int64_t pairs) {
  const auto sums =
      sequence_logps(policy.logprobs.detach() - policy.log_collision, sequence, 2 * pairs);
  const auto weights = (sums.sums / sums.tokens.clamp_min(1)).exp();
  return side(weights, pairs, 0) * side(weights, pairs, 1);
}

bool takes_likelihood_of_own(const DpoOptions& options) {
  return has_loss(options, DpoLoss::cpo) || has_loss(options, DpoLoss::simpo);
}

/// The likelihood of chosen answers is part of the loss.
bool takes_likelihood(const DpoOptions& options) {
  return has_loss(options, DpoLoss::sft) || options.pref_ftx > 0.0 ||
         (takes_likelihood_of_own(options) && options.cpo_alpha > 0.0);
}

/// There is something to reward answers by: sft alone has neither a reference nor a preference.
bool has_rewards(const DpoOptions& options) {
  return std::any_of(options.loss_type.begin(), options.loss_type.end(),
                     [](DpoLoss loss) { return loss != DpoLoss::sft; });
}

/// Answers are judged by the mean over their tokens.
bool takes_mean_logps(const DpoOptions& options) {
  return has_loss(options, DpoLoss::simpo) || has_loss(options, DpoLoss::orpo);
}

/// A sum in double of a (b) tensor as a scalar in its type: the order of pairs hardly matters then.
at::Tensor summed(const at::Tensor& values) {
  return values.sum(at::kDouble).to(values.scalar_type());
}

}  // namespace

PairCounts PairCounts::of(const PairDataset& data, std::span<const int64_t> rows) {
  PairCounts counts;
  for (const int64_t row : rows) {
    const int64_t prompt = std::ssize(data.chosen_prompt(row));
    const int64_t chosen = std::ssize(data.chosen(row));
    ++counts.pairs;
    counts.chosen_tokens += prompt == 0 ? chosen - 1 : chosen;
    counts.chosen_prompt_tokens += prompt + chosen - 1;
    counts.tokens +=
        prompt + chosen + std::ssize(data.rejected_prompt(row)) + std::ssize(data.rejected(row));
  }
  return counts;
}

bool scores_prompts(const DpoOptions& options) { return has_loss(options, DpoLoss::orpo); }

LogprobOptions head_options(const DpoOptions& options, int64_t keep_logits_bytes) {
  return {.entropy = true,
          .top1 = true,
          .collision = options.use_weighting,
          .mean_logit = true,
          .keep_logits_bytes = keep_logits_bytes};
}

PairScores pair_scores(const DpoOptions& options, const PairDataset& data, const AnswerBatch& batch,
                       const RowLogprobs& policy, const at::Tensor& reference) {
  const int64_t pairs = batch.size();
  const auto& like = policy.logprobs;
  const auto sequence = sequence_of(batch.packed, like.device());
  const auto lengths = answer_lengths(data, batch.rows);
  const int64_t sequences = scores_prompts(options) ? 3 * pairs : 2 * pairs;
  const auto plain = sequence_logps(like, sequence, sequences);
  const auto sums = [&](const at::Tensor& logprobs) {
    if (!options.ld_alpha) return sequence_logps(logprobs, sequence, sequences).sums;
    const auto common = index_tensor(common_lengths(lengths)).to(like.device());
    return sequence_logps(logprobs, sequence, common, *options.ld_alpha).sums;
  };
  const auto answers = options.ld_alpha ? sums(like) : plain.sums;
  const auto tokens = index_tensor(lengths).to(like.options());

  PairScores scores;
  scores.logps = {.chosen = side(answers, pairs, 0),
                  .rejected = side(answers, pairs, 1),
                  .chosen_tokens = side(tokens, pairs, 0),
                  .rejected_tokens = side(tokens, pairs, 1)};
  if (reference.defined()) {
    const auto fixed = sums(reference.to(like.options()));
    scores.logps.ref_chosen = side(fixed, pairs, 0);
    scores.logps.ref_rejected = side(fixed, pairs, 1);
  }
  scores.chosen_nll = -side(plain.sums, pairs, 0);
  if (scores_prompts(options)) scores.prompt_nll = -plain.sums.narrow(0, 2 * pairs, pairs);
  if (options.use_weighting) scores.weights = pair_weights(policy, sequence, pairs);
  return scores;
}

at::Tensor dpo_objective(const DpoOptions& options, const PairScores& scores,
                         const PairCounts& counts) {
  const auto pairs = static_cast<double>(counts.pairs);
  const auto chosen_tokens = static_cast<double>(std::max<int64_t>(1, counts.chosen_tokens));
  const auto weights = loss_weights_of(options);
  auto loss = at::zeros({}, scores.logps.chosen.options());
  for (size_t k = 0; k < options.loss_type.size(); ++k) {
    const DpoLoss type = options.loss_type[k];
    if (type == DpoLoss::sft) {
      loss = loss + summed(scores.chosen_nll) * (weights[k] / chosen_tokens);
      continue;
    }
    auto each = dpo_loss(type, scores.logps, options.loss);
    if (scores.weights.defined()) each = each * scores.weights;
    loss = loss + summed(each) * (weights[k] / pairs);
  }
  if (options.pref_ftx > 0.0) {
    const auto tokens = scores.logps.chosen_tokens.clamp_min(1);
    loss = loss + summed(scores.chosen_nll / tokens) * (options.pref_ftx / pairs);
  }
  if (takes_likelihood_of_own(options) && options.cpo_alpha > 0.0)
    loss = loss + summed(scores.chosen_nll) * (options.cpo_alpha / chosen_tokens);
  if (scores_prompts(options)) {
    const auto tokens = static_cast<double>(std::max<int64_t>(1, counts.chosen_prompt_tokens));
    loss = loss + summed(scores.chosen_nll + scores.prompt_nll) / tokens;
  }
  return loss;
}

PairScores join_scores(std::span<const PairScores> parts) {
  const auto joined = [&](auto member) {
    std::vector<at::Tensor> tensors;
    for (const auto& part : parts) {
      const at::Tensor& tensor = member(part);
      if (!tensor.defined()) return at::Tensor();
      tensors.push_back(tensor.detach());
    }
    return at::cat(tensors);
  };
  return {.logps = {.chosen = joined([](auto& p) -> auto& { return p.logps.chosen; }),
                    .rejected = joined([](auto& p) -> auto& { return p.logps.rejected; }),
                    .ref_chosen = joined([](auto& p) -> auto& { return p.logps.ref_chosen; }),
                    .ref_rejected = joined([](auto& p) -> auto& { return p.logps.ref_rejected; }),
                    .chosen_tokens = joined([](auto& p) -> auto& { return p.logps.chosen_tokens; }),
                    .rejected_tokens =
                        joined([](auto& p) -> auto& { return p.logps.rejected_tokens; })},
          .chosen_nll = joined([](auto& p) -> auto& { return p.chosen_nll; }),
          .prompt_nll = joined([](auto& p) -> auto& { return p.prompt_nll; }),
          .weights = joined([](auto& p) -> auto& { return p.weights; })};
}

void PairMetrics::add(const DpoOptions& options, const AnswerBatch& batch, const PairScores& scores,
                      const RowLogprobs& policy) {
  const at::NoGradGuard no_grad;
  const auto& logps = scores.logps;
  const bool by_token = takes_mean_logps(options);
  const auto ratios = log_ratios(logps);
  // simpo and orpo reward an answer by its mean over tokens, all others by the sum.
  const auto chosen = by_token ? logps.chosen / logps.chosen_tokens : ratios.chosen;
  const auto rejected = by_token ? logps.rejected / logps.rejected_tokens : ratios.rejected;
  chosen_.reward += options.loss.beta * total(chosen);
  rejected_.reward += options.loss.beta * total(rejected);
  wins_ += total(chosen > rejected);
  chosen_.logp += total(by_token ? chosen : logps.chosen);
  rejected_.logp += total(by_token ? rejected : logps.rejected);
  nll_ += total(scores.chosen_nll);
  if (scores_prompts(options)) {
    nll_ += total(scores.prompt_nll);
    const auto odds = log_odds(chosen) - log_odds(rejected);
    odds_ += total(odds);
    odds_ratio_ += total(at::log_sigmoid(odds));
  }

  const auto row_of = sequence_of(batch.packed, policy.logprobs.device());
  const auto answers = row_of < 2 * batch.size();
  const auto is_rejected = row_of.remainder(2).to(at::kBool).logical_and(answers);
  const auto is_chosen = answers.logical_and(is_rejected.logical_not());
  const auto over = [](const at::Tensor& values, const at::Tensor& mask) {
    return total(values.masked_select(mask));
  };
  chosen_.logits += over(policy.mean_logit, is_chosen);
  rejected_.logits += over(policy.mean_logit, is_rejected);
  chosen_.tokens += is_chosen.sum().item<int64_t>();
  rejected_.tokens += is_rejected.sum().item<int64_t>();
  entropy_ += over(policy.entropy, answers);
  correct_ += over(policy.top1, is_chosen);
}

Metrics PairMetrics::means(const DpoOptions& options, const PairCounts& counts,
                           const std::string& prefix) const {
  const double pairs = std::max(1.0, static_cast<double>(counts.pairs));
  const auto of_tokens = [](double sum, int64_t tokens) {
    return sum / std::max(1.0, static_cast<double>(tokens));
  };
  Metrics metrics = {
      {"logps/chosen", chosen_.logp / pairs},
      {"logps/rejected", rejected_.logp / pairs},
      {"logits/chosen", of_tokens(chosen_.logits, chosen_.tokens)},
      {"logits/rejected", of_tokens(rejected_.logits, rejected_.tokens)},
      {"entropy", of_tokens(entropy_, chosen_.tokens + rejected_.tokens)},
      {"mean_token_accuracy", of_tokens(correct_, chosen_.tokens)},
  };
  if (has_rewards(options)) {
    metrics.emplace_back("rewards/chosen", chosen_.reward / pairs);
    metrics.emplace_back("rewards/rejected", rejected_.reward / pairs);
    metrics.emplace_back("rewards/accuracies", wins_ / pairs);
    metrics.emplace_back("rewards/margins", (chosen_.reward - rejected_.reward) / pairs);
  }
  if (scores_prompts(options)) {
    metrics.emplace_back("nll_loss", of_tokens(nll_, counts.chosen_prompt_tokens));
    metrics.emplace_back("log_odds_chosen", odds_ / pairs);
    metrics.emplace_back("log_odds_ratio", odds_ratio_ / pairs);
  } else if (takes_likelihood(options)) {
    metrics.emplace_back("nll_loss", of_tokens(nll_, counts.chosen_tokens));
  }
  for (auto& [name, value] : metrics) name = prefix + name;
  return metrics;
}

}  // namespace rlhf
