// What rlhf eval measures of samples beside their rewards: how far the policy has gone from another
// model, and what a reward model makes of them.
//
//   KL(π ‖ π_ref) = E_y [ Σ_t log π(y_t | x, y_<t) − log π_ref(y_t | x, y_<t) ],   y ~ π
//
// over whole completions, in nats, by the samples themselves: unbiased, and now and then below 0 on
// few of them (estimator k1 of Schulman, Approximating KL divergence, 2020). π is what is sampled
// from: where the sampler keeps a part of the vocabulary alone, with the log-probabilities in it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cli/inference.h"
#include "rlhf/generate/score.h"
#include "rlhf/rewards/estimates.h"

namespace rlhf::cli {

/// `{"value", "interval", "method"}`, as evaluations write it.
Json to_json(const Estimate& estimate);

/// Other models that an evaluation asks.
struct MeasureOptions {
  std::optional<std::string> ref_model;     ///< π_ref
  std::optional<std::string> reward_model;  ///< a folder of `rlhf reward`
  int64_t max_tokens = 8192;                ///< of one forward pass
};
void declare(OptionSet& set, MeasureOptions& options);

/// The models that measure samples of `loaded`. UserError with every problem of their folders,
/// vocabularies and tokenizers.
class Measures {
 public:
  Measures(const MeasureOptions& options, const InferenceOptions& inference,
           const LoadedModel& loaded, double temperature);

  /// Takes the samples of one prompt. Per prompt the mean over samples is kept.
  void add(const PromptRow& row, std::span<const TextCompletion> samples);

  /// `kl` and `reward_model`, each `{"value", "interval", "method"}` over prompts, where asked for.
  Json summary();

 private:
  struct Held {
    std::vector<int32_t> prompt;
    std::vector<std::vector<int32_t>> answers;
    std::vector<double> logprobs;  ///< an answer: the sum that the policy gave it
  };
  void measure();  ///< what is held, several prompts a forward pass

  ScoreOptions how_;
  std::optional<Model> reference_;
  std::optional<Model> judge_;
  std::vector<Held> held_;
  int64_t held_tokens_ = 0;
  std::vector<double> kl_;
  std::vector<double> rewards_;
};

}  // namespace rlhf::cli
