// What samples of a model say about it, with 95% intervals.
//
//   pass@k   chance that at least one of k samples is right, averaged over prompts. With c of n
//            samples right the unbiased estimate of a prompt is 1 − C(n − c, k) / C(n, k)
//            (Chen et al., arXiv 2107.03374, equation 1)
//   mean@k   mean reward of k samples, averaged over prompts
//
// The prompts are the sample: samples of one prompt are not independent. Where every prompt gives 0
// or 1 the interval is Wilson's score interval (1927); else the percentile bootstrap over prompts
// (Efron 1979).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace rlhf {

/// Of n samples c are right; 1 <= k <= n.
double pass_at_k(int64_t n, int64_t c, int64_t k);

struct Bounds {
  double low = 0.0;
  double high = 0.0;
};

/// 95%, of `successes` among `trials` >= 1.
Bounds wilson_interval(int64_t successes, int64_t trials);

/// The same of `trials` values between 0 and 1 with this mean, such as successes where a tie counts
/// half: they vary no more than 0 and 1 with that mean do, so the interval errs on the wide side.
Bounds wilson_interval_of_mean(double mean, int64_t trials);

/// 95% of the mean of `values` (one or more): 2.5% and 97.5% quantiles of the means of 10,000
/// resamples, a fixed stream.
Bounds bootstrap_interval(std::span<const double> values);

struct Estimate {
  double mean = 0.0;
  Bounds interval;
  std::string_view method;  ///< `wilson`, or `bootstrap over prompts`
};

/// The mean over prompts with the interval that fits the values.
Estimate estimate(std::span<const double> values);

}  // namespace rlhf
