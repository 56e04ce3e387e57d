#include "rlhf/train/judge_text.h"

namespace rlhf {
namespace {

Json assistant(std::string text) { return {{"role", "assistant"}, {"content", std::move(text)}}; }

/// The conversation before the answer; the answer begins with what its last message has of it.
Json split_off_beginning(Json messages, std::string& answer) {
  if (messages.empty() || messages.back().value("role", "") != "assistant") return messages;
  const Json begun = messages.back().value("content", Json());
  if (begun.is_string()) answer = begun.get<std::string>() + answer;
  messages.erase(messages.size() - 1);
  return messages;
}

}  // namespace

JudgeText::JudgeText(const fs::path& folder) : text_(load_text_side(folder, {})) {}

std::vector<int32_t> JudgeText::ids_of(const Json& columns, const Tokenizer& policy,
                                       const Group& group, const Sample& sample) const {
  const Encoder encoder(text_.tokenizer, text_.chat ? &*text_.chat : nullptr,
                        encode_options(std::nullopt, {}));
  std::string answer = sample.text;
  Json prompt = columns.value("prompt", Json());
  if (prompt.is_null() || has_column(columns, "prompt_ids"))
    prompt = policy.decode(group.prompt, /*skip_special_tokens=*/true);
  const bool chat = prompt.is_array();
  if (chat) prompt = split_off_beginning(std::move(prompt), answer);
  const Schema schema{.type = RowType::prompt_completion,
                      .form = chat ? RowForm::messages : RowForm::text};
  Record record{.row = columns, .where = "reward_model_reencode"};
  if (!sample.truncated) {
    record.row["prompt"] = std::move(prompt);
    record.row["completion"] = chat ? Json::array({assistant(answer)}) : Json(answer);
    return encoder.joint_member(record, schema, "completion");
  }
  if (chat) {
    prompt.push_back(assistant(answer));
  } else {
    prompt = prompt.get<std::string>() + answer;
  }
  record.row["prompt"] = std::move(prompt);
  return encoder.prompt(record, schema);
}

}  // namespace rlhf
