// Judged samples of a prompt become rows to train on.
//
//   best of n   the sample with the highest reward as a prompt-completion row: rejection sampling,
//               RAFT (Dong et al., arXiv 2304.06767), best-of-n distillation
//   pairs       preference rows, those with the largest difference of rewards first. One a prompt is the
//               best over the worst: iterative DPO (Xiong et al., arXiv 2312.11456). More of them train
//               reward models (all of them: Ouyang et al., InstructGPT, arXiv 2203.02155, section 3.5),
//               such as iterative GRPO's (DeepSeekMath, arXiv 2402.03300, algorithm 1)
//
// Samples without a reward are left out, and the same completion counts once, as it was first drawn.
// Of equal rewards the sample drawn first comes first, among the best as among the worst. Completions
// with the same reward are no pair.
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
enum class NoRow { no_reward, one_completion, equal_rewards, low_reward };

struct SampledRows {
  std::vector<Json> rows{};
  std::optional<NoRow> none{};  ///< why there is no row
  int64_t truncated = 0;        ///< rows that would teach the end of a truncated completion
};

/// `reward` beside the prompt and its best completion, where that has at least `least`. `row`: with
/// a `prompt` (or `prompt_ids`).
SampledRows best_of_n_row(const Json& row, std::span<const JudgedSample> samples,
                          std::optional<double> least = {});

/// At most `most` pairs of a prompt, with `score_chosen` (at least `least`) and `score_rejected`.
SampledRows pair_rows(const Json& row, std::span<const JudgedSample> samples, int64_t most,
                      std::optional<double> least = {});

/// What is wrong with a prompt whose completions are to become rows, if anything: a conversation
/// that ends with an assistant's message, which a completion would continue.
std::optional<Problem> check_sampled_prompt(const Record& record);

}  // namespace rlhf
