// Process supervision (Shao et al., DeepSeekMath, arXiv 2402.03300, section 4.1.3): a process reward
// model judges every step of a completion.
//
// A step ends with the token in which its separator is complete, and the last one with the
// completion. The judge reads the sampled ids as they stand, prompt before completion, and judges a
// step at the token that ends it: so it must have been trained with the same separator, and have
// the policy's tokenizer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rlhf/models/folder.h"
#include "rlhf/text/tokenizer.h"
#include "rlhf/train/rollout.h"

namespace rlhf {

/// Tokens that end a step, rising; the last token is always one. `ids` is not empty.
std::vector<int64_t> step_ends(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                               const std::string& separator);

class StepJudge {
 public:
  /// UserError unless the folder holds a process reward model (token classification, one label or
  /// two).
  StepJudge(const fs::path& folder, std::string separator, torch::Device device);

  /// Fills `steps` of every sample and appends their mean to its rewards. A step whose reward is
  /// not finite is a failure of its sample, named `name`.
  void judge(const Tokenizer& tokenizer, const std::string& name, std::vector<Group>& groups) const;

 private:
  Model model_;
  std::string separator_;
};

}  // namespace rlhf
