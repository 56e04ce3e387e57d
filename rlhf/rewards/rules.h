// Rewards by rule: what a completion's text and length say, without a model. docs/rewards.md has the
// parameters.
//
//   | name                 | reward                                                              |
//   |----------------------|---------------------------------------------------------------------|
//   | `accuracy`           | 1 right, 0 wrong, null where the solution cannot be parsed          |
//   | `reasoning_accuracy` | the same of what follows the last `</think>`; 0 without one         |
//   | `exact_match`        | 1 where text and solution are equal but for white space around      |
//   | `think_format`       | 1 for `<think>…</think>…` with one opening tag, at the start        |
//   | `cosine`             | v_min + ½(v_max − v_min)(1 + cos(π n/L)): right answers the shorter |
//   |                      | the better, wrong ones the longer the better                        |
//   | `length`             | −|n − target| / target                                              |
//   | `repetition_penalty` | (1 − distinct / all n-grams of ids) · max_penalty                   |
//   | `soft_overlong`      | 0 up to L − c tokens, then falling to −1 at L                       |
//   | `digit_share`        | share of digits among the text's bytes: for benchmarks              |
//   | `regex`              | 1 where a regular expression matches the text, else 0               |
//
// n: tokens of the completion, stop token included. TRL's names (`accuracy_reward`,
// `get_cosine_scaled_reward`, …) mean the same rules and stay the rewards' names in logs.
//
// Sources: DeepSeek-R1 (arXiv 2501.12948) for formats; Yeo et al. (arXiv 2502.03373), appendix C,
// for cosine and repetition_penalty; Aggarwal and Welleck, L1 (arXiv 2503.04697), for length; Yu et
// al., DAPO (arXiv 2503.14476), eq. 13, for soft_overlong. Parameters and defaults are TRL 1.16's.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/error.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// A completion to be judged.
struct RewardInput {
  std::string_view text;                  ///< without special tokens, cut before a stop string
  std::span<const int32_t> ids;           ///< stop token included
  const Json& columns;                    ///< the data row
  std::span<const int32_t> prompt_ids{};  ///< may be empty: the caller does not say
};

/// A rule with its parameters.
struct RewardRule {
  std::string name;                    ///< as it was asked for
  std::vector<std::string> columns{};  ///< any one of which the row must have; empty: none
  /// null: it does not apply. Error, whose text says why, where this completion cannot be judged.
  std::function<std::optional<double>(const RewardInput&)> score{};
};

/// Reads `reward_funcs`: a name, a map `{name: cosine, max_len: 1000}`, or a list of these. A map
/// with a `plugin` is a shared library's (plugin.h), one with a `pattern` is a `regex` under any name, so that there can be several. Every problem (unknown name or parameter with the nearest one, value out of range) goes into
/// `problems`; `longest` is the run's max_completion_length, the default of lengths.
std::vector<RewardRule> read_reward_rules(const Json& reward_funcs, int64_t longest,
                                          Problems& problems);

/// Names of all rules, without TRL's.
std::vector<std::string> reward_rule_names();

}  // namespace rlhf
