// Rows for supervised fine-tuning: ids and masks.
#include <algorithm>

#include "rlhf/core/error.h"
#include "rlhf/data/encode.h"

namespace rlhf {
namespace {

constexpr const char* kTwoBos = "the text began with BOS, which the tokenizer adds: one is kept";
constexpr size_t kNoSeam = std::string::npos;

void mask_head(EncodedRow& row, size_t count) {
  std::fill_n(row.supervised.begin(), std::min(count, row.supervised.size()), uint8_t{0});
}

void append(EncodedRow& row, const std::vector<int32_t>& ids, size_t learned) {
  row.ids.insert(row.ids.end(), ids.begin(), ids.end());
  row.supervised.insert(row.supervised.end(), learned, uint8_t{1});
  row.supervised.resize(row.ids.size(), 0);
}

/// Clears what a given column of the row (0/1 for each id) does not select.
void apply_mask(EncodedRow& row, const Record& record, std::string_view column) {
  if (!record.has(column)) return;
  const Json& mask = record.at(column);
  for (size_t i = 0; i < row.ids.size(); ++i) {
    if (mask[i] == 0 || mask[i] == false) row.supervised[i] = 0;
  }
}

}  // namespace

RenderedChat Encoder::render_whole(const Record& record, Json messages) const {
  const ChatInput input = chat_input(record, std::move(messages));
  if (options_.assistant_only_loss) return chat(record).render_with_spans(input);
  RenderedChat rendered{};
  rendered.text = chat(record).render(input);
  rendered.assistant = {{0, rendered.text.size()}};
  return rendered;
}

// Pieces begin where generation would: at the seam and at every span. `seam` and spans count bytes
// of the text.
Encoder::Pieces Encoder::encode_pieces(const RenderedChat& rendered, size_t seam) const {
  const std::string_view text = rendered.text;
  std::vector<size_t> starts = {0};
  if (seam != kNoSeam) starts.push_back(seam);
  for (const TextSpan& span : rendered.assistant) starts.push_back(span.begin);
  std::sort(starts.begin(), starts.end());
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  const auto encode = [&](size_t begin, size_t end) {
    const std::string_view piece = text.substr(begin, end - begin);
    return begin == 0 ? tokenizer_.encode(piece, /*add_special_tokens=*/false)
                      : continuation(piece);
  };

  Pieces out{};
  for (size_t i = 0; i < starts.size(); ++i) {
    const size_t begin = starts[i];
    const size_t end = i + 1 < starts.size() ? starts[i + 1] : text.size();
    if (begin == seam) out.seam = out.row.ids.size();
    const std::vector<int32_t> ids = encode(begin, end);
    const auto span =
        std::find_if(rendered.assistant.begin(), rendered.assistant.end(),
                     [&](const TextSpan& s) { return s.begin <= begin && begin < s.end; });
    size_t learned = 0;
    if (span != rendered.assistant.end()) {
      learned = span->end >= end ? ids.size() : common_prefix_length(ids, encode(begin, span->end));
    }
    append(out.row, ids, learned);
  }
  return out;
}

EncodedRow Encoder::plain_row(const Record& record, std::map<std::string, Tally>& notices) const {
  const std::string& text = record.text("text");
  EncodedRow row{.ids = plain_prompt(text), .supervised = {}};
  if (drop_second_bos(row.ids)) notices[kTwoBos].add(record.where);
  end_text(row.ids, text);
  row.supervised.assign(row.ids.size(), 1);
  return row;
}

EncodedRow Encoder::given_row(const Record& record) const {
  EncodedRow row{.ids = record.ids("input_ids"), .supervised = {}};
  row.supervised.assign(row.ids.size(), 1);
  if (record.has("labels")) {
    const Json& labels = record.at("labels");
    for (size_t i = 0; i < row.ids.size(); ++i) row.supervised[i] = labels[i] != -100;
    return row;
  }
  if (options_.completion_only_loss.value_or(true)) apply_mask(row, record, "completion_mask");
  apply_mask(row, record, "assistant_masks");
  return row;
}

EncodedRow Encoder::answer_row(const EncodedAnswer& answer) const {
  const bool completion_only = options_.completion_only_loss.value_or(true);
  EncodedRow row;
  append(row, answer.prompt, completion_only ? 0 : answer.prompt.size());
  append(row, answer.completion, answer.completion.size());
  return row;
}

EncodedRow Encoder::chat_answer_row(const Record& record,
                                    std::map<std::string, Tally>& notices) const {
  Json messages = record.at("prompt");
  for (const Json& message : record.at("completion")) messages.push_back(message);
  const std::string prompt = render_prompt(record, record.at("prompt"));
  const RenderedChat whole = render_whole(record, std::move(messages));
  const bool rerendered = !whole.text.starts_with(prompt);
  Pieces pieces = encode_pieces(whole, rerendered ? kNoSeam : prompt.size());
  if (rerendered) {
    notices[kRerendered].add(record.where);
    pieces.seam = common_prefix_length(tokenizer_.encode(prompt, /*add_special_tokens=*/false),
                                       pieces.row.ids);
  }
  if (options_.completion_only_loss.value_or(true)) mask_head(pieces.row, pieces.seam);
  return std::move(pieces.row);
}

EncodedRow Encoder::sft(const Record& record, const Schema& schema,
                        std::map<std::string, Tally>& notices) const {
  const bool whole = schema.type == RowType::language_modelling;
  switch (schema.form) {
    case RowForm::ids:
      return whole ? given_row(record) : answer_row(answer(record, schema));
    case RowForm::text:
      return whole ? plain_row(record, notices) : answer_row(answer(record, schema));
    case RowForm::messages:
      break;
  }
  if (!whole) return chat_answer_row(record, notices);
  return encode_pieces(render_whole(record, record.at("messages")), kNoSeam).row;
}

}  // namespace rlhf
