// Process supervision (Shao et al., DeepSeekMath, arXiv 2402.03300, section 4.1.3): a process reward
// model judges every step of a completion.
//
// A step ends with the token in which its separator is complete; text behind the last separator is
// the last step and ends with the completion. The judge reads the sampled ids as they stand, prompt
// before completion, and judges a step at the token that ends it; where the last step has no
// separator, the judge reads one in place of the end token, since that is where `rlhf prm` put its
// labels. So it must have been trained with the same separator, and have the policy's tokenizer.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rlhf/models/folder.h"
#include "rlhf/text/tokenizer.h"
#include "rlhf/train/rollout.h"

namespace rlhf {

struct Steps {
  std::vector<int64_t> ends;  ///< tokens with which a separator is complete, rising
  bool open = false;          ///< a last step without one follows; always where there is no other
};
/// `ids` of a completion, not empty.
Steps find_steps(const Tokenizer& tokenizer, std::span<const int32_t> ids,
                 const std::string& separator);

class StepJudge {
 public:
  /// `model`: of load_step_judge (judge_model.h).
  StepJudge(Model model, std::string separator);

  /// Fills `steps` of every sample and sets the last of its rewards to their mean. A step whose reward is
  /// not finite is a failure of its sample, named `name`.
  void judge(const Tokenizer& tokenizer, const std::string& name, std::vector<Group>& groups) const;

 private:
  Model model_;
  std::string separator_;
};

}  // namespace rlhf
