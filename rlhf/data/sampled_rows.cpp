#include "rlhf/data/sampled_rows.h"

#include <algorithm>
#include <array>

namespace rlhf {
namespace {

/// Columns that say which type a row has, or what is learned of it (schema.h).
constexpr std::array kTypeColumns = {"text",
                                     "messages",
                                     "input_ids",
                                     "labels",
                                     "completion_mask",
                                     "assistant_masks",
                                     "completion",
                                     "completion_ids",
                                     "completions",
                                     "completions_ids",
                                     "chosen",
                                     "chosen_ids",
                                     "rejected",
                                     "rejected_ids",
                                     "label",
                                     "margin"};

bool has_ids(const Json& row) { return has_column(row, "prompt_ids"); }

bool same_completion(const JudgedSample& a, const JudgedSample& b, bool ids) {
  return ids ? a.ids == b.ids : a.text == b.text;
}

/// Judged samples, each completion once, in the order they were drawn.
std::vector<const JudgedSample*> distinct(std::span<const JudgedSample> samples, bool ids) {
  std::vector<const JudgedSample*> kept;
  for (const auto& sample : samples) {
    const bool known = std::any_of(kept.begin(), kept.end(), [&](const auto* other) {
      return same_completion(sample, *other, ids);
    });
    if (sample.reward && !known) kept.push_back(&sample);
  }
  return kept;
}

Json base_row(Json row) {
  for (const char* column : kTypeColumns) row.erase(column);
  return row;
}

void put_completion(Json& row, const std::string& column, const JudgedSample& sample) {
  if (has_ids(row)) {
    row[column + "_ids"] = sample.ids;
  } else if (row.at("prompt").is_array()) {
    row[column] = Json::array({{{"role", "assistant"}, {"content", sample.text}}});
  } else {
    row[column] = sample.text;
  }
}

struct Pair {
  const JudgedSample* chosen;
  const JudgedSample* rejected;
  double margin() const { return *chosen->reward - *rejected->reward; }
};

/// Ids hold no end that was not sampled; as text a completion gets one.
bool teaches_an_end(const Json& row, const JudgedSample& sample) {
  return sample.truncated && !has_ids(row);
}

}  // namespace

SampledRows best_of_n_row(const Json& row, std::span<const JudgedSample> samples,
                          std::optional<double> least) {
  const auto judged = distinct(samples, has_ids(row));
  if (judged.empty()) return {.none = NoRow::no_reward};
  const auto* best = *std::max_element(  // the first of equal ones
      judged.begin(), judged.end(),
      [](const auto* a, const auto* b) { return *a->reward < *b->reward; });
  if (least && *best->reward < *least) return {.none = NoRow::low_reward};
  Json out = base_row(row);
  put_completion(out, "completion", *best);
  out["reward"] = *best->reward;
  return {.rows = {std::move(out)}, .none = {}, .truncated = teaches_an_end(row, *best) ? 1 : 0};
}

SampledRows pair_rows(const Json& row, std::span<const JudgedSample> samples, int64_t most,
                      std::optional<double> least) {
  const auto judged = distinct(samples, has_ids(row));
  if (judged.empty()) return {.none = NoRow::no_reward};
  if (judged.size() == 1) return {.none = NoRow::one_completion};
  std::vector<Pair> pairs;
  for (const auto* chosen : judged) {
    for (const auto* rejected : judged) {
      if (*chosen->reward > *rejected->reward) pairs.push_back({chosen, rejected});
    }
  }
  if (pairs.empty()) return {.none = NoRow::equal_rewards};
  std::erase_if(pairs, [&](const Pair& pair) { return least && *pair.chosen->reward < *least; });
  if (pairs.empty()) return {.none = NoRow::low_reward};
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair& a, const Pair& b) { return a.margin() > b.margin(); });
  if (std::ssize(pairs) > most) pairs.resize(static_cast<size_t>(most));
  SampledRows out;
  for (const auto& [chosen, rejected] : pairs) {
    Json pair = base_row(row);
    put_completion(pair, "chosen", *chosen);
    put_completion(pair, "rejected", *rejected);
    pair["score_chosen"] = *chosen->reward;
    pair["score_rejected"] = *rejected->reward;
    out.rows.push_back(std::move(pair));
    out.truncated += teaches_an_end(row, *chosen) ? 1 : 0;
  }
  return out;
}

std::optional<Problem> check_sampled_prompt(const Record& record) {
  if (has_ids(record.row)) return std::nullopt;
  const Json& prompt = record.at("prompt");
  if (!prompt.is_array() || prompt.empty() || prompt.back().value("role", "") != "assistant")
    return std::nullopt;
  return Problem{.where = record.where,
                 .what =
                     "a prompt that ends with a message to answer was expected: its last one is "
                     "an assistant's, which a completion would continue.",
                 .hint = "write --output_format completions for such prompts."};
}

}  // namespace rlhf
