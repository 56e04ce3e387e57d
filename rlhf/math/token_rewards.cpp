#include "rlhf/math/token_rewards.h"

#include <cmath>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

void check_shaping(const ScoreShaping& shaping) {
  if (shaping.moments) {
    check(std::isfinite(shaping.moments->mean), "scores", "a finite mean was expected, got {}.",
          shaping.moments->mean);
    check(shaping.moments->deviation > 0 && std::isfinite(shaping.moments->deviation), "scores",
          "a deviation above 0 was expected, got {}.", shaping.moments->deviation);
  }
  check(shaping.missing_eos_penalty.value_or(0.0) >= 0, "scores",
        "a missing_eos_penalty of at least 0 was expected, got {}.",
        shaping.missing_eos_penalty.value_or(0.0));
}

}  // namespace

std::pair<double, double> symmetric_range(double bound) {
  check(bound >= 0, "scores", "a bound of at least 0 was expected, got {}.", bound);
  return {-bound, bound};
}

OptionalRewards shaped_scores(std::span<const std::optional<double>> scores,
                              const std::vector<bool>& stopped, const ScoreShaping& shaping) {
  check_shaping(shaping);
  check(!shaping.missing_eos_penalty || stopped.size() == scores.size(), "scores",
        "the ends of {} completions were expected, got {}.", scores.size(), stopped.size());
  OptionalRewards made(scores.begin(), scores.end());
  for (auto& score : made) {
    if (!score) continue;
    check(std::isfinite(*score), "scores", "a finite score was expected, got {}.", *score);
    if (shaping.moments) score = (*score - shaping.moments->mean) / shaping.moments->deviation;
  }
  made = penalised_rewards(made, shaping.range, /*kl=*/{}, /*beta=*/0.0);
  for (size_t i = 0; shaping.missing_eos_penalty && i < made.size(); ++i) {
    if (made[i] && !stopped[i]) *made[i] -= *shaping.missing_eos_penalty;
  }
  return made;
}

TokenValues token_kl(KlEstimator estimator, const TokenValues& old_logprobs,
                     const TokenValues& ref_logprobs) {
  check(old_logprobs.size() == ref_logprobs.size(), "token_kl",
        "log-probabilities of {} completions were expected, got {}.", old_logprobs.size(),
        ref_logprobs.size());
  TokenValues made;
  for (size_t i = 0; i < old_logprobs.size(); ++i) {
    check(old_logprobs[i].size() == ref_logprobs[i].size(), "token_kl",
          "log-probabilities of {} tokens were expected, got {}.", old_logprobs[i].size(),
          ref_logprobs[i].size());
    auto& row = made.emplace_back();
    for (size_t t = 0; t < old_logprobs[i].size(); ++t)
      row.push_back(kl_estimate(estimator, old_logprobs[i][t], ref_logprobs[i][t]));
  }
  return made;
}

TokenValues token_rewards(std::span<const std::optional<double>> scores,
                          std::span<const int64_t> tokens, const TokenValues& kl, double beta) {
  check(beta >= 0, "token_rewards", "a beta of at least 0 was expected, got {}.", beta);
  check(tokens.size() == scores.size(), "token_rewards", "{} lengths were expected, got {}.",
        scores.size(), tokens.size());
  check(beta == 0.0 || kl.size() == scores.size(), "token_rewards",
        "KL of {} completions was expected, got {}.", scores.size(), kl.size());
  TokenValues made;
  for (size_t i = 0; i < scores.size(); ++i) {
    check(tokens[i] >= 0, "token_rewards", "a length of at least 0 was expected, got {}.",
          tokens[i]);
    auto& row = made.emplace_back(static_cast<size_t>(tokens[i]), 0.0);
    check(beta == 0.0 || kl[i].size() == row.size(), "token_rewards",
          "KL of {} tokens was expected, got {}.", row.size(), beta == 0.0 ? 0 : kl[i].size());
    if (!scores[i] || row.empty()) continue;
    for (size_t t = 0; beta != 0.0 && t < row.size(); ++t) row[t] = -beta * kl[i][t];
    row.back() += *scores[i];
  }
  return made;
}

}  // namespace rlhf
