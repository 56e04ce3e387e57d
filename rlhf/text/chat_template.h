// Chat templates: messages in, the model's text out, and which bytes of it the model would have
// written itself.
//
// The template language is Jinja2's, run as transformers 5 runs it: an immutable sandbox with
// `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}` blocks, `raise_exception`,
// `strftime_now` and a `tojson` that keeps Unicode. Text equals `tokenizer.apply_chat_template(...,
// tokenize=False)` byte for byte. Templates of several files (include, import, extends, block) and
// the filters of HTML pages are refused by name.
//
// Which bytes are the assistant's:
//  (a) with `{% generation %}` marks, exactly those blocks (transformers'
//      return_assistant_tokens_mask);
//  (b) without, for each assistant message from the end of the generation prompt through the
//      end-of-turn token, not the white space after it. Our renderer notes which message every
//      piece of output was written for, so the turn is found even where the template rewrites
//      history (drops earlier reasoning, moves the tools). The generation prompt is what
//      `add_generation_prompt` adds to the messages before the turn; where the turn holds only the
//      beginning of it (the prompt opens a reasoning block, history has none), the common beginning
//      up to the last whole tag or line counts as prompt. Text after the last turn (an end-of-text
//      token) belongs to it. Tool results that a template writes inside an assistant turn do not
//      belong to it.
// Where neither is possible, a UserError says so: a mask is never empty in silence.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rlhf/core/json.h"

namespace rlhf {

/// Bytes [begin, end) of a rendered text.
struct TextSpan {
  size_t begin;
  size_t end;

  bool operator==(const TextSpan&) const = default;
};

struct RenderedChat {
  std::string text;
  std::vector<TextSpan> assistant;  ///< ascending, apart, none empty
  bool explicit_marks;              ///< the template has `{% generation %}`
};

struct ChatInput {
  Json messages;             ///< array of objects with `role` and what else the template reads
  Json tools = nullptr;      ///< array of JSON schemas
  Json documents = nullptr;  ///< array of objects
  bool add_generation_prompt = false;
  /// Ends the text with the last message's content, open for continuation.
  bool continue_final_message = false;
  Json variables =
      Json::object();  ///< further names: TRL's `chat_template_kwargs` (enable_thinking ...)
};

/// Immutable, thread-safe, cheap to copy.
class ChatTemplate {
 public:
  /// Parses the template. `name` stands in messages: `[chat_template NAME:LINE]`. `special_tokens`
  /// is an object of strings (`bos_token`, `eos_token` ...), each visible to the template.
  /// UserError on what Jinja2 refuses and on what is not supported, with line and hint.
  static ChatTemplate parse(const std::string& source, std::string name,
                            const Json& special_tokens = Json::object());

  /// The text. UserError where the template raises, reads something undefined, or exceeds a limit
  /// on text (64 MiB), steps or depth.
  std::string render(const ChatInput& input) const;
  /// The text and the assistant's spans. UserError also where a span cannot be determined.
  RenderedChat render_with_spans(const ChatInput& input) const;
  bool has_generation_marks() const;

  /// The same template with another idea of `strftime_now`; the default is local time.
  ChatTemplate with_clock(std::function<std::tm()> clock) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace rlhf
