#include "rlhf/data/encode.h"

#include <algorithm>

#include "rlhf/core/error.h"

namespace rlhf {
namespace {

using Ids = std::vector<int32_t>;

bool starts_with(const Ids& ids, const Ids& head) {
  return ids.size() >= head.size() && std::equal(head.begin(), head.end(), ids.begin());
}

void append(Ids& ids, const Ids& more) { ids.insert(ids.end(), more.begin(), more.end()); }

Json joined(const Json& a, const Json& b) {
  Json all = a;
  for (const Json& message : b) all.push_back(message);
  return all;
}

Ids tail(const Ids& ids, size_t begin) {
  return {ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end()};
}

}  // namespace

Json TextOptions::key() const {
  return {{"eos_token", eos_token},
          {"stop_ids", stop_ids},
          {"chat_template_kwargs", chat_template_kwargs},
          {"on_bad_row", on_bad_row == OnBadRow::error ? "error" : "drop"}};
}

Json EncodeOptions::key() const {
  return {{"max_length", max_length ? Json(*max_length) : Json()},
          {"truncation_mode",
           truncation_mode == TruncationMode::keep_start ? "keep_start" : "keep_end"},
          {"completion_only_loss", completion_only_loss ? Json(*completion_only_loss) : Json()},
          {"assistant_only_loss", assistant_only_loss},
          {"eos_token", eos_token},
          {"stop_ids", stop_ids},
          {"chat_template_kwargs", chat_template_kwargs},
          {"on_bad_row", on_bad_row == OnBadRow::error ? "error" : "drop"}};
}

EncodeOptions encode_options(std::optional<int64_t> max_length, const TextOptions& text) {
  return {.max_length = max_length,
          .eos_token = text.eos_token,
          .stop_ids = text.stop_ids,
          .chat_template_kwargs = text.chat_template_kwargs,
          .on_bad_row = text.on_bad_row};
}

int64_t EncodedAnswer::predicted() const {
  return std::ssize(completion) - (prompt.empty() && !completion.empty() ? 1 : 0);
}

int64_t EncodedRow::predicted() const {
  return supervised.empty() ? 0 : std::count(supervised.begin() + 1, supervised.end(), uint8_t{1});
}

size_t common_prefix_length(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto end = std::min(a.size(), b.size());
  return static_cast<size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(end), b.begin()).first -
      a.begin());
}

bool truncate_row(EncodedRow& row, int64_t max_length, TruncationMode mode) {
  const auto most = static_cast<size_t>(max_length);
  if (row.ids.size() > most) {
    const auto excess = static_cast<std::ptrdiff_t>(row.ids.size() - most);
    if (mode == TruncationMode::keep_end) {
      row.ids.erase(row.ids.begin(), row.ids.begin() + excess);
      row.supervised.erase(row.supervised.begin(), row.supervised.begin() + excess);
    } else {
      row.ids.resize(most);
      row.supervised.resize(most);
    }
  }
  return row.predicted() > 0;
}

Encoder::Encoder(const Tokenizer& tokenizer, const ChatTemplate* chat, EncodeOptions options)
    : tokenizer_(tokenizer), chat_(chat), options_(std::move(options)) {
  if (options_.max_length && *options_.max_length < 2) {
    throw UserError("max_length",
                    fmt::format("2 tokens or more were expected, got {}.", *options_.max_length));
  }
  eos_text_ = options_.eos_token.empty() ? tokenizer_.eos_token() : options_.eos_token;
  if (!eos_text_.empty()) {
    eos_id_ = tokenizer_.token_to_id(eos_text_);
    if (!eos_id_) {
      throw UserError("eos_token",
                      fmt::format("a token of the vocabulary was expected, got `{}`.", eos_text_),
                      "write it as tokenizer.json does.");
    }
  }
  probe();
}

// Finds out what the tokenizer adds around a text and before it.
void Encoder::probe() {
  const Ids plain = tokenizer_.encode("a", /*add_special_tokens=*/false);
  const Ids whole = tokenizer_.encode("a", /*add_special_tokens=*/true);
  const auto at = std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
  prefix_.assign(whole.begin(), at);
  if (at != whole.end())
    suffix_.assign(at + static_cast<std::ptrdiff_t>(plain.size()), whole.end());

  // A space before every text (SentencePiece's dummy prefix) shows when a text is encoded behind
  // another.
  for (const char* before : {"\n", "0", "."}) {
    Ids first = tokenizer_.encode(before, /*add_special_tokens=*/false);
    const Ids both = tokenizer_.encode(std::string(before) + "a", /*add_special_tokens=*/false);
    if (!starts_with(both, first)) continue;
    if (tail(both, first.size()) == plain) {
      sentinels_.clear();
      return;
    }
    sentinels_.push_back({before, std::move(first)});
  }
}

