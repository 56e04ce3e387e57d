// Judged samples of a prompt become rows to train on.
//
//   best of n   the sample with the highest reward as a prompt-completion row: rejection sampling,
//               RAFT (Dong et al., arXiv 2304.06767), best-of-n distillation
//   pairs       the best sample chosen over the worst, the second best over the second worst, …, as
//               preference rows: iterative DPO (Xiong et al., arXiv 2312.11456), the new pairs of
//               iterative GRPO's reward model (DeepSeekMath, arXiv 2402.03300, algorithm 1)
//
// Samples without a reward are left out, and the same completion counts once, as it was first drawn.
// Of equal rewards the sample drawn first comes first, among the best as among the worst. The two
// sides of a pair never have the same reward, so no sample stands in two pairs.
//
// A row is the prompt's own with the new columns: text for a text prompt, an assistant's message for
// a conversation, ids (stop token included) for a prompt of ids. Its other columns stay, but those
// that would make another row type of it: an earlier completion, other answers, a label, `text` and
// `messages`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/data/records.h"

namespace rlhf {

/// A completion and what judges say of it.
struct JudgedSample {
  std::string text;
  std::vector<int32_t> ids;      ///< stop token included
  std::optional<double> reward;  ///< none: no judge applies, or one failed
  bool truncated = false;        ///< the longest length ended it, no stop
};

/// Why a prompt gave no row.
enum class NoRow { no_reward, one_completion, equal_rewards };

struct SampledRows {
  std::vector<Json> rows{};
  std::optional<NoRow> none{};  ///< why there is no row
  int64_t truncated = 0;        ///< rows that would teach the end of a truncated completion
};

/// `reward` beside the prompt and its best completion. `row`: with a `prompt` (or `prompt_ids`).
SampledRows best_of_n_row(const Json& row, std::span<const JudgedSample> samples);

/// At most `most` pairs, with `score_chosen` and `score_rejected`.
SampledRows pair_rows(const Json& row, std::span<const JudgedSample> samples, int64_t most);

/// What is wrong with a prompt whose completions are to become rows, if anything: a conversation
/// that ends with an assistant's message, which a completion would continue.
std::optional<Problem> check_sampled_prompt(const Record& record);

}  // namespace rlhf
