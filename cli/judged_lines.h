// Judged completions on their way to the lines that `rlhf generate` writes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/inference.h"
#include "rlhf/data/sampled_rows.h"
#include "rlhf/train/judges.h"

namespace rlhf {

namespace cli {

/// What becomes of a prompt's completions.
enum class OutputFormat {
  completions,  ///< the row with all of them
  best_of_n,    ///< a prompt-completion row with the best of them
  pairs,        ///< preference rows
};

struct JudgedOutput {
  OutputFormat format = OutputFormat::completions;
  int64_t pairs_per_prompt = 1;
  std::optional<double> min_reward = {};  ///< of the completion that a row prefers
  double failure_limit = 0.5;             ///< most completions that a judge may fail on, as a share
};

/// Has completions judged and writes their lines in order of prompts. Where every judge answers at
/// once a prompt's lines are written as soon as it is done; else prompts wait for each other, so that
/// reward models judge many completions a pass and workers answer while others still grow.
class JudgedLines {
 public:
  /// Keeps references.
  JudgedLines(const Judges& judges, const Tokenizer& tokenizer, const JudgedOutput& output,
              JsonLines& lines);

  /// All completions of the next prompt. Error where too many failed.
  void add(const PromptRow& row, std::vector<TextCompletion>& samples);
  /// Writes the rest, and logs what was left out and what judges failed on.
  void finish();

 private:
  void judge_and_write();
  void write_completions(const Json& row, const Group& group,
                         const std::vector<TextCompletion>& samples);
  void write_rows(const Json& row, const Group& group);
  void note_failures();
  void log_rows() const;

  const Judges& judges_;
  const JudgedOutput& output_;
  JsonLines& lines_;
  Judging judging_;
  // Prompts that wait for their judges.
  std::vector<const PromptRow*> waiting_;
  std::vector<Group> groups_;
  std::vector<std::vector<TextCompletion>> completions_;
  int64_t waiting_completions_ = 0;
  // Of all so far.
  int64_t prompts_ = 0;
  int64_t rows_ = 0;
  int64_t truncated_ = 0;
  std::map<NoRow, int64_t> without_row_;
  FailedCompletions failed_;
  std::map<std::string, JudgeFailures> failures_;
};

}  // namespace cli

template <>
struct EnumNames<cli::OutputFormat> {
  static constexpr std::array<std::string_view, 3> names = {"completions", "best_of_n", "pairs"};
};

}  // namespace rlhf
