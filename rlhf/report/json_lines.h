// The lines of a run's own JSONL files.
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <string>
#include <vector>

#include "rlhf/core/json.h"

namespace rlhf {

/// Calls `use` with every line that is a JSON object with an integer `step`, and the position of
/// its first byte. Bytes that are not UTF-8 become U+FFFD. Messages about the other lines (empty
/// ones aside) go to `notes`, the first few one by one, then their number; `where` is the file. A
/// last line without its end is one that a run was writing.
void for_each_step_line(std::istream& lines, const std::string& where,
                        std::vector<std::string>& notes,
                        const std::function<void(const Json& row, int64_t position)>& use);

/// A number, or NaN where `row` has none under `key` (JSON's null is how NaN is logged).
double number_or_nan(const Json& row, const std::string& key);

/// A text, or the empty one.
std::string text_or_empty(const Json& row, const std::string& key);

}  // namespace rlhf
