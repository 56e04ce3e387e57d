#include "rlhf/text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "rlhf/core/error.h"
#include "rlhf/text/chat_spans.h"
#include "rlhf/text/jinja_run.h"
#include "rlhf/text/jinja_text.h"

namespace rlhf {
namespace {

constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";

std::tm local_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm out{};
  localtime_r(&now, &out);
  return out;
}

/// Older names of a message's reasoning stand in for newer ones and the other way round, as in
/// transformers.
void alias_reasoning(Json& message) {
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const auto found = message.find(name);
    if (found == message.end() || found->is_null()) continue;
    const Json reasoning = *found;
    if (!message.contains("thinking")) {  // before the other keys: their order shows in tojson
      Json first{{"thinking", reasoning}};
      first.update(message);
      message = std::move(first);
    }
    message["reasoning_content"] = reasoning;
    return;
  }
}

}  // namespace

struct ChatTemplate::Impl {
  std::string name;
  std::shared_ptr<const jinja::Program> program;
  jinja::Variables special_tokens;
  std::function<std::tm()> clock = local_now;

  [[noreturn]] void fail(const jinja::Fault& fault) const {
    throw UserError(fmt::format("chat_template {}:{}", name, std::max(1, fault.line)), fault.what,
                    fault.hint);
  }
  [[noreturn]] void fail_input(std::string what, std::string hint = "") const {
    throw UserError(fmt::format("chat_template {}", name), std::move(what), std::move(hint));
  }

  /// The messages as transformers hands them to the template.
  Json prepare(const ChatInput& input) const;
  void tag_final_message(Json& messages) const;
  jinja::Conversation converse(const ChatInput& input) const;
  /// Cuts the text of a tagged conversation at the tag.
  void cut_at_tag(std::string& text, const Json& messages) const;
};

Json ChatTemplate::Impl::prepare(const ChatInput& input) const {
  if (!input.messages.is_array()) fail_input("messages must be an array.");
  if (!input.tools.is_null() && !input.tools.is_array())
    fail_input("tools must be an array of JSON schemas.");
  if (!input.documents.is_null() && !input.documents.is_array())
    fail_input("documents must be an array of objects.");
  if (!input.variables.is_object() && !input.variables.is_null())
    fail_input("variables must be an object.");
  if (input.add_generation_prompt && input.continue_final_message) {
    fail_input("add_generation_prompt and continue_final_message exclude each other.",
               "set one of them.");
  }
  Json messages = input.messages;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) fail_input(fmt::format("message {} must be an object.", i));
    alias_reasoning(messages[i]);
  }
  if (input.continue_final_message) tag_final_message(messages);
  return messages;
}

void ChatTemplate::Impl::tag_final_message(Json& messages) const {
  const auto content = messages.empty() ? Json::iterator() : messages.back().find("content");
  if (messages.empty() || content == messages.back().end() || content->is_null()) {
    fail_input("continue_final_message needs a final message with content.");
  }
  if (content->is_string()) {
    *content = content->get<std::string>() + std::string(kContinueTag);
    return;
  }
  for (auto part = content->rbegin(); content->is_array() && part != content->rend(); ++part) {
    if (!part->is_object() || !part->contains("text") || !(*part)["text"].is_string()) continue;
    (*part)["text"] = (*part)["text"].get<std::string>() + std::string(kContinueTag);
    return;
  }
  fail_input("continue_final_message found no text to continue in the final message.");
}

void ChatTemplate::Impl::cut_at_tag(std::string& text, const Json& messages) const {
  const std::string_view bare = kContinueTag.substr(0, kContinueTag.size() - 1);
  const size_t at = text.rfind(bare);
  if (at == std::string::npos) {
    fail_input(
        fmt::format(
            "continue_final_message is set, but the content of message {} is not in the text.",
            messages.size() - 1),
        "the template drops the final message: end with the message to continue, or unset the "
        "option.");
  }
  const bool keeps_spacing = std::string_view(text).substr(at).starts_with(kContinueTag);
  text.resize(at);
  if (!keeps_spacing) text.resize(jinja::strip(text, jinja::kRight).size());
}

jinja::Conversation ChatTemplate::Impl::converse(const ChatInput& input) const {
  jinja::Conversation out;
  try {
    const jinja::Value messages = jinja::from_json(prepare(input));
    out.messages = messages.as_list().items;
    out.variables.emplace_back("tools", jinja::from_json(input.tools));
    out.variables.emplace_back("documents", jinja::from_json(input.documents));
    if (!input.variables.is_null()) {
      for (const auto& [key, value] : input.variables.items())
        out.variables.emplace_back(key, jinja::from_json(value));
    }
  } catch (const jinja::Fault& fault) {
    fail_input(fault.what, fault.hint);
  }
  for (const auto& token : special_tokens) out.variables.push_back(token);
  out.program = program.get();
  out.clock = [now = clock()] { return now; };
  return out;
}

ChatTemplate ChatTemplate::parse(const std::string& source, std::string name,
                                 const Json& special_tokens) {
  auto impl = std::make_shared<Impl>();
  impl->name = std::move(name);
  try {
    impl->program = jinja::parse_program(source);
    for (const auto& [key, value] : special_tokens.items()) {
      impl->special_tokens.emplace_back(key, jinja::from_json(value));
    }
  } catch (const jinja::Fault& fault) {
    impl->fail(fault);
  }
  return ChatTemplate(std::move(impl));
}

ChatTemplate ChatTemplate::with_clock(std::function<std::tm()> clock) const {
  auto impl = std::make_shared<Impl>(*impl_);
  impl->clock = std::move(clock);
  return ChatTemplate(std::move(impl));
}

bool ChatTemplate::has_generation_marks() const { return impl_->program->has_generation; }

std::string ChatTemplate::render(const ChatInput& input) const {
  const jinja::Conversation chat = impl_->converse(input);
  try {
    std::string text = jinja::render(chat, chat.messages.size(), input.add_generation_prompt).text;
    if (input.continue_final_message) impl_->cut_at_tag(text, input.messages);
    return text;
  } catch (const jinja::Fault& fault) {
    impl_->fail(fault);
  }
}

RenderedChat ChatTemplate::render_with_spans(const ChatInput& input) const {
  const jinja::Conversation chat = impl_->converse(input);
  RenderedChat out;
  out.explicit_marks = has_generation_marks();
  try {
    jinja::Rendering full = jinja::render(chat, chat.messages.size(), input.add_generation_prompt);
    const auto spans = out.explicit_marks
                           ? jinja::marked_spans(full)
                           : jinja::assistant_spans(chat, full, input.add_generation_prompt);
    out.text = std::move(full.text);
    if (input.continue_final_message) impl_->cut_at_tag(out.text, input.messages);
    for (const auto& [begin, end] : spans) {
      const size_t stop = std::min(end, out.text.size());
      if (begin < stop) out.assistant.push_back(TextSpan{begin, stop});
    }
  } catch (const jinja::Fault& fault) {
    if (!fault.line) impl_->fail_input(fault.what, fault.hint);
    impl_->fail(fault);
  }
  return out;
}

}  // namespace rlhf
