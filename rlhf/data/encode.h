// Rows to token ids, and which tokens are learned.
//
// Text is what the chat template renders, once; ids are what generation will see. So a prompt and
// its answer are encoded apart and joined as ids: the prompt's ids are a prefix of the row's
// whatever the tokenizer would merge across the seam. (TRL encodes both together; the ids differ
// where a token crosses the seam.)
//
//   row, plain text      post-processor prefix + prompt | answer + EOS + post-processor suffix
//   row, chat template   prompt with the generation prompt | rest of the whole conversation; no
//                        specials are added
//   assistant spans      a new piece begins where a span begins; tokens that end behind the span's
//                        end are not learned
//
// EOS is appended to plain text (unless the text ends with it, or the suffix holds it), never to
// rendered text or to given ids: there the template or the giver has the word. Masks come from
// lengths and spans, never from `id == pad`.
//
// Where the template renders a prompt followed by an answer unlike the prompt alone (a generation
// prompt with an empty think block, say), the rendered prompt is no prefix of the conversation:
// then the conversation is encoded whole and the seam is the end of the common token prefix, as in
// TRL, and the row is counted.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rlhf/core/json.h"
#include "rlhf/data/records.h"
#include "rlhf/data/schema.h"
#include "rlhf/data/statistics.h"
#include "rlhf/text/chat_template.h"
#include "rlhf/text/tokenizer.h"

namespace rlhf {

enum class TruncationMode { keep_start, keep_end };
enum class OnBadRow { error, drop };

/// What rows of every method that reads text have in common.
struct TextOptions {
  /// In place of the tokenizer's own.
  std::string eos_token{};
  /// Further ids that end a turn or text; they count as EOS in the statistics.
  std::vector<int32_t> stop_ids{};
  /// For every row's template; a row's `chat_template_kwargs` win.
  Json chat_template_kwargs = Json::object();
  OnBadRow on_bad_row = OnBadRow::error;

  /// Everything that ids depend on.
  Json key() const;
};

struct EncodeOptions {
  std::optional<int64_t> max_length = 1024;  ///< none: rows keep their length
  TruncationMode truncation_mode = TruncationMode::keep_start;
  /// Learn the answer only. Unset: yes where a row has a prompt or a completion mask, else all
  /// tokens are learned.
  std::optional<bool> completion_only_loss = std::nullopt;
  /// Learn what assistants say only; needs conversational rows (or given `assistant_masks`).
  bool assistant_only_loss = false;
  /// In place of the tokenizer's own.
  std::string eos_token{};
  /// Further ids that end a turn or text; they count as EOS in the statistics.
  std::vector<int32_t> stop_ids{};
  /// For every row's template; a row's `chat_template_kwargs` win.
  Json chat_template_kwargs = Json::object();
  OnBadRow on_bad_row = OnBadRow::error;

  /// Everything that ids and masks depend on.
  Json key() const;
};

/// Options of methods that choose no masks.
EncodeOptions encode_options(std::optional<int64_t> max_length, const TextOptions& text);

/// Ids of a row and which of them are learned (1) or only read (0).
struct EncodedRow {
  std::vector<int32_t> ids;
  std::vector<uint8_t> supervised;  ///< as many

  /// Learned tokens that have a token before them to predict them from.
  int64_t predicted() const;
};

/// Notice of rows whose template renders a prompt differently once the answer follows.
inline constexpr const char* kRerendered =
    "the template renders the prompt differently once an answer follows";

/// A prompt and what follows it.
struct EncodedAnswer {
  std::vector<int32_t> prompt{};
  std::vector<int32_t> completion{};
  bool rerendered = false;  ///< see kRerendered

  /// Tokens of the completion that have a token before them to predict them from.
  int64_t predicted() const;
};

/// A prompt with two answers.
struct EncodedPair {
  std::vector<int32_t> prompt{};
  std::vector<int32_t> chosen{};
  std::vector<int32_t> rejected{};
  bool rerendered = false;  ///< as in EncodedAnswer, for either answer
};

/// Encodes records whose schema was checked. Immutable: threads share it. Keeps references to the
/// tokenizer and template.
class Encoder {
 public:
  /// `chat` may be null: conversational rows are a problem then.
  Encoder(const Tokenizer& tokenizer, const ChatTemplate* chat, EncodeOptions options);

