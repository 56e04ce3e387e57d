// completions.jsonl read back: the numbers of every line, and the texts of some.
//
// Lines are read one by one and twice, first their numbers, then the texts of those that are kept,
// so that memory holds a few numbers a line whatever the file's size.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/core/json.h"

namespace rlhf {

/// How much text a report takes of each run.
struct KeepLimits {
  int64_t completions = 2000;       ///< most completions whose texts are kept
  int64_t text_characters = 20000;  ///< longer prompts and completions are cut; code points
};

/// One number of every completion.
struct CompletionQuantity {
  std::string name;            ///< `reward`, `rewards/JUDGE`, `advantage`, `length`
  std::vector<double> values;  ///< one a completion; NaN where it has none
};

struct CompletionLog {
  bool present = false;        ///< whether there is a completions.jsonl
  std::vector<int64_t> steps;  ///< of every completion
  std::vector<CompletionQuantity> quantities;
  std::vector<std::string> judges;
  std::vector<Json> prompts;  ///< of the kept ones: `{"text", "cut"}`, each once
  /// `{"step", "generation", "group", "prompt", "text", "cut", "reward", "rewards", "advantage",
  /// "length", "finish", "failures", "row"}`: `prompt` is an index, `rewards` stands in the order of
  /// `judges`, `cut` is the number of characters left out, and what a line lacks is null.
  std::vector<Json> kept;
};

/// Reads `path`; a log that is not `present` where there is no such file. Of more than
/// `limits.completions` lines, whole groups (successive completions of one prompt) are kept, spread
/// evenly over the file, its first and last among them. Messages about lines that could not be used
/// go to `notes`.
CompletionLog read_completions(const fs::path& path, const KeepLimits& limits,
                               std::vector<std::string>& notes);

}  // namespace rlhf
