#include "cli/eval_preference.h"

#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/core/log.h"
#include "rlhf/data/pairs.h"
#include "rlhf/data/prepare.h"
#include "rlhf/generate/score.h"
#include "rlhf/rewards/preference.h"
#include "rlhf/train/answer_batch.h"

namespace rlhf::cli {
namespace {

/// The pairs as the trainer of such a model encodes them, uncut.
PairDataset read_pairs(const LoadedModel& loaded, const InferenceOptions& inference) {
  if (!loaded.text) {
    throw UserError(inference.model, "a tokenizer was expected: pairs are encoded with it.",
                    "copy tokenizer.json into the folder.");
  }
  const bool classifier = loaded.model.decoder.config().is_classifier();
  const PairOptions options{.mode = classifier ? PairMode::reward : PairMode::dpo,
                            .max_length = std::nullopt};
  Statistics statistics;
  PairDataset pairs =
      prepare_pairs(data_spec(inference), loaded.text->tokenizer, loaded.text->chat,
                    text_fingerprint(loaded.text->folder, loaded.text->template_text), options,
                    cache_folder(DataOptions{}), &statistics);
  log_info("{}", statistics.table());
  if (pairs.rows() == 0) {
    throw UserError(inference.data, "one preference row or more was expected, got none.");
  }
  const std::vector<int64_t> lengths = pairs.lengths();
  check_content(pairs.content(), inference.model, loaded.model);
  check_length(inference.data, *std::max_element(lengths.begin(), lengths.end()), loaded.model);
  return pairs;
}

std::vector<PackPrompt> as_prompts(const PairDataset& pairs) {
  std::vector<PackPrompt> prompts;
  for (int64_t row = 0; row < pairs.rows(); ++row) {
    for (auto& prompt : pack_pair(pairs, row, row)) prompts.push_back(std::move(prompt));
  }
  return prompts;
}

/// Two scores a pair, chosen and rejected.
std::vector<double> implicit_rewards(const LoadedModel& loaded, std::span<const PackPrompt> prompts,
                                     const PairDataset& pairs, const InferenceOptions& inference,
                                     const MeasureOptions& options, double beta) {
  const ScoreOptions how{.max_tokens = options.max_tokens};
  std::vector<double> scores = answer_logprobs(loaded.model.decoder, prompts, how);
  if (options.ref_model) {
    const Model reference = load_other(inference, *options.ref_model, ModelTask::language_model);
    check_content(pairs.content(), *options.ref_model, reference);
    const std::vector<double> others = answer_logprobs(reference.decoder, prompts, how);
    for (size_t i = 0; i < scores.size(); ++i) scores[i] -= others[i];
  }
  for (double& score : scores) score *= beta;
  return scores;
}

const char* judge_name(const DecoderConfig& config, const MeasureOptions& options) {
  if (config.is_classifier()) return "reward model";
  return options.ref_model ? "implicit reward" : "log-probability";
}

std::string percent(const Json& estimate) {
  return fmt::format("{:.1f}% [{:.1f}, {:.1f}]", 100.0 * estimate.at("value").get<double>(),
                     100.0 * estimate.at("interval")[0].get<double>(),
                     100.0 * estimate.at("interval")[1].get<double>());
}

}  // namespace

Json evaluate_preference(const InferenceOptions& inference, const MeasureOptions& options,
                         double beta) {
  const LoadedModel loaded = load(inference);
  const DecoderConfig& config = loaded.model.decoder.config();
  const PairDataset pairs = read_pairs(loaded, inference);
  const std::vector<PackPrompt> prompts = as_prompts(pairs);
  std::vector<double> scores;
  if (config.is_classifier()) {
    const auto found = rewards(loaded.model.decoder, prompts, {.max_tokens = options.max_tokens});
    scores.assign(found.begin(), found.end());
  } else {
    scores = implicit_rewards(loaded, prompts, pairs, inference, options, beta);
  }
  std::vector<ScoredPair> scored;
  for (int64_t row = 0; row < pairs.rows(); ++row) {
    const auto at = 2 * static_cast<size_t>(row);
    scored.push_back({.chosen = scores[at],
                      .rejected = scores[at + 1],
                      .chosen_tokens = std::ssize(pairs.chosen(row)),
                      .rejected_tokens = std::ssize(pairs.rejected(row))});
  }
  const PreferenceSummary summary = summarize(scored);
  return {{"reward", "preference"},
          {"judge", judge_name(config, options)},
          {"pairs", summary.pairs},
          {"ties", summary.ties},
          {"accuracy", to_json(summary.accuracy)},
          {"margin", to_json(summary.margin)},
          {"length_baseline", to_json(summary.length_baseline)}};
}

std::string readable_preference(const Json& result) {
  return fmt::format("{}: {} pairs · accuracy {} · length alone {} · mean margin {:.4g}",
                     result.at("judge").get<std::string>(), result.at("pairs").get<int64_t>(),
                     percent(result.at("accuracy")), percent(result.at("length_baseline")),
                     result.at("margin").at("value").get<double>());
}

}  // namespace rlhf::cli
