// What a judge outside this program wrote, read strictly: anything but an answer to the question
// that was asked is no answer (external_judge.h has the form).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "rlhf/rewards/external_judge.h"

namespace rlhf {

/// The answer to question `id` in `text`: a JSON object with that id and either `reward`, null or a
/// finite number, or `error`, a text. None where it is anything else.
std::optional<JudgeAnswer> read_judge_answer(std::string_view text, int64_t id);

}  // namespace rlhf
