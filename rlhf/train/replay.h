// Recorded completions in place of sampling (`replay_completions`): for debugging, for comparing
// losses on the same samples, for parity with other trainers.
//
// A JSONL file (plain or gzip), a line for each completion:
//
//   {"prompt_ids": [1, 15, 8], "completion_ids": [7, 2], "rewards": {"accuracy": 1.0, "length":
//   null}}
//
// or with a single "reward". Steps that a process reward model judged stand beside them, their mean
// being the last of the rewards:
//
//   "steps": {"last_tokens": [4, 9], "rewards": [0.9, 0.4]}
//
// `finish_reason` (stop or length) and `failures` (texts) are read where they are there, so that
// completions.jsonl of a run replays to that run. Lines of a group (num_generations of one prompt)
// stand together, groups in the order in which they are drawn.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "rlhf/core/file.h"
#include "rlhf/train/policy.h"
#include "rlhf/train/rollout.h"

namespace rlhf {

class Replay {
 public:
  /// Reads the whole file. `ends`: ids that end a completion; one that ends otherwise was
  /// truncated. UserError lists every bad line, a group whose prompts differ, and a last group that
  /// is not whole.
  Replay(const fs::path& path, int64_t num_generations, const std::vector<int32_t>& ends);

  int64_t groups() const { return std::ssize(groups_); }
  /// Names of the recorded rewards, in order of first appearance; `reward` where lines have a
  /// single one.
  const std::vector<std::string>& judges() const { return judges_; }
  /// Groups [begin, begin + count).
  std::vector<Group> take(int64_t begin, int64_t count) const;

  const RowLimits& limits() const { return limits_; }
  /// Of the file's content.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  std::vector<Group> groups_;
  std::vector<std::string> judges_;
  RowLimits limits_;
  std::string fingerprint_;
};

}  // namespace rlhf
