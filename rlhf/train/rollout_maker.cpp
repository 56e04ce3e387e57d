#include "rlhf/train/rollout_maker.h"

#include <chrono>
#include <map>
#include <utility>

#include "rlhf/text/stop_strings.h"
#include "rlhf/train/run.h"
#include "rlhf/train/stop_ids.h"

namespace rlhf {
namespace {

constexpr uint64_t kRoundShift = 40;  // rows are fewer than 2^40

SamplingOptions sampling_options(const RolloutOptions& options, const Draw& draw,
                                 const std::vector<int32_t>& stop_ids, uint64_t seed) {
  return {.temperature = draw.greedy ? 0.0 : options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .min_p = options.min_p.value_or(0.0),
          .repetition_penalty = options.repetition_penalty,
          .max_new_tokens = options.max_completion_length,
          .num_generations = draw.generations,
          .stop_ids = stop_ids,
          .seed = seed,
          .step = draw.draw};
}

}  // namespace

RolloutMaker::RolloutMaker(const RolloutOptions& options, uint64_t seed, const Policy& policy,
                           const TextSide& text, const Judges& judges)
    : options_(options),
      seed_(seed),
      policy_(policy),
      text_(text),
      stop_ids_(find_stop_ids(policy.model, &text.tokenizer)),
      engine_(policy.decoder(),
              {.cache_bytes = rollout_cache_bytes(options), .max_rows = options.rollout_rows}),
      judging_(judges, text.tokenizer) {}

std::vector<Group> RolloutMaker::groups(const PromptDataset& prompts, std::span<const int64_t> rows,
                                        const Draw& draw,
                                        const std::function<bool()>& should_stop) {
  std::vector<Group> groups;
  std::vector<Prompt> requests;
  std::vector<Json> columns;
  for (const int64_t row : rows) {
    const auto ids = prompts.prompt(row);
    groups.push_back(
        {.row = row, .prompt = {ids.begin(), ids.end()}, .samples = {}, .greedy_reward = {}});
    groups.back().samples.resize(static_cast<size_t>(draw.generations));
    requests.push_back({.ids = groups.back().prompt,
                        .key = (draw.round << kRoundShift) | static_cast<uint64_t>(row),
                        .where = prompts.source(row)});
    columns.push_back(prompts.columns(row));
  }
  const auto start = std::chrono::steady_clock::now();
  seconds_ = {};
  judging_.begin();
  std::map<std::pair<int64_t, int64_t>, StopStrings> watches;
  GenerateCallbacks callbacks;
  callbacks.should_stop = should_stop;
  if (!options_.stop.empty()) {
    callbacks.on_token = [&](const TokenEvent& event) {
      const auto [watch, fresh] =
          watches.try_emplace({event.prompt, event.sample}, text_.tokenizer, options_.stop);
      return watch->second.push(event.ids.back());
    };
  }
  callbacks.on_finished = [&](int64_t prompt, int64_t index, const Completion& completion) {
    auto& group = groups[static_cast<size_t>(prompt)];
    auto& sample = group.samples[static_cast<size_t>(index)];
    sample.ids = completion.ids;
    sample.truncated = completion.finish_reason == FinishReason::length;
    const auto watch = watches.find({prompt, index});
    const auto cut = watch == watches.end() ? std::nullopt : watch->second.cut_text();
    sample.text = cut ? *cut : text_.tokenizer.decode(sample.ids, /*skip_special_tokens=*/true);
    const auto judging = std::chrono::steady_clock::now();
    judging_.add(group, columns[static_cast<size_t>(prompt)], draw.step, sample);
    seconds_.rewards += seconds_since(judging);
  };
  engine_.generate(requests, sampling_options(options_, draw, stop_ids_, seed_), callbacks);
  seconds_.sampling = seconds_since(start) - seconds_.rewards;
  const auto judging = std::chrono::steady_clock::now();
  judging_.finish(groups, should_stop);
  seconds_.rewards += seconds_since(judging);
  return groups;
}

}  // namespace rlhf