  const EncodeOptions& options() const { return options_; }

  /// A prompt as generation gets it: the template with its generation prompt (or, where the last
  /// message is an assistant's, continuing that message), or plain text behind the post-processor's
  /// prefix.
  std::vector<int32_t> prompt(const Record& record, const Schema& schema) const;

  /// Prompt and completion in the columns `prompt` and `completion`.
  EncodedAnswer answer(const Record& record, const Schema& schema) const;

  /// The members of a preference row, chosen and rejected, each with its own prompt. An implicit
  /// prompt of text is the common beginning of both, backed off to where a token ends; of messages,
  /// the common leading messages; of ids, the common ones. Members are independent of each other
  /// but for that.
  std::array<EncodedAnswer, 2> members(const Record& record, const Schema& schema) const;

  /// members() with the prompt that both share: the shorter one, where they differ.
  EncodedPair pair(const Record& record, const Schema& schema) const;

  /// A preference row for a reward model: prompt and answer encoded whole, conversations rendered
  /// as they are, without a generation prompt. The prompt is the common token prefix.
  EncodedPair joint_pair(const Record& record, const Schema& schema) const;

  /// One member of joint_pair(), prompt and all: the column `member` behind the row's prompt; of a
  /// prompt-completion row its `completion`.
  std::vector<int32_t> joint_member(const Record& record, const Schema& schema,
                                    std::string_view member) const;

  /// An SFT row (language modelling or prompt-completion) with its mask, uncut. `notices` counts
  /// what is worth knowing.
  EncodedRow sft(const Record& record, const Schema& schema,
                 std::map<std::string, Tally>& notices) const;

  /// Whether the id ends a text or turn: EOS or one of stop_ids.
  bool is_stop(int32_t id) const;
  /// Whether one of the ids does.
  bool has_stop(std::span<const int32_t> ids) const;

  /// Ids of text that follows other ids: without the space that some tokenizers put before every
  /// text.
  std::vector<int32_t> continuation(std::string_view text) const;

 private:
  struct Sentinel {
    std::string text;
    std::vector<int32_t> ids;
  };

  /// A conversation encoded in pieces, and the tokens before its seam.
  struct Pieces {
    EncodedRow row;
    size_t seam;
  };

  ChatInput chat_input(const Record& record, Json messages) const;
  const ChatTemplate& chat(const Record& record) const;
  std::string render_prompt(const Record& record, const Json& messages) const;
  RenderedChat render_whole(const Record& record, Json messages) const;
  Pieces encode_pieces(const RenderedChat& rendered, size_t seam) const;

  std::vector<int32_t> plain_prompt(std::string_view text) const;
  std::vector<int32_t> plain_completion(std::string_view text) const;
  void end_text(std::vector<int32_t>& ids, std::string_view text) const;
  bool drop_second_bos(std::vector<int32_t>& ids) const;

  EncodedAnswer chat_answer(const Record& record, const Json& prompt, const Json& completion) const;
  std::array<EncodedAnswer, 2> implicit_text_members(const Record& record) const;
  EncodedRow plain_row(const Record& record, std::map<std::string, Tally>& notices) const;
  EncodedRow given_row(const Record& record) const;
  EncodedRow answer_row(const EncodedAnswer& answer) const;
  EncodedRow chat_answer_row(const Record& record, std::map<std::string, Tally>& notices) const;
  void probe();

  const Tokenizer& tokenizer_;
  const ChatTemplate* chat_;
  EncodeOptions options_;
  std::string eos_text_;
  std::optional<int32_t> eos_id_;
  std::vector<int32_t> prefix_;  // what the post-processor puts before a text
  std::vector<int32_t> suffix_;  // and behind it
  /// Texts to encode a continuation behind, where the tokenizer adds a space to every text; else
  /// none.
  std::vector<Sentinel> sentinels_;
};

/// Cuts `row` to max_length. Returns false when nothing learned is left, so that the row must be
/// dropped.
bool truncate_row(EncodedRow& row, int64_t max_length, TruncationMode mode);

/// Ids that both begin with.
size_t common_prefix_length(std::span<const int32_t> a, std::span<const int32_t> b);

}  // namespace rlhf
