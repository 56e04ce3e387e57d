// Preference rows: prompts, and the two answers behind them.
#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/data/encode.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

constexpr std::array<std::string_view, 2> kMembers = {"chosen", "rejected"};

EncodedAnswer split_at(const Ids& ids, size_t seam) {
  const auto middle = ids.begin() + static_cast<std::ptrdiff_t>(seam);
  return {.prompt = {ids.begin(), middle}, .completion = {middle, ids.end()}};
}

/// Tokens that both begin with, so that each keeps one at least where it has one.
size_t shared_prompt(const Ids& a, const Ids& b) {
  const size_t shorter = std::min(a.size(), b.size());
  return std::min(common_prefix_length(a, b), shorter == 0 ? 0 : shorter - 1);
}

SplitPreference split_messages(const Record& record, const Schema& schema) {
  if (schema.type != RowType::implicit_preference)
    return {record.at("prompt"), record.at("chosen"), record.at("rejected")};
  SplitPreference split = split_implicit_prompt(record.at("chosen"), record.at("rejected"));
  if (split.prompt.empty()) {
    throw UserError(record.where,
                    "`chosen` and `rejected` were expected to begin with the same message.",
                    "give the prompt in a column of its own.");
  }
  return split;
}

std::array<EncodedAnswer, 2> given_members(const Record& record, const Schema& schema) {
  const std::array<Ids, 2> ids = {record.ids("chosen_ids"), record.ids("rejected_ids")};
  if (schema.type == RowType::implicit_preference) {
    const size_t seam = shared_prompt(ids[0], ids[1]);
    return {split_at(ids[0], seam), split_at(ids[1], seam)};
  }
  const Ids prompt = record.ids("prompt_ids");
  return {EncodedAnswer{.prompt = prompt, .completion = ids[0]},
          EncodedAnswer{.prompt = prompt, .completion = ids[1]}};
}

}  // namespace

std::array<EncodedAnswer, 2> Encoder::implicit_text_members(const Record& record) const {
  const SplitPreference split = split_implicit_prompt(record.at("chosen"), record.at("rejected"));
  Ids prompt = plain_prompt(split.prompt.get_ref<const std::string&>());
  drop_second_bos(prompt);
  std::array<EncodedAnswer, 2> members;
  for (size_t i = 0; i < members.size(); ++i) {
    const std::string& text = record.text(kMembers[i]);
    Ids whole = plain_prompt(text);
    drop_second_bos(whole);
    end_text(whole, text);
    members[i] = split_at(whole, common_prefix_length(prompt, whole));
  }
  return members;
}

std::array<EncodedAnswer, 2> Encoder::members(const Record& record, const Schema& schema) const {
  if (schema.form == RowForm::ids) return given_members(record, schema);
  if (schema.form == RowForm::messages) {
    const SplitPreference split = split_messages(record, schema);
    return {chat_answer(record, split.prompt, split.chosen),
            chat_answer(record, split.prompt, split.rejected)};
  }
  if (schema.type == RowType::implicit_preference) return implicit_text_members(record);
  const Ids before = prompt(record, schema);
  return {
      EncodedAnswer{.prompt = before, .completion = plain_completion(record.text(kMembers[0]))},
      EncodedAnswer{.prompt = before, .completion = plain_completion(record.text(kMembers[1]))}};
}

EncodedPair Encoder::pair(const Record& record, const Schema& schema) const {
  std::array<EncodedAnswer, 2> both = members(record, schema);
  // The prompts begin alike: each is what its answer left of the same prompt.
  const size_t same = std::min(both[0].prompt.size(), both[1].prompt.size());
  for (EncodedAnswer& member : both) {
    member.completion.insert(member.completion.begin(),
                             member.prompt.begin() + static_cast<std::ptrdiff_t>(same),
                             member.prompt.end());
    member.prompt.resize(same);
  }
  return {.prompt = std::move(both[0].prompt),
          .chosen = std::move(both[0].completion),
          .rejected = std::move(both[1].completion),
          .rerendered = both[0].rerendered || both[1].rerendered};
}

Ids Encoder::joint_member(const Record& record, const Schema& schema,
                          std::string_view member) const {
  const bool implicit = schema.type == RowType::implicit_preference;
  if (schema.form == RowForm::ids) {
    Ids ids = implicit ? Ids{} : record.ids("prompt_ids");
    const Ids answer = record.ids(std::string(member) + "_ids");
    ids.insert(ids.end(), answer.begin(), answer.end());
    return ids;
  }
  if (schema.form == RowForm::messages) {
    Json messages = implicit ? Json::array() : record.at("prompt");
    for (const Json& message : record.at(member)) messages.push_back(message);
    return tokenizer_.encode(chat(record).render(chat_input(record, std::move(messages))),
                             /*add_special_tokens=*/false);
  }
  const std::string& answer = record.text(member);
  Ids ids = plain_prompt(implicit ? answer : record.text("prompt") + answer);
  drop_second_bos(ids);
  end_text(ids, answer);
  return ids;
}

EncodedPair Encoder::joint_pair(const Record& record, const Schema& schema) const {
  const Ids chosen = joint_member(record, schema, kMembers[0]);
  const Ids rejected = joint_member(record, schema, kMembers[1]);
  const size_t seam = shared_prompt(chosen, rejected);
  EncodedAnswer first = split_at(chosen, seam);
  return {.prompt = std::move(first.prompt),
          .chosen = std::move(first.completion),
          .rejected = split_at(rejected, seam).completion};
}

}  // namespace rlhf
