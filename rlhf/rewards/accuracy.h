// Rewards that compare an answer with a known solution, by rule.
#pragma once

#include <optional>
#include <string_view>

namespace rlhf {

/// 1 where the completion's answer equals the gold answer, 0 where it differs or none is found,
/// null where the gold answer cannot be parsed: the reward does not apply to the row.
///
/// The completion's answer is its last closed `\boxed{…}`; else, of `#### …` and "the answer is …",
/// the first that fits the gold answer's kind (a number where it is a number); else the whole text
/// where that fits; else its last number. The gold answer is `\boxed{…}`, `#### …`, "the answer is
/// …", or the whole text where that is a number or a short expression: it is not guessed from
/// prose. Empty gold, and prose of three words or more without a mark, cannot be parsed.
std::optional<double> accuracy(std::string_view completion, std::string_view gold);

/// 1 where both are equal but for white space around them, else 0.
double exact_match(std::string_view completion, std::string_view gold);

}  // namespace rlhf