bool Encoder::is_stop(int32_t id) const {
  return id == eos_id_ || std::find(options_.stop_ids.begin(), options_.stop_ids.end(), id) !=
                              options_.stop_ids.end();
}

bool Encoder::has_stop(std::span<const int32_t> ids) const {
  return std::any_of(ids.begin(), ids.end(), [this](int32_t id) { return is_stop(id); });
}

Ids Encoder::continuation(std::string_view text) const {
  for (const Sentinel& before : sentinels_) {
    const Ids both =
        tokenizer_.encode(before.text + std::string(text), /*add_special_tokens=*/false);
    if (starts_with(both, before.ids)) return tail(both, before.ids.size());
  }
  return tokenizer_.encode(text, /*add_special_tokens=*/false);
}

// Plain text: the post-processor's tokens around it, and EOS.

bool Encoder::drop_second_bos(Ids& ids) const {
  const auto bos = tokenizer_.bos_id();
  const size_t added = prefix_.size();
  if (!bos || added == 0 || ids.size() <= added || ids[added - 1] != *bos || ids[added] != *bos)
    return false;
  ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(added));
  return true;
}

Ids Encoder::plain_prompt(std::string_view text) const {
  Ids ids = prefix_;
  append(ids, tokenizer_.encode(text, /*add_special_tokens=*/false));
  return ids;
}

void Encoder::end_text(Ids& ids, std::string_view text) const {
  const bool ended = !eos_text_.empty() && text.ends_with(eos_text_);
  const bool suffix_ends =
      eos_id_ && std::find(suffix_.begin(), suffix_.end(), *eos_id_) != suffix_.end();
  if (eos_id_ && !ended && !suffix_ends) ids.push_back(*eos_id_);
  if (!(ended && suffix_ends)) append(ids, suffix_);
}

Ids Encoder::plain_completion(std::string_view text) const {
  Ids ids = continuation(text);
  end_text(ids, text);
  return ids;
}

// Conversations.

const ChatTemplate& Encoder::chat(const Record& record) const {
  if (chat_ != nullptr) return *chat_;
  throw UserError(record.where,
                  "a model with a chat template was expected, since the row is conversational.",
                  "set `chat_template_path`, or give rows of plain text.");
}

ChatInput Encoder::chat_input(const Record& record, Json messages) const {
  ChatInput input{};
  input.messages = std::move(messages);
  if (const Json& tools = record.at("tools"); tools.is_array() && !tools.empty())
    input.tools = tools;
  input.documents = record.at("documents");
  input.add_generation_prompt = false;
  input.continue_final_message = false;
  input.variables = options_.chat_template_kwargs;
  if (record.has("chat_template_kwargs")) input.variables.update(record.at("chat_template_kwargs"));
  return input;
}

std::string Encoder::render_prompt(const Record& record, const Json& messages) const {
  ChatInput input = chat_input(record, messages);
  input.continue_final_message = messages.back().at("role") == "assistant";
  input.add_generation_prompt = !input.continue_final_message;
  return chat(record).render(input);
}

EncodedAnswer Encoder::chat_answer(const Record& record, const Json& prompt,
                                   const Json& completion) const {
  const std::string before = render_prompt(record, prompt);
  const std::string whole = chat(record).render(chat_input(record, joined(prompt, completion)));
  EncodedAnswer answer{.prompt = tokenizer_.encode(before),
                       .completion = {},
                       .rerendered = !whole.starts_with(before)};
  if (!answer.rerendered) {
    answer.completion = continuation(std::string_view(whole).substr(before.size()));
    return answer;
  }
  const Ids ids = tokenizer_.encode(whole);
  const size_t same = common_prefix_length(answer.prompt, ids);
  answer.prompt.resize(same);
  answer.completion = tail(ids, same);
  return answer;
}

Ids Encoder::prompt(const Record& record, const Schema& schema) const {
  switch (schema.form) {
    case RowForm::ids:
      return record.ids("prompt_ids");
    case RowForm::messages:
      return tokenizer_.encode(render_prompt(record, record.at("prompt")));
    case RowForm::text:
      break;
  }
  Ids ids = plain_prompt(record.text("prompt"));
  drop_second_bos(ids);
  return ids;
}

EncodedAnswer Encoder::answer(const Record& record, const Schema& schema) const {
  switch (schema.form) {
    case RowForm::ids:
      return {.prompt = record.ids("prompt_ids"), .completion = record.ids("completion_ids")};
    case RowForm::messages:
      return chat_answer(record, record.at("prompt"), record.at("completion"));
    case RowForm::text:
      break;
  }
  return {.prompt = prompt(record, schema),
          .completion = plain_completion(record.text("completion"))};
}

}  // namespace rlhf
