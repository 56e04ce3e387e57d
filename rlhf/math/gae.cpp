#include "rlhf/math/gae.h"

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

void check_shapes(const TokenValues& rewards, const TokenValues& values, size_t scores) {
  check(rewards.size() == scores && values.size() == scores, "gae",
        "rewards and values of {} completions were expected, got {} and {}.", scores,
        rewards.size(), values.size());
  for (size_t i = 0; i < scores; ++i) {
    check(rewards[i].size() == values[i].size(), "gae",
          "a value for each of {} tokens of completion {} was expected, got {}.", rewards[i].size(),
          i, values[i].size());
  }
}

}  // namespace

Gae gae(const TokenValues& rewards, const TokenValues& values,
        std::span<const std::optional<double>> scores, double gamma, double lam) {
  check(gamma >= 0 && gamma <= 1, "gae", "a gamma in [0, 1] was expected, got {}.", gamma);
  check(lam >= 0 && lam <= 1, "gae", "a lam in [0, 1] was expected, got {}.", lam);
  check_shapes(rewards, values, scores.size());
  Gae made{.advantages = {}, .returns = values};
  for (size_t i = 0; i < scores.size(); ++i) {
    auto& row = made.advantages.emplace_back(values[i].size(), 0.0);
    if (!scores[i]) continue;
    double next_value = 0.0;
    double next_advantage = 0.0;
    for (size_t t = row.size(); t-- > 0;) {
      const double delta = rewards[i][t] + gamma * next_value - values[i][t];
      row[t] = next_advantage = delta + gamma * lam * next_advantage;
      next_value = values[i][t];
      made.returns[i][t] += row[t];
    }
  }
  return made;
}

}  // namespace rlhf
