#include "rlhf/rewards/estimates.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/random.h"

namespace rlhf {
namespace {

constexpr uint64_t kRandomBootstrap = 1000;  // a purpose of this file alone (core/random.h)

}  // namespace

double pass_at_k(int64_t n, int64_t c, int64_t k) {
  check(c >= 0 && c <= n && k >= 1 && k <= n, "pass_at_k",
        "expected 0 <= c <= n and 1 <= k <= n, got n {}, c {}, k {}", n, c, k);
  double all_wrong = 1.0;  // C(n − c, k) / C(n, k) = Π_{i = n − c + 1..n} (1 − k / i)
  for (int64_t i = n - c + 1; i <= n; ++i) {
    all_wrong *= std::max(0.0, 1.0 - static_cast<double>(k) / static_cast<double>(i));
  }
  return 1.0 - all_wrong;
}

Bounds wilson_interval(int64_t successes, int64_t trials) {
  check(trials >= 1 && successes >= 0 && successes <= trials, "wilson_interval",
        "expected 0 <= successes <= trials, got {} of {}", successes, trials);
  return wilson_interval_of_mean(static_cast<double>(successes) / static_cast<double>(trials),
                                 trials);
}

Bounds wilson_interval_of_mean(double mean, int64_t trials) {
  check(trials >= 1 && mean >= 0.0 && mean <= 1.0, "wilson_interval_of_mean",
        "expected a mean between 0 and 1, got {} of {}", mean, trials);
  constexpr double z = 1.959963984540054;  // the 97.5% quantile of the normal distribution
  const double n = static_cast<double>(trials);
  const double centre = (mean + z * z / (2.0 * n)) / (1.0 + z * z / n);
  const double half =
      z / (1.0 + z * z / n) * std::sqrt(mean * (1.0 - mean) / n + z * z / (4.0 * n * n));
  return {mean == 0.0 ? 0.0 : centre - half, mean == 1.0 ? 1.0 : centre + half};
}

Bounds bootstrap_interval(std::span<const double> values) {
  check(!values.empty(), "bootstrap_interval", "expected at least one value, got none");
  constexpr size_t kResamples = 10000;
  Random random(/*seed=*/0, {kRandomBootstrap});
  std::vector<double> means(kResamples);
  for (double& mean : means) {
    double sum = 0.0;
    for (size_t i = 0; i < values.size(); ++i) {
      sum += values[random.below(values.size())];
    }
    mean = sum / static_cast<double>(values.size());
  }
  std::sort(means.begin(), means.end());
  return {means[kResamples / 40], means[kResamples - 1 - kResamples / 40]};
}

Estimate estimate(std::span<const double> values) {
  check(!values.empty(), "estimate", "expected at least one value, got none");
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  const bool binary =
      std::all_of(values.begin(), values.end(), [](double v) { return v == 0.0 || v == 1.0; });
  return {sum / static_cast<double>(values.size()),
          binary ? wilson_interval(static_cast<int64_t>(sum), static_cast<int64_t>(values.size()))
                 : bootstrap_interval(values),
          binary ? "wilson" : "bootstrap over prompts"};
}

}  // namespace rlhf
