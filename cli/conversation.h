// A conversation with a model: messages, how the next answer is drawn, and what of it is kept.
//
// An answer is drawn as `rlhf generate` draws it of a row whose `prompt` is the messages so far: the
// same template, ids, stop tokens and, for the first answer, random stream. Its text is what becomes
// the assistant's message; the template decides how much of it later turns see (reasoning, as a
// rule, they do not).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/inference.h"
#include "rlhf/data/encode.h"
#include "rlhf/generate/session.h"

namespace rlhf::cli {

struct Answer {
  enum class End {
    stopped,      ///< by the model, or a stop string
    length,       ///< max_new_tokens
    context,      ///< no room for another token
    interrupted,  ///< what was there is kept; nothing, not even the question, where nothing was
  };
  End end = End::stopped;
  int64_t tokens = 0;
  int64_t prompt_tokens = 0;
  int64_t reused_tokens = 0;  ///< of the prompt, known from before
  double prompt_seconds = 0.0;
  double seconds = 0.0;  ///< of all tokens behind the first
};

struct ConversationOptions {
  SamplingFlags flags;
  Json chat_template_kwargs;  ///< null: none
  std::optional<std::string> system;
};

class Conversation {
 public:
  /// Text of an answer as it becomes certain.
  using OnText = std::function<void(std::string_view)>;
  using ShouldStop = std::function<bool()>;

  /// Keeps a reference to the model. UserError where it has no tokenizer or no chat template, the
  /// template has no place for the system text, or keys and values of a single block do not fit.
  Conversation(const LoadedModel& loaded, ConversationOptions options);

  /// Asks and answers. UserError, with the conversation as before, when the text is not UTF-8, the
  /// template refuses it, or there is no room left.
  Answer ask(const std::string& text, const OnText& on_text, const ShouldStop& should_stop);
  /// Draws the last answer anew, from another random stream. UserError where there is none.
  Answer retry(const OnText& on_text, const ShouldStop& should_stop);

  /// Forgets all turns, not the system text.
  void reset();
  /// None: the template's own. Later answers are drawn as if it had been there from the start.
  void set_system(std::optional<std::string> text);
  /// Appends the messages to a JSONL file, as a row that `rlhf sft` reads. Returns how many of the
  /// answers were cut short. UserError where there is no answer yet, or the file cannot be written.
  int64_t save(const fs::path& file) const;

  bool has_answer() const { return !turns_.empty() && turns_.back().at("role") == "assistant"; }
  /// Most tokens of a prompt and its answer.
  int64_t room() const { return session_->capacity(); }

 private:
  Json messages() const;
  std::vector<int32_t> encode(const Json& conversation) const;
  void stop_at_end_of_turn();
  Answer answer(const OnText& on_text, const ShouldStop& should_stop);

  const LoadedModel& loaded_;
  ConversationOptions options_;
  Encoder encoder_;
  std::optional<Session> session_;
  std::vector<int32_t> stop_ids_;
  std::string limit_;  // what bounds the room, for messages
  Json turns_ = Json::array();
  std::vector<bool> cut_;  // of each answer: it did not end by itself
  uint64_t retries_ = 0;   // of the last answer
};

}  // namespace rlhf::cli
