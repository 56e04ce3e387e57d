#include "rlhf/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "rlhf/core/error.h"
#include "rlhf/generate/row_kernels.h"

namespace rlhf {
namespace {

/// log Σ e^z of a row as max + log(sum); the weights e^(z − max) are left in `weights`.
struct RowSoftmax {
  float max;
  double sum;

  RowSoftmax(std::span<const float> z, std::vector<float>& weights)
      : max(simd::row_max(z.data(), static_cast<int64_t>(z.size()))) {
    if (!std::isfinite(max)) {
      fail("generate", fmt::format("finite logits were expected, the largest is {}.", max),
           "the weights have diverged: lower learning_rate, or look at the model's folder.");
    }
    weights.resize(z.size());
    sum = simd::row_weights(z.data(), static_cast<int64_t>(z.size()), max, weights.data());
  }

  float logprob(float z) const { return static_cast<float>(double{z} - max - std::log(sum)); }
};

void penalize(std::span<float> logits, std::span<const int32_t> seen, double penalty) {
  for (const int32_t id : seen) {
    float& z = logits[static_cast<size_t>(id)];
    z = static_cast<float>(z > 0.0f ? z / penalty : z * penalty);
  }
}

void scale(std::span<float> logits, double factor) {
  if (factor != 1.0) {
    for (float& z : logits) {
      z = static_cast<float>(z * factor);
    }
  }
}

/// First position where the running sum of weights passes uniform · total. Rounding cannot leave
/// the range, nor end on a weight of 0.
template <class WeightAt>
size_t pick(size_t n, double uniform, double total, WeightAt weight_at) {
  const double wanted = uniform * total;
  double sum = 0.0;
  size_t last = 0;
  for (size_t i = 0; i < n; ++i) {
    const double weight = weight_at(i);
    sum += weight;
    if (weight > 0.0) {
      last = i;
    }
    if (sum > wanted) {
      return i;
    }
  }
  return last;
}

}  // namespace

void SamplingOptions::check(const std::string& where, Problems& problems) const {
  const auto require = [&](bool ok, const char* name, const char* expected, double got) {
    if (!ok) {
      problems.add(where + ": " + name, fmt::format("expected {}, got {}.", expected, got));
    }
  };
  require(temperature >= 0.0 && std::isfinite(temperature), "temperature",
          "0 (greedy) or a positive number", temperature);
  require(top_k >= 0, "top_k", "0 (none) or a positive number", static_cast<double>(top_k));
  require(top_p > 0.0 && top_p <= 1.0, "top_p", "a number above 0 and up to 1", top_p);
  require(min_p >= 0.0 && min_p <= 1.0, "min_p", "a number from 0 to 1", min_p);
  require(repetition_penalty > 0.0 && std::isfinite(repetition_penalty), "repetition_penalty",
          "a positive number", repetition_penalty);
  require(max_new_tokens >= 1, "max_new_tokens", "at least 1", static_cast<double>(max_new_tokens));
  require(num_generations >= 1, "num_generations", "at least 1",
          static_cast<double>(num_generations));
}

bool SamplingOptions::filters() const {
  return temperature > 0.0 &&
         (top_k > 0 || top_p < 1.0 || min_p > 0.0 || repetition_penalty != 1.0);
}

void Sampler::keep_most_likely(std::span<const float> logits, const SamplingOptions& options) {
  const size_t vocab = logits.size();
  const RowSoftmax softmax(logits, weights_);
  float lowest = 0.0f;  // of the weights kept
  double mass = softmax.sum;
  if (options.top_k > 0 && static_cast<size_t>(options.top_k) < vocab) {
    sorted_.assign(logits.begin(), logits.end());
    const auto kth = sorted_.begin() + (options.top_k - 1);
    std::nth_element(sorted_.begin(), kth, sorted_.end(), std::greater<>());
    mass = 0.0;
    kept_.clear();
    for (size_t id = 0; id < vocab; ++id) {
      if (logits[id] >= *kth) {
        kept_.push_back(static_cast<int32_t>(id));
        mass += weights_[id];
      }
    }
  } else {
    kept_.resize(vocab);
    std::iota(kept_.begin(), kept_.end(), 0);
  }
  if (options.top_p < 1.0) {
    // Tokens below this share cannot be in the set: together they have less than 1 − p. It spares
    // sorting them.
    const double negligible = (1.0 - options.top_p) * mass / static_cast<double>(kept_.size());
    std::erase_if(kept_,
                  [&](int32_t id) { return weights_[static_cast<size_t>(id)] < negligible; });
    std::sort(kept_.begin(), kept_.end(), [&](int32_t a, int32_t b) {
      const float x = weights_[static_cast<size_t>(a)];
      const float y = weights_[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    double before = 0.0;
    size_t count = 0;
    while (count < kept_.size() && (count == 0 || before < options.top_p * mass)) {
      before += weights_[static_cast<size_t>(kept_[count])];
      ++count;
    }
    kept_.resize(count);
    std::sort(kept_.begin(), kept_.end());
  }
  if (options.min_p > 0.0) {
    lowest = static_cast<float>(options.min_p);  // the largest weight is 1
    std::erase_if(kept_, [&](int32_t id) { return weights_[static_cast<size_t>(id)] < lowest; });
  }
}

std::vector<int32_t> Sampler::kept(std::span<float> logits, std::span<const int32_t> seen,
                                   const SamplingOptions& options) {
  if (options.repetition_penalty != 1.0) {
    penalize(logits, seen, options.repetition_penalty);
  }
  scale(logits, 1.0 / options.temperature);
  keep_most_likely(logits, options);
  return kept_;
}

ChosenToken Sampler::choose(std::span<float> logits, std::span<const int32_t> seen,
                            const SamplingOptions& options, double uniform) {
  const bool greedy = options.temperature == 0.0;
  const double inverse = greedy ? 1.0 : 1.0 / options.temperature;
  ChosenToken chosen;
  if (!options.filters() && options.repetition_penalty == 1.0) {
    scale(logits, inverse);
    const RowSoftmax softmax(logits, weights_);
    const size_t id =
        greedy ? static_cast<size_t>(std::find(logits.begin(), logits.end(), softmax.max) -
                                     logits.begin())
               : pick(logits.size(), uniform, softmax.sum,
                      [&](size_t i) { return double{weights_[i]}; });
    chosen.id = static_cast<int32_t>(id);
    chosen.logprob = softmax.logprob(logits[id]);
    chosen.sampling_logprob = greedy ? 0.0f : chosen.logprob;
    return chosen;
  }
  // The full softmax first, from the raw logits; the penalty changes only logits of `seen`, whose
  // raw values are kept.
  sorted_.assign(logits.begin(), logits.end());
  scale(sorted_, inverse);
  const RowSoftmax full(sorted_, weights_);
  std::vector<float> raw(seen.size());
  for (size_t i = 0; i < seen.size(); ++i) {
    raw[i] = sorted_[static_cast<size_t>(seen[i])];
  }
  if (options.repetition_penalty != 1.0) {
    penalize(logits, seen, options.repetition_penalty);
  }
  scale(logits, inverse);
  if (greedy) {
    chosen.id =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  } else {
    keep_most_likely(logits, options);
    const auto weight = [&](size_t i) { return double{weights_[static_cast<size_t>(kept_[i])]}; };
    double mass = 0.0;
    for (size_t i = 0; i < kept_.size(); ++i) {
      mass += weight(i);
    }
    const size_t at = pick(kept_.size(), uniform, mass, weight);
    chosen.id = kept_[at];
    chosen.sampling_logprob = static_cast<float>(std::log(weight(at)) - std::log(mass));
  }
  const auto found = std::find(seen.begin(), seen.end(), chosen.id);
  const bool changed = options.repetition_penalty != 1.0 && found != seen.end();
  chosen.logprob = full.logprob(changed ? raw[static_cast<size_t>(found - seen.begin())]
                                        : logits[static_cast<size_t>(chosen.id)]);
  return chosen;
}

}  // namespace rlhf
