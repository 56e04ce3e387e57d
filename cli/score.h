// What `rlhf score` writes for each kind of model.
#pragma once

#include <cstdint>

#include "cli/inference.h"

namespace rlhf::cli {

/// Rows as the trainer would encode them: of a prompt and a completion the completion is scored, of
/// messages what the assistants say, of plain text and bare ids everything but the first token.
std::vector<EncodedRow> completion_rows(const LoadedModel& loaded, const InferenceOptions& data);

/// Of a reward model: `reward` a row, or `chosen` and `rejected` of a preference row.
void write_rewards(const LoadedModel& loaded, const InferenceOptions& options, int64_t max_tokens,
                   JsonLines& lines);

/// Of a process reward model: `step_rewards` of stepwise rows.
void write_step_rewards(const LoadedModel& loaded, const InferenceOptions& options,
                        const std::string& step_separator, int64_t max_tokens, JsonLines& lines);

}  // namespace rlhf::cli
