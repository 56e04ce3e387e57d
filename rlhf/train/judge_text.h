// A reward model that is asked in text (`reward_model_reencode`): one with another tokenizer or
// template than the policy's.
//
// A completion's text, without special tokens, stands behind the row's prompt, and both are encoded
// whole with the judge's own tokenizer and, where the prompt is a conversation, its own template:
// the ids are those that its trainer gave such a row (Encoder::joint_member). What reached the
// longest length ends open, with neither EOS nor an end of turn, as it does in ids.
#pragma once

#include <cstdint>
#include <vector>

#include "rlhf/data/encode.h"
#include "rlhf/train/rollout.h"
#include "rlhf/train/setup.h"

namespace rlhf {

class JudgeText {
 public:
  /// Reads tokenizer and template of the folder. UserError where there are none.
  explicit JudgeText(const fs::path& folder);

  bool has_template() const { return text_.chat.has_value(); }

  /// The ids that the judge reads. `columns`: the whole data row; a prompt of ids is read as the
  /// text that `policy` makes of it. A prompt that ends with an assistant's message is continued.
  /// UserError where the template refuses the conversation or the vocabulary a character.
  std::vector<int32_t> ids_of(const Json& columns, const Tokenizer& policy, const Group& group,
                              const Sample& sample) const;

 private:
  TextSide text_;
};

}  // namespace rlhf
